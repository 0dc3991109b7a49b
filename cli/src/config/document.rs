//! A TOML file read table by table, so that every mistake is reported at once, each with its line.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, ValueDeserializer};

/// One mistake and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mistake {
    /// Line of the file, from 1; `None` for what stands in no line (environment, missing keys of a missing table).
    pub(crate) line: Option<usize>,
    /// Key, as a path.
    pub(crate) path: String,
    /// What is wrong.
    pub(crate) message: String,
}

/// Overrides from the environment: path of a key, and its new value as text.
pub(crate) type Overrides = Vec<(Vec<String>, String)>;

/// The overrides among environment variables: `WEIR__COLLECTOR__SHARDS=2` sets `collector.shards`.
pub(crate) fn overrides(variables: impl Iterator<Item = (String, String)>) -> Overrides {
    let mut found: Overrides = variables
        .filter_map(|(name, value)| {
            let path = name.strip_prefix("WEIR__")?;
            Some((
                path.split("__").map(str::to_ascii_lowercase).collect(),
                value,
            ))
        })
        .collect();
    found.sort();
    found
}

/// A parsed file from which tables are taken one by one.
pub(crate) struct Document<'t> {
    text: &'t str,
    root: Spanned<DeValue<'t>>,
    rest: DeTable<'t>,
    mistakes: Vec<Mistake>,
}

impl<'t> Document<'t> {
    /// Parses `text` and puts `overrides` in their places. Faults of TOML itself are mistakes like others; what could be
    /// read in spite of them is there.
    pub(crate) fn parse(text: &'t str, overrides: &'t Overrides) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let span = table.span();
        let mut rest = table.into_inner();
        let mut mistakes: Vec<Mistake> = errors
            .iter()
            .map(|error| Mistake {
                line: error.span().map(|span| line_at(text, span.start)),
                path: String::new(),
                message: error.message().to_owned(),
            })
            .collect();
        for (path, value) in overrides {
            if !insert(&mut rest, path, value) {
                mistakes.push(Mistake {
                    line: None,
                    path: path.join("."),
                    message: "the environment cannot override this key: it is not in a table"
                        .to_owned(),
                });
            }
        }
        let root = Spanned::new(span, DeValue::Table(rest.clone()));
        Self {
            text,
            root,
            rest,
            mistakes,
        }
    }

    /// Takes the table or value `name`; its default where it is missing or beyond reading.
    pub(crate) fn take<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        self.take_optional(name).unwrap_or_default()
    }

    /// Takes the table or value `name`, if it is there.
    pub(crate) fn take_optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = remove(&mut self.rest, name)?;
        self.read(name, value)
    }

    /// Takes the table `name` out of the table `outer`, if it is there; the rest of `outer` stays.
    pub(crate) fn take_nested<T: DeserializeOwned>(
        &mut self,
        outer: &str,
        name: &str,
    ) -> Option<T> {
        let key = self.rest.keys().find(|key| key.get_ref() == outer)?.clone();
        let DeValue::Table(table) = self.rest.get_mut(&key)?.get_mut() else {
            return None;
        };
        let value = remove(table, name)?;
        self.read(&format!("{outer}.{name}"), value)
    }

    /// Takes the array of tables `name`; each table that cannot be read is left out. `None` where the file has none.
    pub(crate) fn take_array<T: DeserializeOwned>(&mut self, name: &str) -> Option<Vec<T>> {
        let value = remove(&mut self.rest, name)?;
        let span = value.span();
        let DeValue::Array(items) = value.into_inner() else {
            self.mistake(
                Some(span),
                name,
                format!("write [[{name}]]: this is an array of tables"),
            );
            return None;
        };
        let read = items
            .into_iter()
            .enumerate()
            .filter_map(|(index, item)| self.read(&format!("{name}[{index}]"), item))
            .collect();
        Some(read)
    }

    /// Adds a mistake that a stage found; its line is looked up by its path.
    pub(crate) fn fault(&mut self, path: &str, message: String) {
        let span = self.span_of(path);
        self.mistake(span, path, message);
    }

    /// The line at which `path`, or what of it exists, stands.
    pub(crate) fn line_of(&self, path: &str) -> Option<usize> {
        self.span_of(path)
            .map(|span| line_at(self.text, span.start))
    }

    /// Everything that is wrong, in the order of the file; keys that nobody took are unknown.
    pub(crate) fn finish(mut self) -> Vec<Mistake> {
        let unknown: Vec<(String, Range<usize>)> = self
            .rest
            .keys()
            .map(|key| (key.get_ref().to_string(), key.span()))
            .collect();
        for (key, span) in unknown {
            self.mistake(Some(span), &key, "unknown key".to_owned());
        }
        self.mistakes.sort_by_key(|mistake| mistake.line);
        self.mistakes.dedup();
        self.mistakes
    }

    /// serde stops at the first error; so the key at fault is noted and taken out, and the table is read again.
    fn read<T: DeserializeOwned>(
        &mut self,
        path: &str,
        mut value: Spanned<DeValue<'t>>,
    ) -> Option<T> {
        loop {
            let mut unknown = Vec::new();
            let deserializer = ValueDeserializer::from(value.clone());
            let result = serde_ignored::deserialize(deserializer, |ignored| {
                unknown.push(ignored.to_string())
            });
            match result {
                Ok(read) => {
                    for key in unknown {
                        self.fault(&format!("{path}.{key}"), "unknown key".to_owned());
                    }
                    return Some(read);
                }
                Err(error) => {
                    let span = error.span();
                    let key = span.clone().and_then(|span| remove_at(&mut value, &span));
                    let at = match &key {
                        Some(key) => format!("{path}.{key}"),
                        None => path.to_owned(),
                    };
                    self.mistake(span, &at, error.message().to_owned());
                    key.as_ref()?;
                }
            }
        }
    }

    fn mistake(&mut self, span: Option<Range<usize>>, path: &str, message: String) {
        let line = span
            .filter(|span| span.end > 0)
            .map(|span| line_at(self.text, span.start));
        self.mistakes.push(Mistake {
            line,
            path: path.to_owned(),
            message,
        });
    }

    fn span_of(&self, path: &str) -> Option<Range<usize>> {
        let mut value = &self.root;
        let mut span = None;
        for segment in path
            .split(['.', '[', ']'])
            .filter(|segment| !segment.is_empty())
        {
            let next = match value.get_ref() {
                DeValue::Table(table) => table
                    .iter()
                    .find(|(key, _)| key.get_ref() == segment)
                    .map(|(key, value)| (key.span(), value)),
                DeValue::Array(items) => segment
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item.span(), item)),
                _ => None,
            };
            let Some((at, inner)) = next else { break };
            span = Some(at);
            value = inner;
        }
        span.filter(|span| span.end > 0)
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text
        .as_bytes()
        .iter()
        .take(offset)
        .filter(|octet| **octet == b'\n')
        .count()
}

