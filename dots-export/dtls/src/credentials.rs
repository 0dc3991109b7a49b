use std::fs;
use std::path::Path;
use std::sync::Arc;

use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::ssl::{SslContextBuilder, SslMethod, SslOptions, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Ref};

use crate::DtlsError;

/// ECDHE with an AEAD (RFC 9325 §4.2): forward secrecy, X.509.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK";

/// A certificate with its chain and key, and the CA that peers must be certified by.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
}

struct Inner {
    authorities: Vec<X509>,
    certificate: X509,
    chain: Vec<X509>,
    key: PKey<Private>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads PEM files: CA certificates, our certificate followed by its chain, our key.
    pub fn from_pem_files(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, DtlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| DtlsError::File {
                path: path.to_owned(),
                source,
            })
        };
        let wrong = |path: &Path, what: &str| DtlsError::Credentials {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        let certificates = |path: &Path| {
            let found = X509::stack_from_pem(&read(path)?).unwrap_or_default();
            if found.is_empty() {
                Err(wrong(path, "no certificate in PEM"))
            } else {
                Ok(found)
            }
        };
        let authorities = certificates(ca)?;
        let mut chain = certificates(certificate)?;
        let own = chain.remove(0);
        let private = PKey::private_key_from_pem(&read(key)?)
            .map_err(|_| wrong(key, "no private key in PEM"))?;
        if !own.public_key()?.public_eq(&private) {
            return Err(wrong(key, "the key is not the certificate's"));
        }
        let inner = Inner {
            authorities,
            certificate: own,
            chain,
            key: private,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// SHA-256 of our certificate's SubjectPublicKeyInfo: what a cuid is made of (RFC 9132 §4.4.1).
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        spki_sha256(&self.inner.certificate)
    }

    /// A context that presents our certificate and demands one of our CA from the peer; DTLS 1.2 alone.
    pub(crate) fn context(&self) -> Result<SslContextBuilder, DtlsError> {
        let mut builder = SslContextBuilder::new(SslMethod::dtls())?;
        builder.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
        builder.set_cipher_list(CIPHERS)?;
        builder.set_options(
            SslOptions::NO_QUERY_MTU | SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION,
        );
        let mut store = X509StoreBuilder::new()?;
        for authority in &self.inner.authorities {
            store.add_cert(authority.clone())?;
            builder.add_client_ca(authority)?;
        }
        builder.set_cert_store(store.build());
        builder.set_certificate(&self.inner.certificate)?;
        for certificate in &self.inner.chain {
            builder.add_extra_chain_cert(certificate.clone())?;
        }
        builder.set_private_key(&self.inner.key)?;
        builder.check_private_key()?;
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        Ok(builder)
    }
}

/// Who the peer is, by its verified certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// DNS names of the certificate (subjectAltName), then its common name.
    pub names: Vec<String>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
}

impl PeerIdentity {
    pub(crate) fn of(certificate: &X509Ref) -> Self {
        let mut names: Vec<String> = certificate
            .subject_alt_names()
            .iter()
            .flatten()
            .filter_map(|name| name.dnsname().map(str::to_owned))
            .collect();
        let common = certificate
            .subject_name()
            .entries_by_nid(openssl::nid::Nid::COMMONNAME);
        names.extend(common.filter_map(|entry| entry.data().to_string().ok()));
        names.dedup();
        Self {
            names,
            spki_sha256: spki_sha256(certificate),
        }
    }
}

fn spki_sha256(certificate: &X509Ref) -> [u8; 32] {
    // A certificate that was parsed has a key that can be written.
    let spki = certificate
        .public_key()
        .and_then(|key| key.public_key_to_der())
        .unwrap_or_default();
    sha256(&spki)
}
