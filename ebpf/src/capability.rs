//! Privileges: only the capabilities that a sampler needs, and only while it is opened.

use caps::{CapSet, Capability};

/// What opening a sampler may need: the first three for XDP, the last for packet sockets and promiscuous mode.
const NEEDED: [Capability; 4] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_RAW,
];

/// Privileges could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot change capabilities: {0}")]
pub struct CapabilityError(String);

/// Lays the sampler's capabilities down in this thread and those that it will start; [`raise`] takes them up again.
pub fn lower() -> Result<(), CapabilityError> {
    for capability in NEEDED {
        caps::drop(None, CapSet::Effective, capability).map_err(told)?;
    }
    Ok(())
}

/// Takes up what the process has of the sampler's capabilities, in this thread.
pub fn raise() -> Result<(), CapabilityError> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(told)?;
    for capability in NEEDED {
        if permitted.contains(&capability) {
            caps::raise(None, CapSet::Effective, capability).map_err(told)?;
        }
    }
    Ok(())
}

/// Gives up all capabilities for good, in this thread and those that it will start; a new program does not get them back, even
/// for root.
pub fn drop_all() -> Result<(), CapabilityError> {
    for capability in caps::all() {
        // Only with CAP_SETPCAP; without it there is less to lose.
        let _ = caps::drop(None, CapSet::Bounding, capability);
    }
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set).map_err(told)?;
    }
    Ok(())
}

fn told(error: impl std::fmt::Display) -> CapabilityError {
    CapabilityError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own: capabilities belong to threads.
    fn apart(work: impl FnOnce() + Send) {
        std::thread::scope(|scope| scope.spawn(work).join()).unwrap();
    }

    #[test]
    fn what_is_laid_down_can_be_taken_up() {
        apart(|| {
            let before = caps::read(None, CapSet::Effective).unwrap();
            lower().unwrap();
            let low = caps::read(None, CapSet::Effective).unwrap();
            assert!(NEEDED.iter().all(|capability| !low.contains(capability)));
            raise().unwrap();
            assert_eq!(caps::read(None, CapSet::Effective).unwrap(), before);
        });
    }

    #[test]
    fn what_is_dropped_is_gone() {
        apart(|| {
            drop_all().unwrap();
            assert!(caps::read(None, CapSet::Permitted).unwrap().is_empty());
            raise().unwrap();
            assert!(caps::read(None, CapSet::Effective).unwrap().is_empty());
        });
    }
}
