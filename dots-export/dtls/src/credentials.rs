use std::fs;
use std::path::Path;
use std::sync::Arc;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVerifyMode,
    SslVersion,
};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Crl};

use crate::identity::spki_sha256;
use crate::psk::{self, PresharedKey, PskClient};
use crate::{DtlsError, ffi};

/// ECDHE with an AEAD (RFC 9325 §4.2): forward secrecy, X.509.
const CERTIFIED: &str = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL";
/// The same with a pre-shared key. OpenSSL has no other AEAD for it below TLS 1.3.
const PRESHARED: &str = "ECDHE-PSK-CHACHA20-POLY1305";
/// Suites of TLS 1.3 for a pre-shared key: those of SHA-256. OpenSSL's keys are good for no other hash (RFC 8446 §4.2.11), and
/// it may settle on another one before it looks at the key.
const PRESHARED_1_3: &str = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
/// Line that begins a list in a file of revocation lists.
const CRL_BEGIN: &str = "-----BEGIN X509 CRL-----";

/// What sessions run over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    /// DTLS.
    Datagrams,
    /// TLS.
    Streams,
}

/// What a peer proves itself with, and what it goes by for others: certificates or pre-shared keys.
#[derive(Clone)]
pub struct Credentials {
    own: Own,
    authorities: Arc<Vec<X509>>,
    revocations: Arc<Vec<X509Crl>>,
    clients: Arc<psk::Table>,
}

#[derive(Clone)]
enum Own {
    Certified(Arc<Certified>),
    Preshared(psk::Own),
}

/// A certificate with its chain and key.
struct Certified {
    certificate: X509,
    chain: Vec<X509>,
    key: PKey<Private>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Until when credentials are good, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Validity {
    /// The first end of our certificate and its chain; `None` for a pre-shared key.
    pub certificate: Option<i64>,
    /// The first time at which a revocation list wants to be replaced: then nobody is let in. `None` without lists.
    pub revocations: Option<i64>,
}

impl Credentials {
    /// Reads PEM files: CA certificates, our certificate followed by its chain, our key.
    pub fn from_pem_files(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, DtlsError> {
        let authorities = certificates(ca)?;
        let mut chain = certificates(certificate)?;
        let own = chain.remove(0);
        let private = PKey::private_key_from_pem(&read(key)?)
            .map_err(|_| wrong(key, "no private key in PEM"))?;
        if !own.public_key()?.public_eq(&private) {
            return Err(wrong(key, "the key is not the certificate's"));
        }
        let certified = Certified {
            certificate: own,
            chain,
            key: private,
        };
        Ok(Self {
            own: Own::Certified(Arc::new(certified)),
            authorities: Arc::new(authorities),
            revocations: Arc::default(),
            clients: Arc::default(),
        })
    }

    /// A client's pre-shared key, by which it proves itself and knows the server.
    pub fn from_preshared_key(identity: &str, key: PresharedKey) -> Result<Self, DtlsError> {
        Ok(Self {
            own: Own::Preshared(psk::Own::new(identity, key)?),
            authorities: Arc::default(),
            revocations: Arc::default(),
            clients: Arc::default(),
        })
    }

    /// Certificates of peers are looked up in the lists of a PEM file from now on. There has to be one of every CA of a
    /// chain that is in force; otherwise nobody is let in (RFC 5280 §6.3.3).
    pub fn with_revocations(mut self, path: &Path) -> Result<Self, DtlsError> {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        let mut lists = Vec::new();
        for list in text.split(CRL_BEGIN).skip(1) {
            let list = X509Crl::from_pem(format!("{CRL_BEGIN}{list}").as_bytes())
                .map_err(|_| wrong(path, "a revocation list that cannot be read"))?;
            lists.push(list);
        }
        if lists.is_empty() {
            return Err(wrong(path, "no revocation list in PEM"));
        }
        self.revocations = Arc::new(lists);
        Ok(self)
    }

    /// These clients may prove themselves by keys, besides those that have certificates.
    pub fn with_clients(mut self, clients: Vec<PskClient>) -> Result<Self, DtlsError> {
        self.clients = Arc::new(psk::table(clients)?);
        Ok(self)
    }

    /// SHA-256 of our certificate's SubjectPublicKeyInfo, or of the identity of our key: what a cuid is made of (RFC 9132
    /// §4.4.1).
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        match &self.own {
            Own::Certified(own) => spki_sha256(&own.certificate),
            Own::Preshared(own) => own.identity_sha256(),
        }
    }

