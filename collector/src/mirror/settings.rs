use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::allow::AllowList;
use crate::config::ConfigFault;

/// One `[[mirror]]` table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorConfig {
    /// Collectors that get every datagram.
    pub to: Vec<SocketAddr>,
    /// Prefixes of exporters whose datagrams are relayed; empty = all.
    pub from: Vec<IpNet>,
    /// Whether they leave with the exporter's address and port; needs CAP_NET_RAW.
    pub spoof_source: bool,
}

/// A checked `[[mirror]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorSettings {
    /// Collectors that get every datagram.
    pub to: Vec<SocketAddr>,
    /// Exporters whose datagrams are relayed.
    pub from: AllowList,
    /// Whether they leave with the exporter's address and port.
    pub spoof_source: bool,
}

impl MirrorConfig {
    /// Checks all tables, given where we listen ourselves; all mistakes at once.
    ///
    /// # Errors
    ///
    /// What is wrong and where.
    pub fn check(
        mirrors: &[Self],
        listen: &[SocketAddr],
    ) -> Result<Vec<MirrorSettings>, Vec<ConfigFault>> {
        let mut faults = Vec::new();
        let mut before: Vec<SocketAddr> = Vec::new();
        for (index, mirror) in mirrors.iter().enumerate() {
            if mirror.to.is_empty() {
                let message = "`to` is missing: there must be a collector to relay to";
                faults.push(ConfigFault::new(format!("mirror[{index}]"), message));
            }
            for (place, to) in mirror.to.iter().enumerate() {
                let fault = if to.port() == 0 || to.ip().is_unspecified() {
                    Some(format!("nobody can be reached at {to}"))
                } else if listen.iter().any(|ours| reaches(*to, *ours)) {
                    Some(format!(
                        "{to} is ourselves: datagrams would go round for ever"
                    ))
                } else if before.contains(to) {
                    Some(format!("{to} is there twice"))
                } else {
                    None
                };
                before.push(*to);
                let path = format!("mirror[{index}].to[{place}]");
                faults.extend(fault.map(|message| ConfigFault::new(path, message)));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let settings = mirrors.iter().map(|mirror| MirrorSettings {
            to: mirror.to.clone(),
            from: AllowList::new(&mirror.from),
            spoof_source: mirror.spoof_source,
        });
        Ok(settings.collect())
    }
}

/// Whether what is sent to `to` surely arrives at a socket bound to `ours`.
fn reaches(to: SocketAddr, ours: SocketAddr) -> bool {
    to.port() == ours.port()
        && (to.ip().to_canonical() == ours.ip().to_canonical()
            || (ours.ip().is_unspecified() && to.ip().to_canonical().is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(to: &[&str]) -> MirrorConfig {
        MirrorConfig {
            to: to.iter().map(|to| to.parse().unwrap()).collect(),
            ..MirrorConfig::default()
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let mirrors = [
            mirror(&["192.0.2.9:2055", "192.0.2.9:0"]),
            mirror(&[]),
            mirror(&["127.0.0.1:2055", "192.0.2.9:2055", "[::]:9995"]),
        ];
        let listen = ["[::]:2055".parse().unwrap()];
        let faults = MirrorConfig::check(&mirrors, &listen).unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "mirror[0].to[1]",
                "mirror[1]",
                "mirror[2].to[0]",
                "mirror[2].to[1]",
                "mirror[2].to[2]"
            ]
        );
    }

    #[test]
    fn the_documented_table_is_read() {
        let text = "to = [\"192.0.2.9:2055\"]\nfrom = [\"10.0.0.0/8\"]\nspoof_source = true\n";
        let config: MirrorConfig = toml::from_str(text).unwrap();
        let settings = MirrorConfig::check(&[config], &[]).unwrap();
        assert!(settings[0].spoof_source);
        assert!(
            settings[0]
                .from
                .allows(weir_flow_record::Address::from_v4([10, 1, 2, 3]))
        );
    }
}
