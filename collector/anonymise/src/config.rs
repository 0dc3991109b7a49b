use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The table `[anonymise]`: what becomes of addresses in stored and published flow records.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct AnonymiseConfig {
    /// `off`, `crypto-pan` or `truncate`.
    pub method: String,
    /// Key of `crypto-pan`: 32 octets, which nobody but the owner may read.
    pub key_file: PathBuf,
    /// Bits of IPv4 and IPv6 addresses that `truncate` keeps.
    pub truncate: [u8; 2],
    /// Prefixes whose addresses stay as they are, such as one's own.
    pub keep: Vec<IpNet>,
}

impl Default for AnonymiseConfig {
    fn default() -> Self {
        Self {
            method: "off".to_owned(),
            key_file: PathBuf::new(),
            truncate: [24, 48],
            keep: Vec::new(),
        }
    }
}

/// Which addresses become what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnonymiseSettings {
    /// How.
    pub method: Method,
    /// Addresses in these stay as they are.
    pub keep: Vec<IpNet>,
}

/// How addresses are made anonymous.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Method {
    /// Prefix-preserving, with the key in a file.
    CryptoPan {
        /// 32 octets.
        key_file: PathBuf,
    },
    /// All but the first bits become zero.
    Truncate {
        /// Bits of an IPv4 address that stay, up to 32.
        v4: u8,
        /// Bits of an IPv6 address that stay, up to 128.
        v6: u8,
    },
}

/// A mistake: where, as a path, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The key, such as `anonymise.method`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// A key of Crypto-PAn; its octets are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Who has the key can undo what it does.
    #[error("{} is readable by others: chmod 600", path.display())]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// The file is no key.
    #[error("{} must have 32 octets: head -c 32 /dev/urandom", path.display())]
    Length {
        /// Which.
        path: PathBuf,
    },
    /// OpenSSL refuses the key.
    #[error("crypto-pan: {0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),
}

impl AnonymiseConfig {
    /// The key's path is relative to `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        if !self.key_file.as_os_str().is_empty() {
            self.key_file = folder.join(&self.key_file);
        }
    }

    /// Checks the values; `None` = addresses stay as they are.
    pub fn check(&self) -> Result<Option<AnonymiseSettings>, Vec<Fault>> {
        let fault = |key: &str, message: &str| {
            vec![Fault {
                path: format!("anonymise.{key}"),
                message: message.to_owned(),
            }]
        };
        let method = match self.method.as_str() {
            "off" => return Ok(None),
            "crypto-pan" if self.key_file.as_os_str().is_empty() => {
                return Err(fault("key_file", "crypto-pan needs a key"));
            }
            "crypto-pan" => Method::CryptoPan {
                key_file: self.key_file.clone(),
            },
            "truncate" => {
                let [v4, v6] = self.truncate;
                if v4 > 32 || v6 > 128 {
                    return Err(fault("truncate", "must be at most [32, 128]"));
                }
                Method::Truncate { v4, v6 }
            }
            _ => return Err(fault("method", "must be off, crypto-pan or truncate")),
        };
        Ok(Some(AnonymiseSettings {
            method,
            keep: self.keep.clone(),
        }))
    }
}

/// Reads a key, unless others than its owner could.
pub fn read_key(path: &Path) -> Result<Key, KeyError> {
    let io = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    let path_of = || path.to_owned();
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Open { path: path_of() });
    }
    let mut octets = Vec::new();
    file.take(33).read_to_end(&mut octets).map_err(io)?;
    let key = octets.try_into();
    key.map(Key)
        .map_err(|_| KeyError::Length { path: path_of() })
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::*;

    #[test]
    fn mistakes_are_told() {
        let config = AnonymiseConfig::default();
        assert_eq!(config.check(), Ok(None));
        let of = |method: &str| AnonymiseConfig {
            method: method.to_owned(),
            ..config.clone()
        };
        let path = |config: &AnonymiseConfig| config.check().unwrap_err()[0].path.clone();
        assert_eq!(path(&of("crypto-pan")), "anonymise.key_file");
        assert_eq!(path(&of("hash")), "anonymise.method");
        let wide = AnonymiseConfig {
            truncate: [33, 48],
            ..of("truncate")
        };
        assert_eq!(path(&wide), "anonymise.truncate");
        assert!(of("truncate").check().unwrap().is_some());
    }

    #[test]
    fn a_key_is_secret_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(read_key(&path), Err(KeyError::Io { .. })));
        write(&path, [7; 32]).unwrap();
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_key(&path), Err(KeyError::Open { .. })));
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_key(&path).unwrap(), Key([7; 32]));
        for length in [31, 33, 0] {
            write(&path, vec![7; length]).unwrap();
            assert!(matches!(read_key(&path), Err(KeyError::Length { .. })));
        }
    }
}
