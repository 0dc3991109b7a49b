//! Redirected signalling (RFC 9132 §4.6): which server to talk to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_dots_proto::body::{Body, Redirect};
use weir_dots_proto::coap::Code;

use super::Client;
use super::answers::{AFTER_REDIRECT, Answer};
use super::mitigation::Phase;
use crate::command::ClientNotice;

/// A redirection to a server that was used within this time is ignored.
const LOOP: Duration = Duration::from_secs(300);
/// Servers used within that time that are remembered; a redirection beyond them is ignored too.
const MAX_USED: usize = 16;
/// Addresses of another server that are taken.
const MAX_ADDRESSES: usize = 8;
/// A Max-Age without end.
const FOR_GOOD: u32 = u32::MAX;
/// Where 5.03 states no Max-Age, its default counts (RFC 7252 §5.10.5).
const DEFAULT_MAX_AGE: u32 = 60;
/// The longest name (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// The server to use instead of the configured one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alternate {
    /// Its name, in lower case, which its certificate has to carry.
    pub server: String,
    /// Its addresses; empty: those that the name has.
    pub addresses: Vec<IpAddr>,
}

impl Alternate {
    /// What the body of a 5.03 says; `None` where it names no server.
    fn read(body: &Value) -> Option<Self> {
        let redirect = Redirect::from_json(body).ok()?;
        let server = redirect.alt_server?.to_ascii_lowercase();
        let server = server.strip_suffix('.').unwrap_or(&server);
        let is_usable =
            |address: &IpAddr| !address.is_unspecified() && !address.to_canonical().is_multicast();
        let addresses = redirect.alt_server_record.into_iter().filter(is_usable);
        is_name(server).then(|| Self {
            server: server.to_owned(),
            addresses: addresses.take(MAX_ADDRESSES).collect(),
        })
    }
}

/// An FQDN of host names' letters, and no address.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inside = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inside)
    };
    text.len() <= MAX_NAME && text.split('.').all(is_label) && text.parse::<IpAddr>().is_err()
}

impl Answer {
    /// The other server that a 5.03 names.
    pub(super) fn alternate(&self) -> Option<Alternate> {
        let body = self.body.as_ref()?;
        (self.code == Code::SERVICE_UNAVAILABLE)
            .then(|| Alternate::read(body))
            .flatten()
    }
}

/// Servers that were used, and the one to use.
#[derive(Debug, Default)]
pub(super) struct Redirects {
    /// The one that the session is with.
    present: Option<String>,
    used: BTreeMap<String, Instant>,
    /// The one to use instead of the configured one, and until when; `None`: for good.
    alternate: Option<(Alternate, Option<Instant>)>,
}

impl Redirects {
    fn handle_connected(&mut self, server: &str) {
        self.present = Some(server.to_ascii_lowercase());
    }

    /// The session is gone: its server counts as used from then on.
    pub(super) fn handle_disconnected(&mut self, now: Instant) {
        if let Some(server) = self.present.take() {
            self.used.insert(server, now);
        }
    }

    /// False: the redirection is to be ignored.
    fn handle_redirect(&mut self, now: Instant, alternate: &Alternate, max_age: u32) -> bool {
        let until = (max_age != FOR_GOOD).then(|| now + Duration::from_secs(max_age.into()));
        let present = self.present.as_ref() == Some(&alternate.server);
        if let Some((known, end)) = &mut self.alternate
            && known.server == alternate.server
            && !present
        {
            // Another request's answer, before the other server is reached.
            *end = until;
            return true;
        }
        self.used.retain(|_, at| now.duration_since(*at) < LOOP);
        if present || self.used.contains_key(&alternate.server) || self.used.len() >= MAX_USED {
            return false;
        }
        self.alternate = Some((alternate.clone(), until));
        true
    }

    /// The other server's time is over, if it is.
    fn end(&mut self, now: Instant) {
        let is_over = |(_, until): &mut (_, Option<Instant>)| until.is_some_and(|at| at <= now);
        self.alternate.take_if(is_over);
    }

    /// When [`end`](Self::end) is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.alternate.as_ref().and_then(|(_, until)| *until)
    }
}

impl Client {
    /// The session that is about to stand is with this server: call before [`handle_connected`](Self::handle_connected).
    /// What another server has refused for a while is asked at once.
    pub fn handle_server(&mut self, server: &str) {
        if self.redirects.alternate.is_some() {
            for held in self.mitigations.values_mut() {
                held.retry_at = None;
            }
            for told in self.telemetry.values_mut() {
                told.retry_at = None;
            }
        }
        self.redirects.handle_connected(server);
    }

    /// The server to connect to instead of the configured one, and to stay with while it is the same.
    #[must_use]
    pub fn alternate(&self) -> Option<&Alternate> {
        self.redirects.alternate.as_ref().map(|(server, _)| server)
    }

    /// The other server cannot be reached: the configured one is used again.
    pub fn handle_alternate_failed(&mut self, now: Instant) {
        if let Some((alternate, _)) = self.redirects.alternate.take() {
            self.redirects.used.insert(alternate.server, now);
        }
    }

