//! TLS with certificates of both sides (RFC 8783 §10, RFC 9325).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslOptions, SslRef,
    SslSessionCacheMode, SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::x509::X509;
use openssl::x509::store::{X509Lookup, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use thiserror::Error;

use crate::UnixTime;

/// Suites of TLS 1.2: ECDHE with an AEAD (RFC 9325 §4.2). Those of TLS 1.3 are all of this kind.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK";
/// `http/1.1`, as ALPN writes it.
const ALPN: &[u8] = b"\x08http/1.1";

/// PEM files of one side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// CA that the other side must be certified by.
    pub ca: PathBuf,
    /// Our certificate and its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Revoked certificates of the CA, where they are to be refused.
    pub crl: Option<PathBuf>,
}

/// Why there is no TLS.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not have what it should.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// OpenSSL refuses.
    #[error("tls: {0}")]
    OpenSsl(#[from] ErrorStack),
}

impl TlsFiles {
    /// A server's side: clients prove who they are. Sessions are not resumed, so that each is held against the CRL.
    pub fn server(&self) -> Result<SslContext, TlsError> {
        let mut builder = self.context()?;
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_num_tickets(0)?;
        builder.set_options(SslOptions::NO_TICKET | SslOptions::CIPHER_SERVER_PREFERENCE);
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        builder.set_alpn_select_callback(|_, offered| {
            select_next_proto(ALPN, offered).ok_or(AlpnError::ALERT_FATAL)
        });
        for authority in certificates(&self.ca)? {
            builder.add_client_ca(&authority)?;
        }
        Ok(builder.build())
    }

    /// A client's side.
    pub fn client(&self) -> Result<SslContext, TlsError> {
        let mut builder = self.context()?;
        builder.set_verify(SslVerifyMode::PEER);
        builder.set_alpn_protos(ALPN)?;
        Ok(builder.build())
    }

    /// When our certificate expires.
    pub fn expires(&self) -> Result<UnixTime, TlsError> {
        let own = certificates(&self.certificate)?;
        let own = own
            .first()
            .ok_or_else(|| wrong(&self.certificate, "no certificate in PEM"))?;
        let since = Asn1Time::from_unix(0)?.diff(own.not_after())?;
        let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
        Ok(UnixTime(u64::try_from(seconds).unwrap_or(0)))
    }

    fn context(&self) -> Result<SslContextBuilder, TlsError> {
        let mut builder = SslContextBuilder::new(SslMethod::tls())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        builder.set_cipher_list(CIPHERS)?;
        builder.set_options(SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION);
        let mut store = X509StoreBuilder::new()?;
        for authority in certificates(&self.ca)? {
            store.add_cert(authority)?;
        }
        if let Some(crl) = &self.crl {
            // The path goes to OpenSSL as a C string.
            if read(crl)?.is_empty() || crl.to_str().is_none_or(|path| path.contains('\0')) {
                return Err(wrong(crl, "no list of revoked certificates"));
            }
            let lookup = store.add_lookup(X509Lookup::file())?;
            lookup.load_crl_file(crl, SslFiletype::PEM)?;
            store.set_flags(X509VerifyFlags::CRL_CHECK)?;
        }
        builder.set_cert_store(store.build());
        let mut chain = certificates(&self.certificate)?.into_iter();
        if let Some(own) = chain.next() {
            builder.set_certificate(&own)?;
        }
        for certificate in chain {
            builder.add_extra_chain_cert(certificate)?;
        }
        let key = PKey::private_key_from_pem(&read(&self.key)?)
            .map_err(|_| wrong(&self.key, "no private key in PEM"))?;
        builder.set_private_key(&key)?;
        builder
            .check_private_key()
            .map_err(|_| wrong(&self.key, "the key is not the certificate's"))?;
        Ok(builder)
    }
}

/// A client's end that demands a server of this name or address.
pub(crate) fn client_end(context: &SslContext, server: &str) -> Result<Ssl, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    match server.parse() {
        Ok(address) => ssl.param_mut().set_ip(address)?,
        Err(_) => {
            ssl.set_hostname(server)?;
            ssl.param_mut().set_host(server)?;
        }
    }
    Ok(ssl)
}

/// DNS names of the peer's certificate, which was verified, then its common name.
pub(crate) fn peer_names(ssl: &SslRef) -> Vec<String> {
    let Some(certificate) = ssl.peer_certificate() else {
        return Vec::new();
    };
    let alternatives = certificate.subject_alt_names();
    let alternatives = alternatives.iter().flatten();
    let mut names: Vec<String> = alternatives
        .filter_map(|name| name.dnsname().map(str::to_owned))
        .collect();
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    names.extend(common.filter_map(|entry| entry.data().to_string().ok()));
    names.dedup();
    names
}

fn certificates(path: &Path) -> Result<Vec<X509>, TlsError> {
    let found = X509::stack_from_pem(&read(path)?).unwrap_or_default();
    if found.is_empty() {
        return Err(wrong(path, "no certificate in PEM"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn wrong(path: &Path, what: &'static str) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        what,
    }
}
