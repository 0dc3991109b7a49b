//! The pair that the daemon is one of.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use weir_standby::{Role, StandbyView};

use super::{counter, gauge};

/// Figures of the pair; nothing where there is none.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    pair: Option<&StandbyView>,
) -> fmt::Result {
    let Some(pair) = pair else { return Ok(()) };
    let gauges = [
        (
            "weir_standby_active",
            "Whether this daemon is the active one of its pair",
            u64::from(pair.role == Role::Active),
        ),
        (
            "weir_standby_epoch",
            "Epoch of the state, raised by each takeover",
            pair.epoch,
        ),
        (
            "weir_standby_peer_connected",
            "Whether the other one of the pair is connected",
            u64::from(pair.connected),
        ),
        (
            "weir_standby_cut_off",
            "Whether neither the peer nor the witness answered",
            u64::from(pair.cut_off),
        ),
        (
            "weir_standby_in_step",
            "Whether the standby gets each commit as it is made",
            u64::from(pair.in_step),
        ),
        (
            "weir_standby_unacknowledged_commits",
            "Commits that the connected standby has not confirmed",
            pair.unacknowledged,
        ),
        (
            "weir_standby_last_takeover_timestamp_seconds",
            "When this daemon last became the active one, since 1970; 0 = never",
            pair.last_takeover.unwrap_or(0),
        ),
    ];
    for (name, help, value) in gauges {
        gauge(encoder, name, help, value)?;
    }
    let counters = [
        (
            "weir_standby_takeovers",
            "Times that this daemon became the active one",
            pair.takeovers,
        ),
        (
            "weir_standby_alone_commits",
            "Commits that were acted on though no standby had them",
            pair.alone_commits,
        ),
        (
            "weir_standby_late_acknowledgements",
            "Commits that the standby did not confirm in time",
            pair.late_acknowledgements,
        ),
        (
            "weir_standby_refused_writes",
            "Writes refused since this daemon is not, or may not be, the active one",
            pair.refused_writes,
        ),
        (
            "weir_standby_refused_connections",
            "Calls that were not the peer's",
            pair.refused_connections,
        ),
        (
            "weir_standby_applied_commits",
            "Commits of the peer that were kept here",
            pair.applied_commits,
        ),
        (
            "weir_standby_snapshots",
            "Snapshots of the peer that replaced the state here",
            pair.snapshots,
        ),
    ];
    for (name, help, value) in counters {
        counter(encoder, name, help, value)?;
    }
    Ok(())
}
