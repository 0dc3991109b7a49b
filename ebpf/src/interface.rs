use std::fs;

use nix::net::if_::if_nametoindex;

use crate::OpenError;

/// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK`: the latter has an Ethernet header too.
const ETHERNET: [&str; 2] = ["1", "772"];

/// The index of an interface that carries Ethernet frames.
pub(crate) fn index(name: &str) -> Result<u32, OpenError> {
    let index = if_nametoindex(name).map_err(|_| OpenError::NoInterface(name.to_owned()))?;
    // A network namespace that was entered by a thread may not show in /sys: then nothing is known, and nothing refused.
    match fs::read_to_string(format!("/sys/class/net/{name}/type")) {
        Ok(kind) if !ETHERNET.contains(&kind.trim()) => {
            Err(OpenError::NotEthernet(name.to_owned()))
        }
        _ => Ok(index),
    }
}
