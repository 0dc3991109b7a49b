//! The committed object is what clang 14 makes of the committed source.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_checksum_is_that_of_the_object() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf");
    let output = Command::new("sha256sum")
        .args(["--check", "--strict", "sampler.bpf.o.sha256"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_object_is_built_from_the_source() {
    for tool in ["clang-14", "llvm-strip-14"] {
        if Command::new(tool).arg("--version").output().is_err() {
            support::skip(&format!("needs {tool} (Debian: clang-14, llvm-14)"));
            return;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf");
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let output = Command::new("bash")
        .arg("build.sh")
        .arg("rebuilt.o")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let rebuilt = fs::read(folder.path().join("rebuilt.o")).unwrap();
    let committed = fs::read(source.join("sampler.bpf.o")).unwrap();
    assert!(
        rebuilt == committed,
        "run ebpf/src/bpf/build.sh, and commit the object with its checksum"
    );
}
