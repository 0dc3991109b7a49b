use std::io;

use crate::Method;

/// Why a method did not work.
#[derive(Debug)]
pub struct Declined {
    /// Which.
    pub method: Method,
    /// In a few words.
    pub why: String,
}

/// Why no packets can be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such interface.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// It carries no Ethernet frames.
    #[error("{0} is not an Ethernet interface")]
    NotEthernet(String),
    /// The one place for an XDP program is taken.
    #[error(
        "{0} has an XDP program already, and there is room for one: detach it (`ip link show dev {0}` names it), or choose the mode tpacket"
    )]
    Busy(String),
    /// The process may not do it.
    #[error(
        "sampling {0} needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON for XDP, or CAP_NET_RAW for the slower packet ring"
    )]
    NotPermitted(String),
    /// Nothing worked.
    #[error("{interface} cannot be sampled: {why}")]
    Nothing {
        /// The interface.
        interface: String,
        /// Each method with its reason.
        why: String,
    },
    /// A figure is out of bounds.
    #[error("{0}")]
    Settings(&'static str),
}

/// Why one method failed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// For want of privileges.
    NotPermitted,
    /// Another XDP program is attached.
    Busy,
    /// Anything else.
    Other(String),
}

impl Refusal {
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::NotPermitted => "not permitted",
            Self::Busy => "another XDP program is attached",
            Self::Other(why) => why,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM) => Self::NotPermitted,
            Some(libc::EBUSY | libc::EEXIST) => Self::Busy,
            Some(libc::EOPNOTSUPP) => Self::Other("the driver does not support it".to_owned()),
            Some(libc::ENOSYS) => Self::Other("the kernel does not support it".to_owned()),
            _ => Self::Other(error.to_string()),
        }
    }
}
