//! `weir` as a command that comes to its end.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "shared by several test binaries, each of which uses a part"
)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs it in a folder.
pub fn weir(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

/// What it prints, where it succeeds.
pub fn done(folder: &Path, arguments: &[&str]) -> String {
    let out = weir(folder, arguments);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success(),
        "weir {arguments:?}: {errors}{}",
        String::from_utf8_lossy(&out.stdout)
    );
    String::from_utf8(out.stdout).unwrap()
}
