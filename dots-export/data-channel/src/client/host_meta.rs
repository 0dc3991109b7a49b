//! Reads the server's host-meta (RFC 6415): of its XML just the links.

/// The `href` of the link whose `rel` is `restconf`, as a path without a slash at its end. One on another host is none.
pub(crate) fn restconf_root(document: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(document).ok()?;
    let mut rest = text;
    while let Some((_, from_tag)) = rest.split_once('<') {
        if let Some(comment) = from_tag.strip_prefix("!--") {
            rest = comment.split_once("-->")?.1;
            continue;
        }
        let (tag, behind) = from_tag.split_once('>')?;
        rest = behind;
        let name = tag
            .split(|c: char| c.is_ascii_whitespace() || c == '/')
            .next()?;
        let is_link = name.rsplit(':').next() == Some("Link");
        if is_link && attribute(tag, "rel")? == "restconf" {
            return path(&attribute(tag, "href")?);
        }
    }
    None
}

/// The value of an attribute of a tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag.split_once(|c: char| c.is_ascii_whitespace())?.1;
    loop {
        let (before, behind) = rest.split_once('=')?;
        let behind = behind.trim_ascii_start();
        let quote = behind
            .chars()
            .next()
            .filter(|quote| "'\"".contains(*quote))?;
        let (value, behind) = behind.get(1..)?.split_once(quote)?;
        if before.trim_ascii() == name {
            let value = value.replace("&apos;", "'").replace("&quot;", "\"");
            return Some(
                value
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&amp;", "&"),
            );
        }
        rest = behind;
    }
}

/// The path of a reference that is one: not of another authority, and of visible ASCII.
fn path(reference: &str) -> Option<String> {
    let is_path = reference.starts_with('/')
        && !reference.starts_with("//")
        && !reference.contains(['?', '#'])
        && reference.bytes().all(|octet| octet.is_ascii_graphic());
    is_path.then(|| reference.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(document: &str) -> Option<String> {
        restconf_root(document.as_bytes())
    }

    #[test]
    fn the_link_is_found() {
        let rfc = "<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n<Link rel='restconf' href='/restconf'/>\n</XRD>";
        assert_eq!(root(rfc).as_deref(), Some("/restconf"));
        let other = "<?xml version=\"1.0\"?><!-- <Link rel='restconf' href='/no'/> --><x:XRD><x:Link rel=\"lrdd\" href=\"/a\"/><x:Link\n href = \"/top/restconf/\" rel = \"restconf\"></x:Link></x:XRD>";
        assert_eq!(root(other).as_deref(), Some("/top/restconf"));
        assert_eq!(root("<Link rel='restconf' href='/'/>").as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_path_is_none() {
        for wrong in [
            "",
            "<Link rel='restconf'",
            "<Link rel='restconf'/>",
            "<Link rel='restconf' href='//evil.example/x'/>",
            "<Link rel='restconf' href='https://evil.example/x'/>",
            "<Link rel='restconf' href='/a b'/>",
            "<Link rel='restconf' href=/a/>",
            "<Linker rel='restconf' href='/a'/>",
        ] {
            assert_eq!(root(wrong), None, "{wrong}");
        }
    }
}
