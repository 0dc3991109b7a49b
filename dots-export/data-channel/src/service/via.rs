//! Loops of gateways (RFC 8783 §3.4).

use super::error::Refusal;

/// Refuses a request that has passed here before: one of our names stands in its `Via` field (RFC 7230 §5.7.1).
pub(super) fn check(via: Option<&str>, own_names: &[String]) -> Result<(), Refusal> {
    let Some(via) = via else {
        return Ok(());
    };
    let is_ours = |hop: &str| own_names.iter().any(|own| names(hop, own));
    if via.split(',').any(is_ours) {
        tracing::warn!(via, "a request came in a loop");
        return Err(Refusal::looped(via));
    }
    Ok(())
}

/// Whether a hop, as `protocol received-by [comment]`, was received by `own`, with or without a port.
fn names(hop: &str, own: &str) -> bool {
    let Some(by) = hop.split_ascii_whitespace().nth(1) else {
        return false;
    };
    let host = match by.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => by.rsplit_once(':').map_or(by, |(host, _)| host),
    };
    by.eq_ignore_ascii_case(own) || host.eq_ignore_ascii_case(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_found() {
        let own = ["dots.example".to_owned(), "2001:db8::1".to_owned()];
        for via in [
            "1.1 dots.example",
            "1.1 gateway, HTTP/1.1 DOTS.example:443 (weir)",
            "1.1 [2001:db8::1]:443",
        ] {
            assert!(check(Some(via), &own).is_err(), "{via}");
        }
        for via in [
            "1.1 gateway",
            "1.1 other.dots.example",
            "",
            "dots.example",
            ",,",
        ] {
            assert!(check(Some(via), &own).is_ok(), "{via}");
        }
        assert!(check(None, &own).is_ok());
    }
}
