//! Bodies that the RFCs print are read, and what we write of them is read again. `examples` has them as printed,
//! `examples-fixed` with identities qualified and misplaced members moved.
#![allow(clippy::unwrap_used, reason = "helper functions of tests")]

mod support;

use serde_json::Value;
use weir_data_channel::model::{
    AclEntry, AclState, Acls, AliasEntry, Aliases, BodyFault, Capabilities, Registration, Source,
    VendorMapping,
};

/// Reads a body as a request, or where it has state as an answer, and writes it anew.
fn read_and_write(name: &str, node: &Value) -> Result<Option<Value>, BodyFault> {
    let has_state = node.to_string().contains("pending-lifetime");
    Ok(match name {
        "ietf-dots-data-channel:dots-client" => {
            let told = Registration::read(node, Source::Request)?;
            Some(Value::Array(vec![told.json()]))
        }
        "ietf-dots-data-channel:aliases" if has_state => {
            assert!(
                Aliases::read(node, Source::Request).is_err(),
                "state is not for requests"
            );
            let aliases = AliasEntry::read_all(node)?
                .into_iter()
                .map(|entry| entry.alias);
            Some(Aliases(aliases.collect()).json())
        }
        "ietf-dots-data-channel:aliases" => Some(Aliases::read(node, Source::Request)?.json()),
        "ietf-dots-data-channel:acls" if has_state => match AclEntry::read_all(node) {
            Ok(acls) => Some(Acls(acls.into_iter().map(|entry| entry.acl).collect()).json()),
            Err(_) => {
                let states = AclState::read_all(node)?;
                assert_eq!(states[0].pending_lifetime, Some(8_000));
                None
            }
        },
        "ietf-dots-data-channel:acls" => Some(Acls::read(node, Source::Request)?.json()),
        "ietf-dots-data-channel:capabilities" => {
            Some(Capabilities::read(node, Source::Request)?.json())
        }
        "ietf-dots-mapping:vendor-mapping" => {
            Some(VendorMapping::read(node, Source::Request)?.json())
        }
        _ => None,
    })
}

/// As printed, but with what the schema's defaults add and identities with their module.
fn without_defaults(node: &mut Value) {
    match node {
        Value::Object(members) => {
            members.retain(|_, child| {
                *child != Value::Bool(false) && *child != Value::Array(Vec::new())
            });
            if members.get("activation-type") == Some(&Value::from("activate-when-mitigating")) {
                members.remove("activation-type");
            }
            members.remove("pending-lifetime");
            for child in members.values_mut() {
                without_defaults(child);
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(without_defaults),
        Value::String(text) => {
            *text = text.replace("ietf-access-control-list:", "");
            if let Some(short) = text.strip_suffix(".00") {
                *text = format!("{short}.0");
            }
        }
        _ => {}
    }
}

#[test]
fn bodies_of_the_rfcs() {
    let mut read = 0;
    for folder in ["specs/dots/examples", "specs/dots/examples-fixed"] {
        let Some(folder) = support::shared(folder) else {
            println!("skipped: no {folder} beside the repository, nor in WEIR_SHARED");
            return;
        };
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
        files.sort();
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|end| end == "json"))
        {
            let body: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            let (name, node) = body.as_object().unwrap().iter().next().unwrap();
            if !name.starts_with("ietf-dots-data-channel") && !name.starts_with("ietf-dots-mapping")
            {
                continue;
            }
            read += 1;
            let done = read_and_write(name, node);
            if file.ends_with("examples/rfc8783-fig34.json") {
                // Printed with the actions inside the matches.
                assert!(done.is_err());
                continue;
            }
            let Some(mut written) =
                done.unwrap_or_else(|fault| panic!("{}: {fault}", file.display()))
            else {
                continue;
            };
            assert!(read_and_write(name, &written).is_ok());
            let mut printed = node.clone();
            without_defaults(&mut printed);
            without_defaults(&mut written);
            assert_eq!(written, printed, "{}", file.display());
        }
    }
    assert!(read >= 30, "{read}");
}

/// What the server answers in row 17, under yanglint.
#[test]
fn answers_are_valid_under_yang() {
    let Some(tool) = support::shared("specs/dots/tools/dots-validate-data.py") else {
        println!("skipped: no validator beside the repository, nor in WEIR_SHARED");
        return;
    };
    if std::process::Command::new("yanglint")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: there is no yanglint");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut service = support::service(
        weir_data_channel::store::Limits::default(),
        weir_data_channel::model::Capabilities::all(),
    );
    let mut files = Vec::new();
    let mut server_files = Vec::new();
    support::run_unchecked("row17.json", |step| {
        let (path, query) = match step.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (step.path.as_str(), None),
        };
        let octets = step.octets();
        let request = weir_data_channel::service::Request {
            method: weir_data_channel::service::Method::of(&step.method),
            path,
            query,
            headers: weir_data_channel::service::Headers::default(),
            body: &octets,
        };
        let now = weir_data_channel::UnixTime(1_800_000_000);
        let response = service.handle_request(&request, std::slice::from_ref(&step.client), now);
        let is_whole = !step.path.contains("nonconfig")
            && !step.path.contains("non-config")
            && !step.path.contains("depth");
        if response.status != 200 || step.method != "GET" || !is_whole {
            return;
        }
        let Ok(body) = serde_json::from_slice::<Value>(&response.body) else {
            return;
        };
        let name = body.as_object().unwrap().keys().next().unwrap();
        let known = ["aliases", "acls", "dots-client", "capabilities"];
        let known = known.map(|known| format!("ietf-dots-data-channel:{known}"));
        let of_server = name.ends_with("vendor-mapping") && !path.contains("dots-client");
        if known.contains(name) || name.ends_with("vendor-mapping") {
            let list = if of_server {
                &mut server_files
            } else {
                &mut files
            };
            let file = folder.path().join(format!(
                "{}-{}.json",
                step.client,
                list.len() + 100 * usize::from(of_server)
            ));
            std::fs::write(&file, &response.body).unwrap();
            list.push(file);
        }
    });
    assert!(files.len() >= 8 && !server_files.is_empty());
    for (files, of_server) in [(files, false), (server_files, true)] {
        let mut command = std::process::Command::new("python3");
        command.arg(&tool).args(files);
        if of_server {
            command.env("SERVER_MAPPING", "1");
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}
