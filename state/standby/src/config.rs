use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_flow_record::Period;

use crate::TlsError;
use crate::tls::Tls;

/// The table `[standby]`: this daemon is one of a pair.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StandbyConfig {
    /// This daemon's name.
    pub name: String,
    /// The other's name; its certificate must have it.
    pub peer_name: String,
    /// Where the other listens: host and port.
    pub peer: String,
    /// Where this one listens for the other.
    pub listen: String,
    /// CA of both certificates.
    pub ca: PathBuf,
    /// This daemon's certificate, with its name.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who works where nothing else decides: the higher.
    pub priority: u8,
    /// After so long a silence of the active, the standby takes over.
    pub lease: Period,
    /// How long a commit waits for the standby, at most.
    pub acknowledge: Period,
    /// Host and TCP port that must answer, if only by a refusal, before this one takes over from a silent peer: one that is
    /// cut off itself then does not. Empty = not asked.
    pub witness: String,
}

impl Default for StandbyConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            peer_name: String::new(),
            peer: String::new(),
            listen: String::new(),
            ca: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            priority: 100,
            lease: Period(Duration::from_secs(3)),
            acknowledge: Period(Duration::from_millis(500)),
            witness: String::new(),
        }
    }
}

/// A checked `[standby]`; its files are not read yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandbySettings {
    /// This daemon's name.
    pub name: String,
    /// The other's name.
    pub peer_name: String,
    /// Host and port.
    pub peer: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// CA of both certificates.
    pub ca: PathBuf,
    /// This daemon's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The higher works where nothing else decides.
    pub priority: u8,
    /// 500 ms to 60 s.
    pub lease: Duration,
    /// Up to the lease.
    pub acknowledge: Duration,
    /// Host and port that must answer before a takeover.
    pub witness: Option<String>,
}

/// A mistake: where, as a path, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The key, such as `standby.lease`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl StandbyConfig {
    /// Paths are relative to `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.ca, &mut self.certificate, &mut self.key] {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&path);
            }
        }
    }

    /// Checks the values; all mistakes at once.
    pub fn check(&self) -> Result<StandbySettings, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, message: &str| {
            faults.push(Fault {
                path: format!("standby.{key}"),
                message: message.to_owned(),
            });
        };
        for (key, value) in [("name", &self.name), ("peer_name", &self.peer_name)] {
            if value.is_empty() || value.len() > 253 {
                fault(key, "must be the name in a certificate");
            }
        }
        if self.name == self.peer_name && !self.name.is_empty() {
            fault("peer_name", "the pair's daemons have different names");
        }
        for (key, value) in [("peer", &self.peer), ("witness", &self.witness)] {
            let is_left_out = key == "witness" && value.is_empty();
            if !is_left_out && !has_port(value) {
                fault(key, "must be an address or a name, and a port");
            }
        }
        let listen = self.listen.parse::<SocketAddr>();
        if listen.is_err() {
            fault("listen", "must be an address and a port");
        }
        let files = [
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ];
        for (key, path) in files {
            if path.as_os_str().is_empty() {
                fault(key, "which file?");
            }
        }
        let lease = self.lease.0;
        if !(Duration::from_millis(500)..=Duration::from_secs(60)).contains(&lease) {
            fault("lease", "must be between 500ms and 60s");
        }
        if self.acknowledge.0 > lease {
            fault("acknowledge", "must not be longer than the lease");
        }
        match listen {
            Ok(listen) if faults.is_empty() => Ok(StandbySettings {
                name: self.name.clone(),
                peer_name: self.peer_name.clone(),
                peer: self.peer.clone(),
                listen,
                ca: self.ca.clone(),
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                priority: self.priority,
                lease,
                acknowledge: self.acknowledge.0,
                witness: (!self.witness.is_empty()).then(|| self.witness.clone()),
            }),
            _ => Err(faults),
        }
    }
}

fn has_port(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

impl StandbySettings {
    /// Reads the files, to say what is wrong with them.
    pub fn check_files(&self) -> Result<(), TlsError> {
        Tls::open(self).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_has_its_key() {
        let good = StandbyConfig {
            name: "a".into(),
            peer_name: "b".into(),
            peer: "[2001:db8::2]:4750".into(),
            listen: "[::]:4750".into(),
            ca: "ca.pem".into(),
            certificate: "a.pem".into(),
            key: "a.key".into(),
            ..StandbyConfig::default()
        };
        assert!(good.check().is_ok());
        let keys = |config: &StandbyConfig| -> Vec<String> {
            let faults = config.check().unwrap_err().into_iter();
            faults.map(|fault| fault.path).collect()
        };
        let bad = StandbyConfig {
            peer_name: "a".into(),
            peer: "host".into(),
            listen: "host:1".into(),
            key: PathBuf::new(),
            lease: Period(Duration::from_millis(10)),
            witness: "router".into(),
            ..good
        };
        let expected = [
            "peer_name",
            "peer",
            "witness",
            "listen",
            "key",
            "lease",
            "acknowledge",
        ];
        assert_eq!(keys(&bad), expected.map(|key| format!("standby.{key}")));
        assert_eq!(keys(&StandbyConfig::default()).len(), 7);
    }
}
