//! Keeps a server at what a client wants to have there, for as long as the client runs.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{ClientError, DataClient, Desired, Synchronised};
use crate::model::VendorMapping;

/// How things stand with a server.
#[derive(Clone, Debug, Default)]
pub struct UpkeepState {
    /// What the last successful synchronisation had to do; none before the first.
    pub done: Option<Synchronised>,
    /// Why the last attempt failed, if it did.
    pub failed: Option<String>,
    /// Attempts that failed, one after the other.
    pub failures: u32,
    /// The server's vendor mapping, by which its attack details are read.
    pub peer_mapping: VendorMapping,
}

/// How often an upkeep looks after a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Intervals {
    /// Between two synchronisations where nothing has changed: well below the week for which entries are kept.
    pub refresh: Duration,
    /// After the first failure; doubled after each further one.
    pub least_wait: Duration,
    /// Longest wait after failures.
    pub most_wait: Duration,
    /// Between two looks at the server's vendor mapping (RFC 9244 §8.1.6: about once a week).
    pub mapping: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3_600);
        Self {
            refresh: 24 * HOUR,
            least_wait: Duration::from_secs(30),
            most_wait: HOUR,
            mapping: 7 * 24 * HOUR,
        }
    }
}

impl Intervals {
    /// The wait after so many failures, one after the other.
    fn wait(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(31));
        self.least_wait.saturating_mul(doubled).min(self.most_wait)
    }
}

/// Synchronises at once, whenever what is wanted changes, and in between by the intervals; tells how things stand. Ends when
/// nobody wants anything any more: when the sender of `desired` is gone.
pub async fn keep_up(
    mut client: DataClient,
    mut desired: watch::Receiver<Desired>,
    state: watch::Sender<UpkeepState>,
    intervals: Intervals,
) {
    let mut mapping_due = Instant::now();
    loop {
        let wanted = desired.borrow_and_update().clone();
        let done = client.synchronise(&wanted).await;
        if done.is_ok() && mapping_due <= Instant::now() {
            match client.peer_mapping(false).await {
                Ok(mapping) => {
                    mapping_due = Instant::now() + intervals.mapping;
                    let mapping = mapping.unwrap_or_default();
                    state.send_modify(|state| state.peer_mapping = mapping);
                }
                Err(error) => tracing::warn!(%error, "data channel: no vendor mapping"),
            }
        }
        let failures = tell(&state, done);
        let wait = match failures {
            0 => intervals.refresh,
            failures => intervals.wait(failures),
        };
        let again = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(again) => break,
                changed = desired.changed() => if changed.is_err() {
                    return;
                },
            }
            if !is_attack_alone(&wanted, &desired.borrow_and_update()) {
                break;
            }
        }
    }
}

/// Whether nothing has changed but that an attack is on, which is no time for the data channel (RFC 8783 §3.1).
fn is_attack_alone(was: &Desired, is: &Desired) -> bool {
    let same = was.aliases == is.aliases && was.acls == is.acls && was.mapping == is.mapping;
    is.under_attack && same && was.prefix == is.prefix
}

/// Tells the outcome; how many attempts have failed, one after the other.
fn tell(state: &watch::Sender<UpkeepState>, done: Result<Synchronised, ClientError>) -> u32 {
    let mut failures = 0;
    state.send_modify(|state| match done {
        Ok(done) => {
            tracing::info!(
                put = done.put,
                removed = done.removed,
                "data channel: synchronised"
            );
            state.done = Some(done);
            state.failed = None;
            state.failures = 0;
        }
        Err(error) => {
            tracing::warn!(%error, "data channel: not synchronised");
            state.failed = Some(error.to_string());
            state.failures = state.failures.saturating_add(1);
            failures = state.failures;
        }
    });
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_attack_is_no_reason_to_synchronise() {
        let peace = Desired::default();
        let attack = Desired {
            under_attack: true,
            ..Desired::default()
        };
        assert!(is_attack_alone(&peace, &attack));
        assert!(!is_attack_alone(&attack, &peace), "activations go back");
        let other = Desired {
            prefix: "weir-".to_owned(),
            ..attack
        };
        assert!(!is_attack_alone(&peace, &other));
    }

    #[test]
    fn waits_grow_to_the_longest() {
        let intervals = Intervals::default();
        let waits: Vec<u64> = [1, 2, 3, 8, 40, u32::MAX]
            .map(|n| intervals.wait(n).as_secs())
            .into();
        assert_eq!(waits, [30, 60, 120, 3_600, 3_600, 3_600]);
    }
}