    /// Until when they are good.
    #[must_use]
    pub fn validity(&self) -> Validity {
        let certificate = match &self.own {
            Own::Certified(own) => [&own.certificate]
                .into_iter()
                .chain(&own.chain)
                .filter_map(|one| seconds(one.not_after()))
                .min(),
            Own::Preshared(_) => None,
        };
        let updates = self
            .revocations
            .iter()
            .filter_map(|list| list.next_update());
        Validity {
            certificate,
            revocations: updates.filter_map(seconds).min(),
        }
    }

    /// What others begin a client's context with who drive TLS over streams by OpenSSL itself: it presents our certificate and
    /// demands the server's, whose name is theirs to check; TLS 1.2 at least (RFC 9325).
    pub fn tls_client(&self) -> Result<SslContextBuilder, DtlsError> {
        self.client_context(Over::Streams)
    }

    /// The same for a server, which demands a certificate of the client. Sessions are not resumed: each shows its certificate
    /// anew, and has it held against the revocation lists.
    pub fn tls_server(&self) -> Result<SslContextBuilder, DtlsError> {
        let mut builder = self.server_context(Over::Streams)?;
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_options(SslOptions::NO_TICKET);
        builder.set_num_tickets(0)?;
        Ok(builder)
    }

    /// A context that presents our certificate or key, and demands the server's; (D)TLS 1.2 at least.
    pub(crate) fn client_context(&self, over: Over) -> Result<SslContextBuilder, DtlsError> {
        let mut builder = self.context(over)?;
        match &self.own {
            Own::Certified(_) => builder.set_cipher_list(CERTIFIED)?,
            Own::Preshared(own) => {
                builder.set_cipher_list(PRESHARED)?;
                builder.set_ciphersuites(PRESHARED_1_3)?;
                psk::set_client(&mut builder, own)?;
            }
        }
        Ok(builder)
    }

    /// A context that presents our certificate, and demands a certificate or a key of the client.
    pub(crate) fn server_context(&self, over: Over) -> Result<SslContextBuilder, DtlsError> {
        let mut builder = self.context(over)?;
        if self.clients.is_empty() {
            builder.set_cipher_list(CERTIFIED)?;
        } else {
            builder.set_cipher_list(&format!("{PRESHARED}:{CERTIFIED}"))?;
            builder.set_ciphersuites(PRESHARED_1_3)?;
            psk::set_server(&mut builder, &self.clients)?;
        }
        for authority in self.authorities.iter() {
            builder.add_client_ca(authority)?;
        }
        Ok(builder)
    }

    fn context(&self, over: Over) -> Result<SslContextBuilder, DtlsError> {
        let (method, version) = match over {
            Over::Datagrams => (SslMethod::dtls(), SslVersion::DTLS1_2),
            Over::Streams => (SslMethod::tls(), SslVersion::TLS1_2),
        };
        let mut builder = SslContextBuilder::new(method)?;
        builder.set_min_proto_version(Some(version))?;
        builder.set_options(
            SslOptions::NO_QUERY_MTU | SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION,
        );
        // A server has thousands of sessions, of which nearly all are idle.
        builder.set_mode(SslMode::RELEASE_BUFFERS);
        builder.set_cert_store(self.store()?);
        if let Own::Certified(own) = &self.own {
            builder.set_certificate(&own.certificate)?;
            for certificate in &own.chain {
                builder.add_extra_chain_cert(certificate.clone())?;
            }
            builder.set_private_key(&own.key)?;
            builder.check_private_key()?;
        }
        // A peer with a key sends no certificate, and is not asked for one.
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        Ok(builder)
    }

    fn store(&self) -> Result<X509Store, DtlsError> {
        let mut store = X509StoreBuilder::new()?;
        for authority in self.authorities.iter() {
            store.add_cert(authority.clone())?;
        }
        for list in self.revocations.iter() {
            ffi::add_revocations(&mut store, list)?;
        }
        if !self.revocations.is_empty() {
            store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)?;
        }
        Ok(store.build())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DtlsError> {
    fs::read(path).map_err(|source| DtlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn wrong(path: &Path, what: &str) -> DtlsError {
    DtlsError::Credentials {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

fn certificates(path: &Path) -> Result<Vec<X509>, DtlsError> {
    let found = X509::stack_from_pem(&read(path)?).unwrap_or_default();
    if found.is_empty() {
        Err(wrong(path, "no certificate in PEM"))
    } else {
        Ok(found)
    }
}

/// Seconds since 1970.
fn seconds(time: &Asn1TimeRef) -> Option<i64> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(since.days) * 86_400 + i64::from(since.secs))
}
