use serde::{Deserialize, Serialize};
use weir_flow_record::ByteSize;

/// The table `[store]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreConfig {
    /// Memory for the recent window, in octets.
    pub recent_window: ByteSize,
    /// Where Parquet files are written; empty = off.
    pub parquet_dir: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            recent_window: ByteSize(256 << 20),
            parquet_dir: String::new(),
        }
    }
}

/// A checked `[store]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreSettings {
    /// Memory for the recent window, in octets.
    pub recent_window: ByteSize,
}

/// A mistake in `[store]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreConfigError {
    /// Too small to hold the rows of a short attack.
    #[error("recent_window must be at least 1MiB")]
    SmallWindow,
    /// Parquet files are not written yet: taking the setting would promise files that never come.
    #[error("parquet_dir is not available yet: leave it empty")]
    Parquet,
}

const SMALLEST_WINDOW: u64 = 1 << 20;

impl StoreConfig {
    /// Checks the values.
    pub fn check(&self) -> Result<StoreSettings, StoreConfigError> {
        if !self.parquet_dir.is_empty() {
            return Err(StoreConfigError::Parquet);
        }
        if self.recent_window.0 < SMALLEST_WINDOW {
            return Err(StoreConfigError::SmallWindow);
        }
        Ok(StoreSettings {
            recent_window: self.recent_window,
        })
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
        let parquet = StoreConfig {
            parquet_dir: "flows".to_owned(),
            ..config
        };
        assert_eq!(parquet.check(), Err(StoreConfigError::Parquet));
    }
}
