//! Hosts of targets.

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
