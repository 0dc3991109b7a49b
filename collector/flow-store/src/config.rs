use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_flow_record::{ByteSize, Period};

use crate::ParquetSettings;

/// The table `[store]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreConfig {
    /// Memory for the recent window, in octets.
    pub recent_window: ByteSize,
    /// Where Parquet files are written; empty = off.
    pub parquet_dir: PathBuf,
    /// Rows of a row group: what a reader takes into memory at once, and skips at once.
    pub parquet_rows_per_group: u32,
    /// How long rows stay; zero = for ever.
    pub parquet_retain: Period,
    /// Octets of all files; 0 = no bound.
    pub parquet_max_size: ByteSize,
    /// After so long a file is finished and a new one begun: what a crash loses at most.
    pub parquet_interval: Period,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            recent_window: ByteSize(256 << 20),
            parquet_dir: PathBuf::new(),
            parquet_rows_per_group: 131_072,
            parquet_retain: Period(Duration::ZERO),
            parquet_max_size: ByteSize(0),
            parquet_interval: Period(Duration::from_secs(60)),
        }
    }
}

/// A checked `[store]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreSettings {
    /// Memory for the recent window, in octets.
    pub recent_window: ByteSize,
    /// How Parquet files are written; `None` = not at all.
    pub parquet: Option<ParquetSettings>,
}

/// A mistake in `[store]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreConfigError {
    /// Too small to hold the rows of a short attack.
    #[error("recent_window must be at least 1MiB")]
    SmallWindow,
    /// Either too many small groups or too much memory.
    #[error("parquet_rows_per_group must be between 1024 and 4194304")]
    RowsPerGroup,
    /// A file for each instant.
    #[error("parquet_interval must be between 1s and 1h")]
    Interval,
}

const SMALLEST_WINDOW: u64 = 1 << 20;

impl StoreConfig {
    /// Checks the values.
    pub fn check(&self) -> Result<StoreSettings, StoreConfigError> {
        if self.recent_window.0 < SMALLEST_WINDOW {
            return Err(StoreConfigError::SmallWindow);
        }
        Ok(StoreSettings {
            recent_window: self.recent_window,
            parquet: self.check_parquet()?,
        })
    }

    fn check_parquet(&self) -> Result<Option<ParquetSettings>, StoreConfigError> {
        if !(1_024..=4_194_304).contains(&self.parquet_rows_per_group) {
            return Err(StoreConfigError::RowsPerGroup);
        }
        let interval = self.parquet_interval.0;
        if !(Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&interval) {
            return Err(StoreConfigError::Interval);
        }
        let settings = ParquetSettings {
            folder: self.parquet_dir.clone(),
            rows_per_group: self.parquet_rows_per_group as usize,
            retain: self.parquet_retain.0,
            max_size: self.parquet_max_size.0,
            interval,
        };
        Ok((!self.parquet_dir.as_os_str().is_empty()).then_some(settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told() {
        let config = StoreConfig::default();
        assert_eq!(
            config.check().map(|store| store.recent_window),
            Ok(ByteSize(268_435_456))
        );
        let small = StoreConfig {
            recent_window: ByteSize(1000),
            ..config.clone()
        };
        assert_eq!(small.check(), Err(StoreConfigError::SmallWindow));
        let often = StoreConfig {
            parquet_interval: Period(Duration::from_millis(10)),
            ..config.clone()
        };
        assert_eq!(often.check(), Err(StoreConfigError::Interval));
        let groups = StoreConfig {
            parquet_rows_per_group: 1,
            ..config.clone()
        };
        assert_eq!(groups.check(), Err(StoreConfigError::RowsPerGroup));
        assert_eq!(config.check().map(|store| store.parquet), Ok(None));
        let on = StoreConfig {
            parquet_dir: "store".into(),
            ..config
        };
        let folder = on
            .check()
            .map(|store| store.parquet.map(|parquet| parquet.folder));
        assert_eq!(folder, Ok(Some("store".into())));
    }
}
