//! Published labelled flows, and the CSV of flow tools, as flow records with their truth.
//!
//! [`import`] tells the layout by its header (gzip or not), reads record by record in constant memory, and counts what it
//! cannot read. A connection of two directions becomes two records. The layouts and the known labelling errors of each data set:
#![doc = include_str!("../../LABELLED.md")]

mod columns;
mod family;
mod layout;
mod time;
mod values;

use std::io::{BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;
use weir_flow_record::Row;

pub use family::family;
pub use layout::Layout;

use columns::Columns;

/// What a flow is, as its source says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Truth<'a> {
    /// The source has no labels.
    Unlabelled,
    /// The source has labels, and none for this: neither peace nor attack.
    Undeclared,
    /// Normal traffic.
    Peace,
    /// Part of an attack, in the source's words.
    Attack(&'a str),
}

/// A flow with its truth.
#[derive(Clone, Copy, Debug)]
pub struct LabelledFlow<'a> {
    /// The record; its times are event times.
    pub row: Row,
    /// Whether the source tells TCP flags.
    pub flags_known: bool,
    /// Whether it answers another flow; `None` where the source does not say.
    pub answer: Option<bool>,
    /// What it is.
    pub truth: Truth<'a>,
    /// The capture it comes from: records of different captures have nothing to do with each other.
    pub capture: &'a str,
    /// Who says what it is; empty for the data set itself.
    pub by: &'a str,
}

/// What an import read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImportReport {
    /// The layout found.
    pub layout: Layout,
    /// Records given, directions counted apart.
    pub records: u64,
    /// Lines that could not be read, and were left out.
    pub bad: u64,
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Its header is none that is known.
    #[error("no layout of labelled flows that is known; it begins with `{0}`")]
    Unknown(String),
    /// The layout needs a column that is not there.
    #[error("layout {layout} needs column `{column}`")]
    Missing {
        /// The layout.
        layout: Layout,
        /// The column, by its first name.
        column: &'static str,
    },
    /// It could not be read.
    #[error("cannot read it: {0}")]
    Read(#[from] std::io::Error),
    /// It is no CSV.
    #[error("no CSV: {0}")]
    Csv(#[from] csv::Error),
}

/// A line longer than this is no header.
const LONGEST_HEADER: u64 = 1 << 16;

/// Reads labelled flows; `name` is the capture's name where the layout has none.
pub fn import(
    input: impl Read,
    name: &str,
    give: &mut dyn FnMut(&LabelledFlow<'_>),
) -> Result<ImportReport, ImportError> {
    let mut input = BufReader::new(input);
    if input.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        read(BufReader::new(MultiGzDecoder::new(input)), name, give)
    } else {
        read(input, name, give)
    }
}

fn read(
    mut input: impl BufRead,
    name: &str,
    give: &mut dyn FnMut(&LabelledFlow<'_>),
) -> Result<ImportReport, ImportError> {
    let mut header: Vec<u8> = Vec::new();
    let mut zeek = None;
    loop {
        header.clear();
        input
            .by_ref()
            .take(LONGEST_HEADER)
            .read_until(b'\n', &mut header)?;
        // Zeek's own format: comments before and after the names.
        match header.strip_prefix(b"#") {
            Some(fields) if fields.starts_with(b"fields") => {
                let names = fields.get(b"fields".len()..).unwrap_or(&[]);
                zeek = Some(String::from_utf8_lossy(names).trim().to_owned());
            }
            Some(_) => {}
            None => break,
        }
    }
    let text = String::from_utf8_lossy(&header);
    let first = text.trim_start_matches('\u{feff}').trim_end().to_owned();
    let names = zeek.as_deref().unwrap_or(&first);
    let Some((layout, headless)) = Layout::of(names) else {
        return Err(ImportError::Unknown(names.chars().take(60).collect()));
    };
    let columns = Columns::new(
        layout,
        if headless { layout::UNSW_NAMES } else { names },
        zeek.is_some(),
    )?;
    let mut report = ImportReport {
        layout,
        records: 0,
        bad: 0,
    };
    let mut count = |flow: &LabelledFlow<'_>| {
        report.records += 1;
        give(flow);
    };
    let delimiter = if zeek.is_some() { b'\t' } else { b',' };
    // The first line of data was read already where no header stood.
    let early = if zeek.is_some() || headless {
        header
    } else {
        Vec::new()
    };
    let lines = std::io::Cursor::new(early).chain(input);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .comment(Some(b'#'))
        .from_reader(lines);
    let mut record = csv::ByteRecord::new();
    let mut bad = 0;
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {
                if layout::flows(&columns, &record, name, &mut count).is_none() {
                    bad += 1;
                }
            }
            Err(error) if error.is_io_error() => return Err(error.into()),
            Err(_) => bad += 1,
        }
    }
    report.bad = bad;
    Ok(report)
}

#[cfg(test)]
mod tests;
