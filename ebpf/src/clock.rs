//! The two clocks of a sampler: the kernel stamps packets with the monotonic one.

use nix::time::{ClockId, clock_gettime};

/// Wall clock: ns UTC.
pub fn wall() -> i64 {
    read(ClockId::CLOCK_REALTIME)
}

/// The monotonic clock in ns.
pub fn monotonic() -> i64 {
    read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> i64 {
    // Both exist on every Linux.
    clock_gettime(clock).map_or(0, |time| {
        time.tv_sec()
            .saturating_mul(1_000_000_000)
            .saturating_add(time.tv_nsec())
    })
}
