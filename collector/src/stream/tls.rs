use std::fs;
use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode,
    SslVersion,
};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::settings::IpfixTlsConfig;

/// TLS 1.2: ECDHE with an AEAD (RFC 9325 §4.2). TLS 1.3 has suites of its own, all of that kind.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK";

/// Files that TLS cannot be made of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// OpenSSL refuses.
    #[error("openssl: {0}")]
    OpenSsl(#[from] ErrorStack),
}

/// A server's context that demands a certificate of the configured CA (RFC 7011 §11.3), TLS 1.2 or later.
pub(super) fn server_context(config: &IpfixTlsConfig) -> Result<SslContext, TlsError> {
    let mut builder = SslContextBuilder::new(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cipher_list(CIPHERS)?;
    // Sessions last for days and are not resumed: without tickets each one shows its certificate.
    builder.set_options(
        SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION | SslOptions::NO_TICKET,
    );
    builder.set_num_tickets(0)?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    let mut store = X509StoreBuilder::new()?;
    for authority in certificates(&config.ca)? {
        builder.add_client_ca(&authority)?;
        store.add_cert(authority)?;
    }
    builder.set_cert_store(store.build());
    let mut chain = certificates(&config.certificate)?.into_iter();
    if let Some(own) = chain.next() {
        builder.set_certificate(&own)?;
    }
    for certificate in chain {
        builder.add_extra_chain_cert(certificate)?;
    }
    let wrong = |what| TlsError::Credentials {
        path: config.key.clone(),
        what,
    };
    let key = PKey::private_key_from_pem(&read(&config.key)?)
        .map_err(|_| wrong("no private key in PEM"))?;
    builder
        .set_private_key(&key)
        .and_then(|()| builder.check_private_key())
        .map_err(|_| wrong("the key is not the certificate's"))?;
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    Ok(builder.build())
}

fn certificates(path: &Path) -> Result<Vec<X509>, TlsError> {
    let found = X509::stack_from_pem(&read(path)?).unwrap_or_default();
    if found.is_empty() {
        return Err(TlsError::Credentials {
            path: path.to_owned(),
            what: "no certificate in PEM",
        });
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}
