//! Whether what a back end needs is there: better found out in peace than in an attack.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::settings::MitigatorSettings;
use super::webhook::Webhook;

/// Where `ip netns` keeps its names.
const NAMESPACES: &str = "/run/netns";

/// Looks for the programs and reads the files that back ends need; nothing is started and nobody is spoken to. Returns what is
/// wrong, a sentence each.
#[must_use]
pub fn probe_mitigators(settings: &[MitigatorSettings]) -> Vec<String> {
    settings
        .iter()
        .flat_map(|settings| {
            let name = settings.name();
            probe(settings)
                .into_iter()
                .map(move |fault| format!("mitigator `{name}`: {fault}"))
        })
        .collect()
}

fn probe(settings: &MitigatorSettings) -> Vec<String> {
    let mut faults = Vec::new();
    match settings {
        MitigatorSettings::Command(settings) => {
            let program = settings.command.first().map_or("", String::as_str);
            faults.extend(missing(program));
        }
        MitigatorSettings::Webhook(settings) => {
            if let Err(error) = Webhook::new(settings) {
                faults.push(error.to_string());
            }
            if let Some(path) = &settings.token_file
                && let Err(error) = fs::read(path)
            {
                faults.push(format!("{}: {error}", path.display()));
            }
        }
        MitigatorSettings::Nftables(settings) => {
            faults.extend(missing("nft"));
            if let Some(namespace) = &settings.namespace {
                faults.extend(missing("ip"));
                if !Path::new(NAMESPACES).join(namespace).exists() {
                    faults.push(format!("there is no network namespace `{namespace}`"));
                }
            }
        }
    }
    faults
}

/// A program that could not be run, as a fault.
fn missing(program: &str) -> Option<String> {
    let is_there = if program.contains('/') {
        is_executable(Path::new(program))
    } else {
        let folders = env::var_os("PATH").unwrap_or_default();
        let mut paths: Vec<PathBuf> = env::split_paths(&folders).collect();
        paths.iter_mut().for_each(|path| path.push(program));
        paths.iter().any(|path| is_executable(path))
    };
    (!is_there).then(|| format!("there is no program `{program}` that could be run"))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::super::settings::{MitigatorConfig, check_all};
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let command = |name: &str, program: &str| MitigatorConfig {
            kind: "command".to_owned(),
            name: name.to_owned(),
            command: vec![program.to_owned()],
            ..MitigatorConfig::default()
        };
        let configs = [
            command("a", "sh"),
            command("b", "/bin/sh"),
            command("c", "/etc/passwd"),
            command("d", "weir-is-no-such-program"),
            MitigatorConfig {
                kind: "webhook".to_owned(),
                url: "https://a.example/".to_owned(),
                ca: "/nowhere/ca.pem".into(),
                token_file: "/nowhere/token".into(),
                ..MitigatorConfig::default()
            },
            MitigatorConfig {
                kind: "nftables".to_owned(),
                namespace: "weir-nowhere".to_owned(),
                ..MitigatorConfig::default()
            },
        ];
        let mut faults = Vec::new();
        let settings = check_all(&configs, &mut faults);
        assert_eq!(faults, []);
        let text = probe_mitigators(&settings).join("\n");
        for part in [
            "`c`: there is no program `/etc/passwd`",
            "`d`: there is no program `weir-is-no-such-program`",
            "`webhook`: /nowhere/ca.pem: ",
            "`webhook`: /nowhere/token: ",
            "`nftables`: there is no network namespace `weir-nowhere`",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("`a`") && !text.contains("`b`"), "{text}");
    }
}
