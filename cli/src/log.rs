//! Logs go to standard error: text for a person, JSON for a machine.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging as configured; `RUST_LOG` wins over the level.
pub(crate) fn start(config: &LogConfig) {
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(&config.level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !stderr().is_terminal(),
    };
    // A second start (a reload, a test) keeps the first.
    let _ = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(stderr().is_terminal()).try_init()
    };
}

/// Logging of commands that read no configuration or print results: warnings only, as text.
pub(crate) fn start_quiet() {
    start(&LogConfig {
        level: "warn".to_owned(),
        format: LogFormat::Text,
    });
}
