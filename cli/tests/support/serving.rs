//! A daemon that was started, until it serves.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "code of tests")]

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr};

/// Waits until it serves; `tell` hears what it logs meanwhile. The rest of its log has to be read, or it would wait for that.
pub fn serving(daemon: &mut Child, mut tell: impl FnMut(&str)) -> Lines<BufReader<ChildStderr>> {
    let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
    let mut told = String::new();
    loop {
        let Some(line) = lines.next() else {
            let status = daemon.wait().unwrap();
            panic!("the daemon ended at its start ({status}); it said:\n{told}");
        };
        let line = line.unwrap();
        tell(&line);
        if line.contains("HTTP interface") {
            return lines;
        }
        told.push_str(&line);
        told.push('\n');
    }
}
