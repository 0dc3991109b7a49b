//! What is asked for, and who is asked: `discover`, `resolver` and `resolver_ca` of `[[upstream]]`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hickory_resolver::proto::rr::Name;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const DNS_PORT: u16 = 53;
/// RFC 7858 §3.1.
const TLS_PORT: u16 = 853;

/// Whose servers are looked for, and how.
#[derive(Clone, PartialEq, Debug)]
pub struct DiscoverySettings {
    pub(crate) domain: Name,
    pub(crate) resolver: ResolverSettings,
    /// Address and interface to ask from, as the upstream's own.
    pub(crate) source: Option<IpAddr>,
    pub(crate) interface: Option<String>,
}

impl DiscoverySettings {
    /// The domain as certificates have it.
    pub(crate) fn name(&self) -> String {
        let name = self.domain.to_lowercase().to_ascii();
        name.trim_end_matches('.').to_owned()
    }
}

/// Who is asked.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum ResolverSettings {
    /// Those of `/etc/resolv.conf`.
    System,
    /// One over UDP, and over TCP what UDP does not bring.
    Plain(SocketAddr),
    /// One over TLS (RFC 7858), with a certificate for `name`.
    Tls {
        address: SocketAddr,
        name: Arc<str>,
        /// File of those that may have issued it; `None`: the system's.
        ca: Option<PathBuf>,
    },
}

/// A domain, such as `example.net`.
pub(crate) fn read_domain(text: &str) -> Result<Name, &'static str> {
    const WRONG: &str = "write a domain, such as example.net";
    let mut name = Name::from_utf8(text).map_err(|_| WRONG)?;
    if name.num_labels() == 0 || text.parse::<IpAddr>().is_ok() {
        return Err(WRONG);
    }
    // Search domains have no say in it.
    name.set_fqdn(true);
    Ok(name)
}

/// `192.0.2.1`, `[2001:db8::1]:53`, or over TLS `tls://192.0.2.1`, `tls://192.0.2.1:853#dns.example.net`.
pub(crate) fn read_resolver(
    text: &str,
    ca: Option<&Path>,
) -> Result<ResolverSettings, &'static str> {
    let Some(rest) = text.strip_prefix("tls://") else {
        let address = read_address(text, DNS_PORT);
        let address = address.ok_or("write an address with a port, or tls:// and an address")?;
        return Ok(ResolverSettings::Plain(address));
    };
    let (address, name) = match rest.split_once('#') {
        Some((address, name)) => (address, Some(name)),
        None => (rest, None),
    };
    let address = read_address(address, TLS_PORT);
    let address = address.ok_or("after tls:// stands an address, and # before a name")?;
    let name = name.map_or_else(|| address.ip().to_string(), str::to_owned);
    if ServerName::try_from(name.as_str()).is_err() {
        return Err("after # stands the name in the resolver's certificate");
    }
    Ok(ResolverSettings::Tls {
        address,
        name: name.into(),
        ca: ca.map(Path::to_owned),
    })
}

fn read_address(text: &str, port: u16) -> Option<SocketAddr> {
    let bare = || {
        let inner = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address: IpAddr = inner.unwrap_or(text).parse().ok()?;
        Some(SocketAddr::new(address, port))
    };
    let address = text.parse().ok().or_else(bare)?;
    (address.port() != 0).then_some(address)
}

/// TLS towards a resolver whose certificate leads to those in `ca`, or to the system's.
pub(super) fn tls(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no certificate to trust".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_addresses_over_tls_with_a_name() {
        for (text, address) in [
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("192.0.2.1", "192.0.2.1:53"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:54", "[2001:db8::1]:54"),
        ] {
            let expected = ResolverSettings::Plain(address.parse().unwrap());
            assert_eq!(read_resolver(text, None), Ok(expected), "{text}");
        }
        for (text, address, name) in [
            ("tls://192.0.2.1", "192.0.2.1:853", "192.0.2.1"),
            (
                "tls://[2001:db8::1]:9#dns.example",
                "[2001:db8::1]:9",
                "dns.example",
            ),
        ] {
            let expected = ResolverSettings::Tls {
                address: address.parse().unwrap(),
                name: name.into(),
                ca: None,
            };
            assert_eq!(read_resolver(text, None), Ok(expected), "{text}");
        }
        for text in [
            "",
            "dns.example",
            "192.0.2.1:0",
            "tls://",
            "tls://dns.example",
            "tls://192.0.2.1#",
            "https://192.0.2.1",
        ] {
            assert!(read_resolver(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn domains_are_absolute_and_no_addresses() {
        assert_eq!(
            read_domain("Example.net").unwrap(),
            Name::from_ascii("example.net.").unwrap()
        );
        assert!(read_domain("example.net").unwrap().is_fqdn());
        for text in ["", ".", "192.0.2.1", "a..b", "2001:db8::1"] {
            assert!(read_domain(text).is_err(), "{text}");
        }
    }
}
