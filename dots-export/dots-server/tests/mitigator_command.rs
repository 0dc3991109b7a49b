//! A script of the operator's as the back end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backend;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use backend::{report, scope, start, until};
use serde_json::{Value, json};
use weir_dots_proto::body::MitigationStatus;
use weir_dots_server::MitigationId;

/// Notes each message, and answers a question with the counters that are in a file.
const SCRIPT: &str = r#"
folder=$1
message=$(cat)
printf '%s\n' "$message" >> "$folder/heard"
case "$message" in
    *'"action":"report"'*) cat "$folder/counters" ;;
    *192.0.2.66*) echo "not this one" >&2; exit 3 ;;
    *192.0.2.77*) sleep 60 ;;
esac
"#;

fn config(folder: &Path, more: &str) -> String {
    let script = folder.join("filter.sh");
    fs::write(&script, SCRIPT).unwrap();
    fs::write(folder.join("counters"), "").unwrap();
    let (script, folder) = (script.display(), folder.display());
    format!(
        "[[mitigator]]\nkind = 'command'\ncommand = ['/bin/sh', '{script}', '{folder}']\n\
         report_interval = '200ms'\n{more}"
    )
}

/// What the script was told, but for the questions.
fn heard(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("heard")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|message: &Value| message["action"] != "report")
        .collect()
}

fn actions(folder: &Path) -> Vec<String> {
    heard(folder)
        .iter()
        .map(|message| {
            let id = &message["mitigations"][0]["id"];
            format!("{} {id}", message["action"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn a_script_is_told_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut mitigator = start(&config(folder, "quiet_after = '1s'"));
    let wanted = json!({
        "target-prefix": ["192.0.2.1/32"],
        "target-port-range": [{"lower-port": 80, "upper-port": 90}],
        "target-protocol": [6],
    });
    mitigator.apply(MitigationId(1), &scope(&wanted));
    let begun = report(mitigator.as_mut(), "it has begun", |_| true);
    assert_eq!(begun.status, MitigationStatus::AttackMitigationInProgress);
    let messages = heard(folder);
    assert_eq!(messages[0]["action"], "reset");
    assert_eq!(messages[1]["action"], "start");
    assert_eq!(
        messages[1]["mitigations"],
        json!([{"id": 1, "scope": wanted}])
    );
    assert_eq!(messages[0]["run"], messages[1]["run"]);
    assert_ne!(messages[0]["sequence"], messages[1]["sequence"]);

    let counters = r#"{"reports": [{"id": 1, "bytes-dropped": 128000, "pkts-dropped": "1000"}]}"#;
    fs::write(folder.join("counters"), counters).unwrap();
    let dropped = report(mitigator.as_mut(), "it drops", |report| {
        report.packets_dropped == 1000
    });
    assert_eq!(dropped.bytes_dropped, 128_000);
    assert_eq!(
        dropped.status,
        MitigationStatus::AttackSuccessfullyMitigated
    );
    assert!(dropped.packets_per_second_dropped > 0);
    report(
        mitigator.as_mut(),
        "nothing is dropped any more",
        |report| {
            report.status == MitigationStatus::AttackStopped
                && report.packets_per_second_dropped == 0
        },
    );

    let wider = json!({"target-prefix": ["192.0.2.0/28"]});
    mitigator.apply(MitigationId(1), &scope(&wider));
    mitigator.apply(
        MitigationId(2),
        &scope(&json!({"target-prefix": ["192.0.2.2/32"]})),
    );
    until("both are told", || {
        (actions(folder).len() >= 4).then_some(())
    });
    mitigator.withdraw(MitigationId(1));
    until("the end is told", || {
        (actions(folder).len() >= 5).then_some(())
    });
    // A server that ends takes its filters with it.
    drop(mitigator);
    assert_eq!(
        actions(folder),
        [
            "reset null",
            "start 1",
            "change 1",
            "start 2",
            "stop 1",
            "reset null"
        ]
    );
    let messages = heard(folder);
    assert_eq!(
        messages[2]["mitigations"],
        json!([{"id": 1, "scope": wider}])
    );
    assert_eq!(
        messages[4]["mitigations"],
        json!([{"id": 1, "scope": wider}])
    );
}

#[test]
fn a_script_that_refuses_or_hangs_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut mitigator = start(&config(folder, "time_limit = '300ms'\nkeep_on_exit = true"));
    let began = Instant::now();
    for (id, prefix) in [
        (1, "192.0.2.66/32"),
        (2, "192.0.2.77/32"),
        (3, "192.0.2.3/32"),
    ] {
        mitigator.apply(
            MitigationId(id),
            &scope(&json!({"target-prefix": [prefix]})),
        );
    }
    assert!(began.elapsed() < Duration::from_millis(200));
    let refused = report(mitigator.as_mut(), "the first is refused", |report| {
        report.id == MitigationId(1)
    });
    assert_eq!(refused.status, MitigationStatus::AttackExceededCapability);
    // It holds up no other either, and after three tries it is said.
    let third = report(mitigator.as_mut(), "the third is done", |report| {
        report.id == MitigationId(3)
    });
    assert_eq!(third.status, MitigationStatus::AttackMitigationInProgress);
    let hangs = report(mitigator.as_mut(), "the second is not done", |report| {
        report.id == MitigationId(2)
    });
    assert_eq!(hangs.status, MitigationStatus::AttackExceededCapability);
    let began = Instant::now();
    mitigator.withdraw(MitigationId(2));
    assert!(began.elapsed() < Duration::from_millis(200));
    drop(mitigator);
    // What was asked to stay stays.
    let resets = heard(folder)
        .iter()
        .filter(|message| message["action"] == "reset")
        .count();
    assert_eq!(resets, 1);
}
