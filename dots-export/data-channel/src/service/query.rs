//! Query parameters (RFC 8040 §4.8).

use super::error::{Refusal, Tag};
use super::path::decoded;

/// Which nodes are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Content {
    /// Configuration.
    Config,
    /// State.
    Nonconfig,
    /// Both.
    #[default]
    All,
}

/// Where an entry goes in a list that the user orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Insert {
    First,
    Last,
    Before,
    After,
}

/// The parameters of a request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Query {
    content: Option<Content>,
    /// Levels that are read; none for all.
    depth: Option<Option<u16>>,
    pub(super) insert: Option<Insert>,
    /// The resource before or after which an entry goes.
    pub(super) point: Option<String>,
}

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let mut found = Self::default();
        let pairs = query.into_iter().flat_map(|query| query.split('&'));
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let is_new = match name.as_str() {
                "content" => found.content.replace(content(&value)?).is_none(),
                "depth" => found.depth.replace(depth(&value)?).is_none(),
                "insert" => found.insert.replace(insert(&value)?).is_none(),
                "point" => found.point.replace(value).is_none(),
                _ => return Err(bad(&format!("{name} is not supported"))),
            };
            if !is_new {
                return Err(bad(&format!("{name} stands twice")));
            }
        }
        let relative = matches!(found.insert, Some(Insert::Before | Insert::After));
        if relative != found.point.is_some() {
            return Err(bad("point goes with insert=before and insert=after"));
        }
        Ok(found)
    }

    /// Which nodes are read.
    pub(super) fn content(&self) -> Content {
        self.content.unwrap_or_default()
    }

    /// Levels that are read; none for all.
    pub(super) fn depth(&self) -> Option<u16> {
        self.depth.flatten()
    }

    /// For requests that read.
    pub(super) fn refuse_insertion(&self) -> Result<(), Refusal> {
        if self.insert.is_some() {
            return Err(bad("insert is for POST and PUT"));
        }
        Ok(())
    }

    /// For requests that write.
    pub(super) fn refuse_selection(&self) -> Result<(), Refusal> {
        if self.content.is_some() || self.depth.is_some() {
            return Err(bad("content and depth are for GET"));
        }
        Ok(())
    }
}

fn content(value: &str) -> Result<Content, Refusal> {
    match value {
        "config" => Ok(Content::Config),
        // RFC 8783 §7.3 prints `non-config`, which erratum 6496 corrects.
        "nonconfig" | "non-config" => Ok(Content::Nonconfig),
        "all" => Ok(Content::All),
        _ => Err(bad("content is config, nonconfig or all")),
    }
}

fn depth(value: &str) -> Result<Option<u16>, Refusal> {
    match value.parse() {
        _ if value == "unbounded" => Ok(None),
        Ok(depth) if depth > 0 => Ok(Some(depth)),
        _ => Err(bad("depth is 1 to 65535 or unbounded")),
    }
}

fn insert(value: &str) -> Result<Insert, Refusal> {
    match value {
        "first" => Ok(Insert::First),
        "last" => Ok(Insert::Last),
        "before" => Ok(Insert::Before),
        "after" => Ok(Insert::After),
        _ => Err(bad("insert is first, last, before or after")),
    }
}

fn bad(message: &str) -> Refusal {
    Refusal::bad(Tag::InvalidValue, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked() {
        let parse = |text: &str| Query::parse(Some(text)).ok();
        assert_eq!(
            parse("content=nonconfig&depth=3").map(|q| (q.content(), q.depth())),
            Some((Content::Nonconfig, Some(3)))
        );
        assert_eq!(parse("depth=unbounded").map(|q| q.depth()), Some(None));
        assert!(parse("insert=after&point=%2Fa%3Ab%2Fc%3Dd").is_some());
        for wrong in [
            "content=x",
            "depth=0",
            "depth=65536",
            "insert=after",
            "point=/a",
            "insert=first&point=/a",
            "content=all&content=all",
            "fields=a",
            "x",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
