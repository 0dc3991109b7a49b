//! The model that ships with the program: made again by its script octet by octet, and in shadow from the first start on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/command.rs"]
mod command;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use command::done;
use serde_json::Value;
use support::{Daemon, Lab, eventually};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

#[test]
fn its_script_makes_it_octet_by_octet() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made.weirmodel");
    let status = Command::new(models().join("default.sh"))
        .args([Path::new(env!("CARGO_BIN_EXE_weir")), &made])
        .status();
    assert!(status.unwrap().success());
    let (made, shipped) = (
        fs::read(&made).unwrap(),
        fs::read(models().join("default.weirmodel")).unwrap(),
    );
    // linfa's products of matrices are summed in another order where a processor cannot multiply and add at once.
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") {
        assert!(made == shipped, "models/default.sh makes another model");
        return;
    }
    let part = |octets: &[u8]| octets.len();
    assert!(part(&made).abs_diff(part(&shipped)) < 1000);
}

#[test]
fn a_fresh_daemon_has_it_in_shadow_unless_it_is_turned_off() {
    let lab = Lab::new();
    let folder = lab.folder.path();
    let list = || -> Vec<Value> {
        let text = done(
            folder,
            &["models", "list", "--config", "weir.toml", "--json"],
        );
        serde_json::from_str(&text).unwrap()
    };
    let daemon = Daemon::start(&lab.config);
    assert!(eventually(Duration::from_secs(10), || list().len() == 1));
    assert_eq!(list()[0]["state"], "shadow");
    assert_eq!(daemon.terminate(), Some(0));
    let card = done(folder, &["models", "show", "default"]);
    assert!(
        card.contains("shipped with Weir") && card.contains("weakness"),
        "{card}"
    );

    // Whoever deletes it is not given it again.
    let id = list()[0]["id"].as_str().unwrap().to_owned();
    let file = folder.join(format!("state/models/{id}.weirmodel"));
    fs::remove_file(&file).unwrap();
    let daemon = Daemon::start(&lab.config);
    assert!(list().is_empty());
    assert_eq!(daemon.terminate(), Some(0));

    // Turned off and on again, it goes and comes.
    let config = fs::read_to_string(&lab.config).unwrap();
    fs::write(&lab.config, format!("{config}[models]\ndefault = false\n")).unwrap();
    assert_eq!(Daemon::start(&lab.config).terminate(), Some(0));
    assert!(list().is_empty());
    fs::write(&lab.config, &config).unwrap();
    assert_eq!(Daemon::start(&lab.config).terminate(), Some(0));
    assert_eq!(list().len(), 1);
    fs::write(&lab.config, format!("{config}[models]\ndefault = false\n")).unwrap();
    assert_eq!(Daemon::start(&lab.config).terminate(), Some(0));
    assert!(list().is_empty());
}