    /// Whether the server says to go to another one, and that is done: the request is to be made there.
    pub(super) fn take_redirect(&mut self, now: Instant, answer: &Answer) -> bool {
        let Some(alternate) = answer.alternate() else {
            return false;
        };
        let max_age = answer.max_age.unwrap_or(DEFAULT_MAX_AGE);
        if max_age == 0 && !self.is_busy() {
            // It would be for a request for mitigation, and there is none.
            return false;
        }
        let known = self.alternate() == Some(&alternate);
        let followed = self.redirects.handle_redirect(now, &alternate, max_age);
        self.counters.redirect_loops += u64::from(!followed);
        if !followed || !known {
            self.notify(ClientNotice::Redirected {
                upstream: self.upstream.clone(),
                server: alternate.server,
                max_age,
                followed,
            });
        }
        followed
    }

    /// A new state of a resource, or a redirection in place of one.
    pub(super) fn handle_notification(&mut self, now: Instant, body: Value, max_age: Option<u32>) {
        if Alternate::read(&body).is_none() {
            return self.handle_reports(now, &body);
        }
        let answer = Answer {
            code: Code::SERVICE_UNAVAILABLE,
            body: Some(body),
            diagnostic: None,
            max_age,
        };
        self.take_redirect(now, &answer);
    }

    /// The server refuses to list what it knows, and leads nowhere: what waits for the list is refused with it, so that policy
    /// may ask another upstream.
    pub(super) fn refuse_waiting(&mut self, answer: &Answer) {
        let mut refused = Vec::new();
        for (mid, held) in &mut self.mitigations {
            if held.phase == Phase::Asking && held.silent_at.take().is_some() {
                refused.push((*mid, held.attack.clone()));
            }
        }
        for (mid, attack) in refused {
            self.notify(ClientNotice::Refused {
                attack,
                upstream: self.upstream.clone(),
                mid: mid.0,
                code: answer.code.to_string(),
                diagnostic: "redirected in a circle".to_owned(),
                retry_in: Some(AFTER_REDIRECT),
            });
        }
    }

    /// Back to the configured server where the other one's time is over; but not while there is an attack, or what was asked
    /// for there still stands. So a Max-Age of 0, which is for the request in progress, lasts as long as its mitigation.
    pub(super) fn end_redirect(&mut self, now: Instant) {
        if !self.is_busy() {
            self.redirects.end(now);
        }
    }

    fn is_busy(&self) -> bool {
        self.is_under_attack() || !self.mitigations.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alternate(server: &str) -> Alternate {
        Alternate {
            server: server.to_owned(),
            addresses: Vec::new(),
        }
    }

    fn read(server: &str, records: &[&str]) -> Option<Alternate> {
        Alternate::read(&json!({"ietf-dots-signal-channel:redirected-signal": {
            "alt-server": server,
            "alt-server-record": records,
        }}))
    }

    #[test]
    fn other_servers_are_names_with_addresses() {
        let found = read(
            "Alt-Server.Example.",
            &["2001:db8:6401::1", "::", "224.0.0.1"],
        )
        .unwrap();
        assert_eq!(found.server, "alt-server.example");
        let expected: IpAddr = "2001:db8:6401::1".parse().unwrap();
        assert_eq!(found.addresses, [expected]);
        let many = vec!["192.0.2.1"; 1000];
        assert_eq!(read("a.example", &many).unwrap().addresses.len(), 8);
        let long = "a.".repeat(200);
        for server in [
            "",
            ".",
            "192.0.2.1",
            "a b",
            "a/b",
            "a..b",
            "a\u{0}b",
            long.as_str(),
        ] {
            assert_eq!(read(server, &[]), None, "{server:?}");
        }
    }

    #[test]
    fn a_server_used_within_five_minutes_is_a_loop() {
        let now = Instant::now();
        let mut redirects = Redirects::default();
        redirects.handle_connected("a.example");
        assert!(!redirects.handle_redirect(now, &alternate("a.example"), 60));
        assert!(redirects.handle_redirect(now, &alternate("b.example"), 60));
        // Answers to other requests say the same.
        assert!(redirects.handle_redirect(now, &alternate("b.example"), 90));
        assert_eq!(redirects.due(), Some(now + Duration::from_secs(90)));
        redirects.handle_disconnected(now);
        redirects.handle_connected("b.example");
        let soon = now + Duration::from_secs(299);
        assert!(!redirects.handle_redirect(soon, &alternate("a.example"), 60));
        assert!(!redirects.handle_redirect(soon, &alternate("b.example"), 60));
        let later = now + Duration::from_secs(300);
        assert!(redirects.handle_redirect(later, &alternate("a.example"), 60));
    }

    #[test]
    fn a_max_age_ends_or_does_not() {
        let now = Instant::now();
        let mut redirects = Redirects::default();
        assert!(redirects.handle_redirect(now, &alternate("b.example"), FOR_GOOD));
        redirects.end(now + Duration::from_secs(1 << 33));
        assert!(redirects.alternate.is_some());
        assert!(redirects.handle_redirect(now, &alternate("c.example"), 60));
        redirects.end(now + Duration::from_secs(59));
        assert!(redirects.alternate.is_some());
        redirects.end(now + Duration::from_secs(60));
        assert_eq!(redirects.alternate, None);
    }

    #[test]
    fn servers_that_send_clients_round_are_bounded() {
        let now = Instant::now();
        let mut redirects = Redirects::default();
        let mut followed = 0;
        for number in 0..1000 {
            let server = format!("s{number}.example");
            if redirects.handle_redirect(now, &alternate(&server), 60) {
                followed += 1;
                redirects.handle_disconnected(now);
                redirects.handle_connected(&server);
            }
        }
        assert_eq!(followed, MAX_USED + 1);
        assert_eq!(redirects.used.len(), MAX_USED);
    }
}
