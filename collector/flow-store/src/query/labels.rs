use std::io::BufRead;
use std::net::IpAddr;

use ipnet::IpNet;
use polars::prelude::{
    Column, DataFrame, DataType, IntoLazy, LazyFrame, NamedFrom, PlSmallStr, PolarsResult, Series,
    TimeUnit,
};
use weir_flow_record::Timestamp;

use super::QueryError;

/// A label as its line states it.
struct Label {
    start: Timestamp,
    end: Timestamp,
    target: String,
    attack: String,
}

/// A row a label; and the number of lines that are none.
pub(super) fn frame(lines: impl BufRead) -> Result<(LazyFrame, u64), QueryError> {
    let (mut labels, mut skipped) = (Vec::new(), 0);
    for line in lines.lines().skip(1) {
        let line = line.map_err(|source| QueryError::Io {
            path: "the file of labels".into(),
            source,
        })?;
        match label(&line) {
            Some(label) => labels.push(label),
            None => skipped += u64::from(!line.is_empty()),
        }
    }
    Ok((columns(&labels)?.lazy(), skipped))
}

fn label(line: &str) -> Option<Label> {
    let mut fields = line.split(',');
    let mut next = || fields.next();
    let (start, end, target, attack) = (next()?, next()?, next()?, next()?);
    let known = target.parse::<IpNet>().is_ok() || target.parse::<IpAddr>().is_ok();
    known.then_some(())?;
    Some(Label {
        start: start.parse().ok()?,
        end: end.parse().ok()?,
        target: target.to_owned(),
        attack: attack.to_owned(),
    })
}

fn columns(labels: &[Label]) -> PolarsResult<DataFrame> {
    let text = |name: &str, of: fn(&Label) -> &str| -> Column {
        let values: Vec<&str> = labels.iter().map(of).collect();
        Series::new(PlSmallStr::from_str(name), values).into()
    };
    let time = |name: &str, of: fn(&Label) -> Timestamp| {
        let values: Vec<i64> = labels.iter().map(|label| of(label).nanos()).collect();
        let column: Column = Series::new(PlSmallStr::from_str(name), values).into();
        column.cast(&DataType::Datetime(TimeUnit::Nanoseconds, None))
    };
    DataFrame::new(
        labels.len(),
        vec![
            time("start", |label| label.start)?,
            time("end", |label| label.end)?,
            text("target", |label| &label.target),
            text("attack", |label| &label.attack),
        ],
    )
}
