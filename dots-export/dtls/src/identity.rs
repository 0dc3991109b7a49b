//! Who a peer is, by its certificate or by its pre-shared key.

use openssl::nid::Nid;
use openssl::sha::sha256;
use openssl::ssl::SslRef;
use openssl::x509::X509Ref;

use crate::{DtlsError, psk};

/// Who the peer is, by its verified certificate or its pre-shared key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// DNS names of the certificate (subjectAltName), then its common name; or the name that the key is known by.
    pub names: Vec<String>,
    /// SHA-256 of its SubjectPublicKeyInfo, or of the identity of its key.
    pub spki_sha256: [u8; 32],
}

impl PeerIdentity {
    /// The peer of a handshake that is done; an error where it has proved nothing.
    pub(crate) fn of_session(ssl: &SslRef) -> Result<Self, DtlsError> {
        let certified = ssl.peer_certificate().map(|found| Self::of(&found));
        certified
            .or_else(|| psk::peer(ssl))
            .ok_or_else(|| DtlsError::Handshake("the peer has proved nothing".to_owned()))
    }

    fn of(certificate: &X509Ref) -> Self {
        let mut names: Vec<String> = certificate
            .subject_alt_names()
            .iter()
            .flatten()
            .filter_map(|name| name.dnsname().map(str::to_owned))
            .collect();
        let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
        names.extend(common.filter_map(|entry| entry.data().to_string().ok()));
        names.dedup();
        Self {
            names,
            spki_sha256: spki_sha256(certificate),
        }
    }
}

pub(crate) fn spki_sha256(certificate: &X509Ref) -> [u8; 32] {
    // A certificate that was parsed has a key that can be written.
    let spki = certificate
        .public_key()
        .and_then(|key| key.public_key_to_der())
        .unwrap_or_default();
    sha256(&spki)
}

/// Why a handshake failed: the verdict on the certificate where there is one.
pub(crate) fn reason(ssl: &SslRef, error: &openssl::ssl::Error) -> String {
    let verdict = ssl.verify_result();
    if verdict == openssl::x509::X509VerifyResult::OK {
        error.to_string()
    } else {
        format!("the peer's certificate: {}", verdict.error_string())
    }
}
