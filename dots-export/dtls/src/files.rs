//! Credentials in files, read again when the files change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Credentials, DtlsError, PresharedKey, PskClient};

/// The files that credentials are made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialFiles {
    /// What we prove ourselves with.
    pub own: OwnFiles,
    /// Lists of revoked certificates.
    pub revocations: Option<PathBuf>,
    /// Keys of clients.
    pub clients: Vec<ClientKeyFile>,
}

/// What a peer proves itself with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OwnFiles {
    /// A certificate, and the CA of the other side.
    Certificate {
        /// CA certificates.
        ca: PathBuf,
        /// Certificate and chain.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// A pre-shared key: clients alone.
    PresharedKey {
        /// What the key is called.
        identity: String,
        /// The key in hexadecimal.
        file: PathBuf,
    },
}

/// A client's pre-shared key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientKeyFile {
    /// What the client is called, as by the name of a certificate.
    pub name: String,
    /// What it calls its key.
    pub identity: String,
    /// The key in hexadecimal.
    pub file: PathBuf,
}

impl CredentialFiles {
    /// A certificate alone.
    #[must_use]
    pub fn certificate(ca: &Path, certificate: &Path, key: &Path) -> Self {
        Self {
            own: OwnFiles::Certificate {
                ca: ca.to_owned(),
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            },
            revocations: None,
            clients: Vec::new(),
        }
    }

    /// Reads them.
    pub fn open(&self) -> Result<Credentials, DtlsError> {
        let mut credentials = match &self.own {
            OwnFiles::Certificate {
                ca,
                certificate,
                key,
            } => Credentials::from_pem_files(ca, certificate, key)?,
            OwnFiles::PresharedKey { identity, file } => {
                Credentials::from_preshared_key(identity, PresharedKey::from_file(file)?)?
            }
        };
        if let Some(list) = &self.revocations {
            credentials = credentials.with_revocations(list)?;
        }
        let clients = self.clients.iter().map(|client| {
            Ok(PskClient {
                name: client.name.clone(),
                identity: client.identity.clone(),
                key: PresharedKey::from_file(&client.file)?,
            })
        });
        credentials.with_clients(clients.collect::<Result<_, DtlsError>>()?)
    }

    fn paths(&self) -> Vec<&Path> {
        let own: Vec<&PathBuf> = match &self.own {
            OwnFiles::Certificate {
                ca,
                certificate,
                key,
            } => vec![ca, certificate, key],
            OwnFiles::PresharedKey { file, .. } => vec![file],
        };
        let clients = self.clients.iter().map(|client| &client.file);
        own.into_iter()
            .chain(&self.revocations)
            .chain(clients)
            .map(PathBuf::as_path)
            .collect()
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &Path| {
            let found = fs::metadata(path).ok()?;
            // Not the time of modification, which tools that copy files keep.
            Some((found.ino(), found.ctime(), found.ctime_nsec(), found.len()))
        };
        self.paths().into_iter().map(stamp).collect()
    }
}

/// What tells one content of a file from the next; `None` where there is no file.
type Stamp = Option<(u64, i64, i64, u64)>;

/// Looks whether files have changed.
#[derive(Debug)]
pub struct FileWatch {
    files: CredentialFiles,
    stamps: Vec<Stamp>,
}

impl FileWatch {
    /// Begins to watch files, before they are read for the first time.
    #[must_use]
    pub fn new(files: CredentialFiles) -> Self {
        let stamps = files.stamps();
        Self { files, stamps }
    }

    /// Reads the files if they have changed since the last call. What was there before stays good where they cannot be
    /// read, as between the replacement of a certificate and of its key: the next change is looked at again.
    #[must_use]
    pub fn poll_changed(&mut self) -> Option<Result<Credentials, DtlsError>> {
        let stamps = self.files.stamps();
        if stamps == self.stamps {
            return None;
        }
        self.stamps = stamps;
        Some(self.files.open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{LabNames, revoke, write_keys};

    #[test]
    fn files_are_read_again_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        write_keys(folder.path(), &LabNames::default()).unwrap();
        revoke(folder.path(), &[], 30).unwrap();
        let mut files =
            CredentialFiles::certificate(&file("ca.pem"), &file("server.pem"), &file("server.key"));
        files.revocations = Some(file("crl.pem"));
        let mut watch = FileWatch::new(files.clone());
        let before = files.open().unwrap();
        assert!(watch.poll_changed().is_none());

        // Half of a replacement: certificate and key do not belong together.
        fs::copy(file("client.pem"), file("server.pem")).unwrap();
        assert!(watch.poll_changed().unwrap().is_err());
        assert!(watch.poll_changed().is_none());
        fs::copy(file("client.key"), file("server.key")).unwrap();
        let after = watch.poll_changed().unwrap().unwrap();
        assert_ne!(after.spki_sha256(), before.spki_sha256());

        revoke(folder.path(), &["client"], 60).unwrap();
        let renewed = watch.poll_changed().unwrap().unwrap();
        assert!(renewed.validity().revocations > before.validity().revocations);
        fs::remove_file(file("crl.pem")).unwrap();
        assert!(watch.poll_changed().unwrap().is_err());
    }
}
