//! The bodies that the RFCs print, in both forms, and bodies that servers have to refuse.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::fs;
use std::path::Path;

use serde_json::Value;
use weir_dots_proto::body::{
    Heartbeat, Mitigation, Redirect, SignalConfig, Telemetry, TelemetrySetup,
};
use weir_dots_proto::{
    Body, BodyKind, RequestFault, check_request, check_response, decode, encode, read_json,
};

/// Printed with faults, so that CBOR and JSON differ.
const DEFECTIVE: [&str; 2] = ["rfc9244-fig43", "rfc9387-fig15"];

fn names(folder: &Path, extension: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            Some(
                entry
                    .ok()?
                    .file_name()
                    .to_str()?
                    .strip_suffix(extension)?
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    names
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The message type's kind, and its typed form as JSON again.
fn typed(json: &Value) -> (BodyKind, Value) {
    fn through<T: Body>(json: &Value) -> Value {
        T::from_json(json).unwrap().to_json()
    }
    let root = json.as_object().unwrap().keys().next().unwrap().as_str();
    match root {
        Mitigation::ROOT => (BodyKind::Mitigation, through::<Mitigation>(json)),
        SignalConfig::ROOT => (BodyKind::SignalConfig, through::<SignalConfig>(json)),
        Redirect::ROOT => (BodyKind::Redirect, through::<Redirect>(json)),
        Heartbeat::ROOT => (BodyKind::Heartbeat, through::<Heartbeat>(json)),
        TelemetrySetup::ROOT => (BodyKind::TelemetrySetup, through::<TelemetrySetup>(json)),
        Telemetry::ROOT => (BodyKind::Telemetry, through::<Telemetry>(json)),
        _ => panic!("{root}"),
    }
}

#[test]
fn cbor_and_json_are_the_same_body() {
    let Some(specs) = common::dots_specs() else {
        return;
    };
    let mut compared = 0;
    for name in names(&specs.join("examples-cbor"), ".cbor") {
        let octets = fs::read(specs.join("examples-cbor").join(format!("{name}.cbor"))).unwrap();
        let decoded = decode(&octets).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            decode(&encode(&decoded).unwrap()).unwrap(),
            decoded,
            "{name}"
        );
        if DEFECTIVE.contains(&name.as_str()) {
            continue;
        }
        let mut path = specs.join("examples").join(format!("{name}.json"));
        if let Some(name) = name.strip_suffix("-fixed") {
            path = specs.join("examples-fixed").join(format!("{name}.json"));
        }
        let json = read(&path);
        if name == "rfc9387-fig19" {
            // Prints a port as a string, which is the same value but not the same JSON.
            let printed = json.to_string();
            assert!(printed.contains(r#""lower-port":"53""#));
            assert_eq!(decode(&encode(&json).unwrap()).unwrap(), decoded);
            assert_eq!(decoded.to_string(), printed.replace(r#""53""#, "53"));
            compared += 1;
            continue;
        }
        assert_eq!(decoded, json, "{name}");
        assert_eq!(encode(&json).unwrap().len(), octets.len(), "{name}");
        assert_eq!(typed(&json).1, json, "{name}: typed");
        compared += 1;
    }
    println!("{compared} examples compared");
    assert_eq!(compared, 45);
}

#[test]
fn printed_requests_and_responses_pass_their_checks() {
    let Some(specs) = common::dots_specs() else {
        return;
    };
    let manifest = fs::read_to_string(specs.join("examples/MANIFEST.csv")).unwrap();
    let (mut requests, mut responses) = (0, 0);
    for line in manifest
        .lines()
        .filter(|line| line.contains("-strict,VALID"))
    {
        let json = read(&specs.join(line.split(',').next().unwrap()));
        let (mut kind, _) = typed(&json);
        if line.contains("s2c-strict") {
            assert_eq!(check_response(kind, &json), Ok(()), "{line}");
            responses += 1;
        } else {
            if json.to_string().contains("attack-status") {
                kind = BodyKind::Efficacy;
            }
            assert_eq!(check_request(kind, &json), Ok(()), "{line}");
            requests += 1;
        }
    }
    println!("{requests} requests, {responses} responses checked");
    assert!(requests >= 30 && responses >= 8, "{requests} {responses}");
}

#[test]
fn invalid_requests_are_refused() {
    let Some(specs) = common::dots_specs() else {
        return;
    };
    let folder = specs.join("examples-invalid");
    let mut refused = 0;
    for name in names(&folder, ".json") {
        let text = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let kind = match json.as_object().unwrap().keys().next().unwrap().as_str() {
            Mitigation::ROOT => BodyKind::Mitigation,
            TelemetrySetup::ROOT => BodyKind::TelemetrySetup,
            _ => BodyKind::Telemetry,
        };
        let fault = check_request(kind, &json).expect_err(&name);
        println!("{name}: {fault:?}");
        let by_reader = read_json(&text).is_err();
        assert_eq!(by_reader, name == "bad-gauge-as-number", "{name}");
        if !by_reader {
            // The same over the wire.
            let decoded = decode(&encode(&json).unwrap()).unwrap();
            assert_eq!(check_request(kind, &decoded), Err(fault.clone()), "{name}");
        }
        let unprocessable =
            ["bad-notify-interval", "bad-percentile-order"].contains(&name.as_str());
        assert_eq!(
            matches!(fault, RequestFault::Unprocessable(_)),
            unprocessable,
            "{name}"
        );
        refused += 1;
    }
    assert_eq!(refused, 15);
}

#[test]
fn every_parameter_has_the_registered_key() {
    let Some(specs) = common::dots_specs() else {
        return;
    };
    let registry = fs::read_to_string(specs.join("cbor-keys.csv")).unwrap();
    let mut count = 0;
    for line in registry.lines().skip(1) {
        // Types have no comma; only notes do.
        let (name, rest) = line.split_once(',').unwrap();
        let key = rest.split(',').nth(1).unwrap().parse::<u16>().unwrap();
        assert_eq!(
            weir_dots_proto::keys::by_name(name).map(|parameter| parameter.key),
            Some(key),
            "{name}"
        );
        count += 1;
    }
    assert_eq!(count, weir_dots_proto::keys::PARAMETERS.len());
}

#[test]
fn every_enumeration_has_the_registered_numbers() {
    use weir_dots_proto::keys::{Kind, by_name};
    let Some(specs) = common::dots_specs() else {
        return;
    };
    let registry = fs::read_to_string(specs.join("cbor-enums.csv")).unwrap();
    let mut count = 0;
    for line in registry.lines().skip(1) {
        let [name, label, number] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let (Kind::Enumeration(labels) | Kind::EnumerationList(labels)) =
            by_name(name).unwrap().kind
        else {
            panic!("{name}");
        };
        assert_eq!(
            labels[number.parse::<usize>().unwrap() - 1],
            label,
            "{name}"
        );
        count += 1;
    }
    assert_eq!(count, 76);
}
