use std::io::{self, Write};

use polars::prelude::{CsvWriter, DataFrame, JsonFormat, JsonWriter, SerWriter};

use super::QueryError;

/// The rows that a statement gave.
pub struct Answer {
    frame: DataFrame,
}

impl Answer {
    pub(super) fn new(frame: DataFrame) -> Self {
        Self { frame }
    }

    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.frame.height()
    }

    /// As CSV with a header line.
    pub fn write_csv(&mut self, out: impl Write) -> Result<(), QueryError> {
        Ok(CsvWriter::new(out).finish(&mut self.frame)?)
    }

    /// As one JSON object a line.
    pub fn write_json(&mut self, out: impl Write) -> Result<(), QueryError> {
        let mut writer = JsonWriter::new(out).with_json_format(JsonFormat::JsonLines);
        Ok(writer.finish(&mut self.frame)?)
    }

    /// As a table for people: columns as wide as their widest value, numbers to the right.
    pub fn write_table(&self, mut out: impl Write) -> Result<(), QueryError> {
        let columns: Vec<TableColumn> = self.frame.columns().iter().map(TableColumn::new).collect();
        let mut line = |row: Option<usize>| -> io::Result<()> {
            let mut text = String::new();
            for column in &columns {
                column.push(row, &mut text);
            }
            writeln!(out, "{}", text.trim_end())
        };
        line(None).map_err(QueryError::Write)?;
        (0..self.rows()).try_for_each(|row| line(Some(row)).map_err(QueryError::Write))
    }
}

struct TableColumn {
    name: String,
    cells: Vec<String>,
    width: usize,
    right: bool,
}

impl TableColumn {
    fn new(column: &polars::prelude::Column) -> Self {
        let cells: Vec<String> = column
            .as_materialized_series()
            .iter()
            .map(|value| match value {
                polars::prelude::AnyValue::Null => "–".to_owned(),
                value => value.str_value().into_owned(),
            })
            .collect();
        let name = column.name().to_string();
        let widest = cells.iter().map(|cell| cell.chars().count()).max();
        Self {
            width: name.chars().count().max(widest.unwrap_or(0)),
            right: column.dtype().is_primitive_numeric(),
            name,
            cells,
        }
    }

    /// Appends the cell of a row, or the name.
    fn push(&self, row: Option<usize>, text: &mut String) {
        let cell = row
            .and_then(|row| self.cells.get(row))
            .unwrap_or(&self.name);
        let padding = " ".repeat(self.width.saturating_sub(cell.chars().count()));
        if self.right {
            text.push_str(&padding);
        }
        text.push_str(cell);
        if !self.right {
            text.push_str(&padding);
        }
        text.push_str("  ");
    }
}
