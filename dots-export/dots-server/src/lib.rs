//! The DOTS server (RFC 9132, RFC 9244): authorises requests by the client's certificate, hands their scopes to a
//! [`Mitigator`], and reports what that measured.
//!
//! [`Server`] is the machine: data of sessions in, datagrams out, `now` as an argument. [`BoundServer`] is the shell around
//! it: sockets, DTLS and TLS, a clock, and the state file through which mitigations outlive a restart. Aliases and filters are those of
//! a [`DataChannel`]. Names and URIs are resolved when a mitigation is asked for.
//!
//! # What filters
//!
//! Each `[[dots_server.mitigator]]` is a back end ([`MitigatorConfig`] has all options); several at once each get every
//! mitigation, and what they drop is added up. None of them can hold up the server: each has a thread of its own.
//!
//! ```
//! # let text = r#"
//! [[dots_server.mitigator]]
//! kind = "nftables"                   # drops in the kernel, and reads back what it dropped
//! namespace = "scrubber"              # of `ip netns`; left out: the server's own
//! pass_packets_per_second = 1000      # of each mitigation's traffic; left out: none
//! spare = ["198.51.100.0/24"]         # sources that are never dropped
//!
//! [[dots_server.mitigator]]
//! kind = "command"                    # a program of yours, run for each message
//! command = ["hooks/flowspec", "--peer", "192.0.2.1"]
//! time_limit = "5s"
//! report_interval = "10s"             # how often it is asked for counters; 0s: never
//!
//! [[dots_server.mitigator]]
//! kind = "webhook"                    # the same messages, posted
//! url = "https://scrubber.example.net/dots"
//! token_file = "scrubber.token"
//! # "#;
//! # let config: toml::Table = toml::from_str(text)?;
//! # let mut server: weir_dots_server::DotsServerConfig = config["dots_server"].clone().try_into()?;
//! # (server.ca, server.certificate, server.key) = ("a".into(), "b".into(), "c".into());
//! # assert_eq!(server.check().map_err(|faults| format!("{faults:?}"))?.mitigators.len(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **nftables** needs `CAP_NET_ADMIN`, the program `nft` (and `ip` for a namespace). The table `inet weir_dots` is Weir's
//! alone: each change is one transaction, and a table that somebody else has removed (`nft flush ruleset`) is built anew. It
//! filters in `prerouting` before connection tracking. Fragments without ports match no ports unless the host reassembles, as
//! it does where connection tracking is on. Where the answers of a DOTS server to its clients pass this host, `spare` has to
//! name that server, or a mitigation of all traffic cuts the signal. The table goes when the server ends in order; with
//! `keep_on_exit` it stays, so that a restart or a reload leaves no gap, but nothing ends it if the server does not come back.
//! After a crash it filters on in any case. The next run replaces it, counting anew.
//!
//! **Commands and webhooks** get JSON with the names of RFC 9132: a command on its standard input, a webhook as a POST.
//!
//! ```json
//! {"action": "start", "run": 1800000000000, "sequence": 7, "mitigations": [
//!     {"id": 3, "scope": {"target-prefix": ["203.0.113.7/32"], "target-protocol": [17],
//!                         "target-port-range": [{"lower-port": 53}]}}]}
//! ```
//!
//! | `action` | `mitigations` | what to do |
//! |---|---|---|
//! | `reset` | none | nothing of this server stands: end all. First in a run; last too, where something stands that `keep_on_exit` does not keep |
//! | `start`, `change` | one | filter by this scope from now on, whether or not the id is known |
//! | `stop` | one | filter no more; nothing to do where the id is not known |
//! | `report` | up to 256, without scopes | answer what was dropped |
//!
//! Ids are unique within a `run`, which is when it began in milliseconds since 1970. A repetition, after an answer was lost,
//! has the `sequence` of the first. An answer, to any message, may be empty or have reports; rates and status follow from the
//! counters where they are left out:
//!
//! ```json
//! {"reports": [{"id": 3, "bytes-dropped": 128000, "pkts-dropped": 1000,
//!               "bps-dropped": 64000, "pps-dropped": 500, "status": 2}]}
//! ```
//!
//! Status is 1 to 4 of RFC 9132 Table 3; `bps-dropped` is in octets per second. A program that ends with 0, and a web server
//! that answers 2xx, has done it. 75 (`EX_TEMPFAIL`), 408, 425, 429 and 5xx, no answer within the time limit: not now; all is
//! tried again, 1 s to 60 s later. Anything else refuses this one message, which is tried again too. What is not done is
//! reported with status 4, so that the client can turn to somebody else: at once where it is refused, after three tries
//! where the back end is not there.

mod accepting;
mod average;
mod config;
mod data;
pub mod fuzzing;
mod held;
mod mitigator;
mod names;
mod query;
mod registry;
mod reported;
mod reports;
mod saved;
mod server;
mod session_config;
mod setup;
mod shell;
mod sockets;
mod streams;
mod telemetry;
mod transport_figures;

pub use config::{ClientConfig, DotsServerConfig, DotsServerSettings, Fault, ServerPolicy};
pub use data::DataChannel;
pub use mitigator::{
    CommandSettings, ExternalSettings, MitigationId, Mitigator, MitigatorConfig, MitigatorError,
    MitigatorFigures, MitigatorReport, MitigatorSettings, NftablesSettings, NoMitigator, RateLimit,
    WebhookSettings, WebhookTls, probe_mitigators, start_mitigators,
};
pub use reported::ReportedBaselines;
pub use reports::{Report, ReportedAttack, kept_reports};
pub use saved::{RowKey, SavedRow, ServerChange};
pub use server::Server;
pub use shell::{BoundServer, Observation, StartError};
pub use transport_figures::{TransportFigures, TransportView};
