//! Rows of older versions become rows of today's, when the file is opened.

use redb::{ReadableTable, WriteTransaction};
use serde_json::Value;

use crate::{Entry, Stage, StateError};

/// Makes a row of one version a row of the next; an error says why it is none.
type Row = fn(&[u8], &[u8]) -> Result<Entry, String>;

/// One version on.
struct Step {
    stage: Stage,
    /// The version that it starts from.
    from: u32,
    row: Row,
}

/// All steps. A version without a step has rows that readers of the next one read as they are.
const STEPS: &[Step] = &[Step {
    stage: Stage::Names,
    from: 1,
    row: name_by_number,
}];

/// What keeps a row from being brought on.
pub(crate) enum Unmoved {
    State(StateError),
    /// The row is none of its version.
    Row(String),
}

impl<E: Into<StateError>> From<E> for Unmoved {
    fn from(error: E) -> Self {
        Self::State(error.into())
    }
}

/// Brings all rows of a stage from a version to today's.
pub(crate) fn migrate(
    transaction: &WriteTransaction,
    stage: Stage,
    from: u32,
) -> Result<(), Unmoved> {
    if is_like_todays(stage, from) {
        return Ok(());
    }
    let mut table = transaction.open_table(stage.rows())?;
    let mut moved: Vec<Entry> = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        let entry = advance(stage, from, key.value(), value.value());
        moved.push(entry.map_err(Unmoved::Row)?);
    }
    table.retain(|_, _| false)?;
    for (key, value) in &moved {
        table.insert(key.as_slice(), value.as_slice())?;
    }
    Ok(())
}

/// Brings one row from a version to today's.
pub(crate) fn advance(stage: Stage, from: u32, key: &[u8], value: &[u8]) -> Result<Entry, String> {
    let mut entry = (key.to_vec(), value.to_vec());
    for step in steps(stage, from) {
        entry = (step.row)(&entry.0, &entry.1)?;
    }
    Ok(entry)
}

/// Whether rows of a version are read as they are.
pub(crate) fn is_like_todays(stage: Stage, from: u32) -> bool {
    steps(stage, from).next().is_none()
}

/// The steps from a version to today's, in order.
fn steps(stage: Stage, from: u32) -> impl Iterator<Item = &'static Step> {
    (from..stage.version()).filter_map(move |version| {
        let is_wanted = |step: &&Step| step.stage == stage && step.from == version;
        STEPS.iter().find(is_wanted)
    })
}

/// Version 1 had the name of the variant in the key, as Rust's `Debug` writes it: `192.0.2.1/Interface(3)`. Version 2 has
/// `192.0.2.1/interface/3`.
fn name_by_number(_: &[u8], value: &[u8]) -> Result<Entry, String> {
    let row: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let exporter = row.get("exporter").and_then(Value::as_str);
    let exporter = exporter.ok_or("a name without an exporter")?;
    let subject = ["interface", "domain", "application"]
        .into_iter()
        .find_map(|kind| Some((kind, row.get(kind)?.as_u64()?)));
    let (kind, number) = subject.ok_or("a name of nothing")?;
    let key = format!("{exporter}/{kind}/{number}");
    Ok((key.into_bytes(), value.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lead_to_versions_that_there_are() {
        for step in STEPS {
            assert!((1..step.stage.version()).contains(&step.from));
        }
    }
}