fn remove<'t>(table: &mut DeTable<'t>, name: &str) -> Option<Spanned<DeValue<'t>>> {
    let key = table.keys().find(|key| key.get_ref() == name)?.clone();
    table.remove(&key)
}

/// Takes the innermost key whose value (or name) lies at `span` out of `value`; says its path.
fn remove_at(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<String> {
    let holds =
        |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end && outer.end > 0;
    match value.get_mut() {
        DeValue::Table(table) => {
            let key = table
                .iter()
                .find(|(key, inner)| {
                    holds(key.span()) || holds(inner.span()) || is_around(inner, span)
                })
                .map(|(key, _)| key.clone())?;
            if let Some(inner) = table.get_mut(&key)
                && let Some(deeper) = remove_at(inner, span)
            {
                return Some(format!("{}.{deeper}", key.get_ref()));
            }
            table.remove(&key);
            Some(key.get_ref().to_string())
        }
        DeValue::Array(items) => {
            let (index, item) = items
                .iter_mut()
                .enumerate()
                .find(|(_, item)| holds(item.span()) || is_around(item, span))?;
            remove_at(item, span).map(|deeper| format!("{index}.{deeper}"))
        }
        _ => None,
    }
}

/// Whether something inside `value` lies at `span`: the span of a `[table]` is only its header's.
fn is_around(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    let holds =
        |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end && outer.end > 0;
    match value.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .any(|(key, inner)| holds(key.span()) || holds(inner.span()) || is_around(inner, span)),
        DeValue::Array(items) => items
            .iter()
            .any(|item| holds(item.span()) || is_around(item, span)),
        _ => false,
    }
}

/// Puts a value from the environment into the table that `path` names.
fn insert<'t>(table: &mut DeTable<'t>, path: &'t [String], value: &'t str) -> bool {
    let Some((name, inner)) = path.split_first() else {
        return false;
    };
    let key = table
        .keys()
        .find(|key| key.get_ref() == name.as_str())
        .cloned()
        .unwrap_or_else(|| Spanned::new(0..0, DeString::Borrowed(name)));
    if inner.is_empty() {
        table.insert(key, Spanned::new(0..0, from_environment(value)));
        return true;
    }
    let next = table
        .entry(key)
        .or_insert_with(|| Spanned::new(0..0, DeValue::Table(DeTable::new())));
    match next.get_mut() {
        DeValue::Table(table) => insert(table, inner, value),
        _ => false,
    }
}

/// A TOML value where the text is one, else a string.
fn from_environment(text: &str) -> DeValue<'_> {
    match DeValue::parse(text) {
        Ok(value) => value.into_inner(),
        Err(_) => DeValue::String(DeString::Borrowed(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Default, Debug, PartialEq)]
    #[serde(default)]
    struct Table {
        number: u16,
        other: u16,
        text: String,
    }

    fn mistakes(text: &str) -> Vec<(Option<usize>, String)> {
        let none = Overrides::new();
        let mut document = Document::parse(text, &none);
        document.take::<Table>("table");
        document.take_array::<Table>("list");
        let mistakes = document.finish();
        mistakes.into_iter().map(|m| (m.line, m.path)).collect()
    }

    #[test]
    fn every_mistake_has_its_line() {
        let text = "[table]\nnumber = \"x\"\nother = 70000\nwrong = 1\n\n[[list]]\nnumber = 1\n[[list]]\ntext = 3\nmore = 1\n[strange]\na = 1\n";
        let at = |line, path: &str| (Some(line), path.to_owned());
        assert_eq!(
            mistakes(text),
            [
                at(2, "table.number"),
                at(3, "table.other"),
                at(4, "table.wrong"),
                at(9, "list[1].text"),
                at(10, "list[1].more"),
                at(11, "strange"),
            ]
        );
    }

    #[test]
    fn broken_toml_is_a_mistake_with_a_line() {
        assert_eq!(mistakes("[table]\nnumber = = 3\n")[0].0, Some(2));
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let variables = [
            ("WEIR__TABLE__NUMBER".to_owned(), "7".to_owned()),
            ("WEIR__TABLE__TEXT".to_owned(), "two words".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ];
        let overrides = overrides(variables.into_iter());
        let mut document = Document::parse("[table]\nnumber = 1\nother = 2\n", &overrides);
        let table: Table = document.take("table");
        assert_eq!(
            (table.number, table.other, table.text.as_str()),
            (7, 2, "two words")
        );
        assert!(document.finish().is_empty());
    }
}
