use csv::ByteRecord;

use super::{ImportError, Layout};

/// Columns at most; more is no data set.
pub(super) const MAX_COLUMNS: usize = 512;

/// Where the columns that a layout needs stand in its lines.
pub(super) struct Columns {
    pub(super) layout: Layout,
    places: Vec<Option<usize>>,
}

impl Columns {
    /// Finds each of the layout's columns by any of its names, whatever blanks and capitals.
    pub(super) fn new(layout: Layout, header: &str, tabs: bool) -> Result<Self, ImportError> {
        let separator = if tabs { '\t' } else { ',' };
        let plain = |name: &str| name.trim().trim_matches('"').to_ascii_lowercase();
        let names: Vec<String> = header
            .split(separator)
            .take(MAX_COLUMNS)
            .map(plain)
            .collect();
        let mut places = Vec::new();
        for (alternatives, needed) in layout.columns() {
            let place = names
                .iter()
                .position(|name| alternatives.contains(&name.as_str()));
            if place.is_none() && *needed {
                let column = alternatives.first().copied().unwrap_or("");
                return Err(ImportError::Missing { layout, column });
            }
            places.push(place);
        }
        Ok(Self { layout, places })
    }

    /// The text of the layout's column number `column`; empty where it is missing or no UTF-8.
    pub(super) fn text<'a>(&self, record: &'a ByteRecord, column: usize) -> &'a str {
        let place = self.places.get(column).copied().flatten();
        let octets = place
            .and_then(|place| record.get(place))
            .unwrap_or_default();
        std::str::from_utf8(octets).unwrap_or_default().trim()
    }
}
