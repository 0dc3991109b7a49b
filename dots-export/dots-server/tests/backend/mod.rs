//! Back ends as the server starts them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "each test uses a part of it")]

use std::time::{Duration, Instant};

use weir_dots_proto::body::Scope;
use weir_dots_server::{DotsServerConfig, Mitigator, MitigatorReport, start_mitigators};

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// The back ends of a configuration.
pub(crate) fn start(toml: &str) -> Box<dyn Mitigator> {
    let head = "ca = 'ca.pem'\ncertificate = 'server.pem'\nkey = 'server.key'\n";
    let config: DotsServerConfig = toml::from_str(&format!("{head}{toml}")).unwrap();
    start_mitigators(&config.check().unwrap().mitigators, None).unwrap()
}

pub(crate) fn scope(json: &serde_json::Value) -> Scope {
    serde_json::from_value(json.clone()).unwrap()
}

/// Waits until something holds.
pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a report that is as wanted.
pub(crate) fn report(
    mitigator: &mut dyn Mitigator,
    what: &str,
    is_wanted: impl Fn(&MitigatorReport) -> bool,
) -> MitigatorReport {
    until(what, || {
        std::iter::from_fn(|| mitigator.poll_report()).find(&is_wanted)
    })
}
