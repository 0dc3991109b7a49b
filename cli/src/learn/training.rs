use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use weir_models::{Data, LessonSettings, Model, TrainSettings};

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
        ..LessonSettings::default()
    };
    let taught = data::read(&arguments.data, arguments.classes, lessons.clone())?;
    let settings = TrainSettings {
        trees: usize::from(arguments.trees),
        seed: arguments.seed,
        lessons,
        ..TrainSettings::default()
    };
    let about = Data {
        name: arguments.name.clone(),
        sources: taught.sources,
        licences: arguments.licence.clone(),
        weaknesses: arguments.weakness.clone(),
        classes: format!("{:?}", arguments.classes).to_lowercase(),
        ..Data::default()
    };
    let model = weir_models::train(&taught.samples, &settings, taught.counters, about)?;
    let octets = model.write()?;
    write(&arguments.output, &octets)?;
    let (_, id) = Model::read(&octets)?;
    println!(
        "{}: model {id}, {} octets",
        arguments.output.display(),
        octets.len()
    );
    print!("{}", card::words(model.card()));
    Ok(())
}

/// Writes a file whole or not at all.
pub(super) fn write(path: &Path, octets: &[u8]) -> anyhow::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    file.write_all(octets)
        .and_then(|()| file.as_file().sync_all())?;
    file.persist(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}
