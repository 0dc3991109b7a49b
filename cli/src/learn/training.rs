use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use weir_models::{Agreement, Data, LessonSettings, Model, NORMAL, TrainSettings, agreements};

use super::arguments::TrainArguments;
use super::{card, data};

/// Runs `weir train`.
pub(crate) fn run(arguments: &TrainArguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        !arguments.thin.is_empty() && arguments.thin.iter().all(|one_in| *one_in > 0),
        "--thin needs numbers from 1"
    );
    let lessons = LessonSettings {
        thinning: arguments.thin.clone(),
        seed: arguments.seed,
        least_percent: arguments.least_share,
        peace_one_in: arguments.peace_one_in,
        ..LessonSettings::default()
    };
    let mut taught = data::read_trusting(
        &arguments.data,
        &arguments.trust,
        arguments.classes,
        lessons.clone(),
    )?;
    let settings = TrainSettings {
        trees: usize::from(arguments.trees),
        seed: arguments.seed,
        lessons,
        false_alarms: arguments.false_alarms / 100.0,
        ..TrainSettings::default()
    };
    let agreements = agreements(&taught.samples, &settings);
    let left_out = contradicted(&agreements, arguments.trust.distrust_contradicted);
    if !left_out.is_empty() {
        let samples = &taught.samples;
        let is_kept =
            |row: usize| samples.class(row) == NORMAL || !left_out.contains(samples.by(row));
        taught.samples = samples.filter(is_kept);
    }
    let about = Data {
        name: arguments.name.clone(),
        sources: taught.sources,
        licences: arguments.licence.clone(),
        weaknesses: arguments.weakness.clone(),
        agreements,
        classes: format!("{:?}", arguments.classes).to_lowercase(),
        ..Data::default()
    };
    let model = weir_models::train(&taught.samples, &settings, taught.counters, about)?;
    let octets = model.write()?;
    write(&arguments.output, &octets, 0o644)?;
    let (_, id) = Model::read(&octets)?;
    println!(
        "{}: model {id}, {} octets",
        arguments.output.display(),
        octets.len()
    );
    print!("{}", card::words(model.card()));
    Ok(())
}

/// Names the sources of labels that a model of all others contradicts; those to be left out.
fn contradicted(agreements: &[Agreement], leave_out: bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for one in agreements.iter().filter(|one| one.is_contradicted()) {
        let percent = |share: Option<f64>| share.map(|share| (share * 100.0).round());
        tracing::warn!(
            source = one.source,
            windows = one.windows,
            attack_percent = percent(one.attack),
            name_percent = percent(one.name),
            left_out = leave_out,
            "all other sources contradict these labels (--distrust leaves them out)"
        );
        found.insert(one.source.clone());
    }
    if !leave_out {
        found.clear();
    }
    found
}

/// Writes a file whole or not at all, with a mode.
pub(super) fn write(path: &Path, octets: &[u8], mode: u32) -> anyhow::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
        .tempfile_in(folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    file.write_all(octets)
        .and_then(|()| file.as_file().sync_all())?;
    file.persist(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}
