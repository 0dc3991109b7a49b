//! TLS with certificates of both sides (RFC 8783 §10, RFC 9325).

use std::path::PathBuf;

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::{AlpnError, Ssl, SslContext, SslOptions, SslRef, select_next_proto};
use weir_dtls::{Credentials, DtlsError};

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
    /// Lists of revoked certificates, one of each CA, where they are to be refused.
    pub crl: Option<PathBuf>,
}

impl TlsFiles {
    /// A server's side: clients prove who they are. Sessions are not resumed, so that each is held against the CRL.
    pub fn server(&self) -> Result<SslContext, DtlsError> {
        let mut builder = self.credentials()?.tls_server()?;
        builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
        builder.set_alpn_select_callback(|_, offered| {
            select_next_proto(ALPN, offered).ok_or(AlpnError::ALERT_FATAL)
        });
        Ok(builder.build())
    }

    /// A client's side.
    pub fn client(&self) -> Result<SslContext, DtlsError> {
        let mut builder = self.credentials()?.tls_client()?;
        builder.set_alpn_protos(ALPN)?;
        Ok(builder.build())
    }

    fn credentials(&self) -> Result<Credentials, DtlsError> {
        let own = Credentials::from_pem_files(&self.ca, &self.certificate, &self.key)?;
        match &self.crl {
            Some(lists) => own.with_revocations(lists),
            None => Ok(own),
        }
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
