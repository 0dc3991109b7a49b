//! Names and URIs of targets.

/// Whether a text is a domain name (RFC 6991 `domain-name`, without the root).
#[must_use]
pub fn is_domain_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let octets = label.as_bytes();
    let inner = octets
        .iter()
        .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
    let first = octets.first().is_some_and(|octet| *octet != b'-');
    let last = octets.last().is_some_and(u8::is_ascii_alphanumeric);
    inner && first && last && octets.len() <= 63
}

/// Whether a text is a URI (RFC 3986): a scheme, a colon, and visible ASCII.
#[must_use]
pub fn is_uri(uri: &str) -> bool {
    let Some((scheme, _)) = uri.split_once(':') else {
        return false;
    };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
        && uri.bytes().all(|octet| octet.is_ascii_graphic())
}

/// The host of a URI with an authority (RFC 3986 §3.2): a name, or an address without its brackets.
#[must_use]
pub fn uri_host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(address) => address.split_once(']')?.0,
        None => host.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_uris() {
        assert_eq!(
            uri_host("https://www.example.com/a"),
            Some("www.example.com")
        );
        assert_eq!(uri_host("https://u:p@h.example:8443?x"), Some("h.example"));
        assert_eq!(uri_host("http://[2001:db8::1]:80/"), Some("2001:db8::1"));
        assert_eq!(
            uri_host("https://good.example@evil.example/"),
            Some("evil.example")
        );
        assert_eq!(uri_host("mailto:a@b.example"), None);
        assert_eq!(uri_host("http:///x"), None);
    }
}
