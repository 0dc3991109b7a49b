//! Labelled flows of any kind as lessons.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use weir_collector::{Capture, DecoderLimits, Decoders};
use weir_datasets::{
    ImportReport, LabelJoin, LabelledFlow, Truth, family, import, read_attack_labels,
};
use weir_flow_record::{ColumnSet, FlowBatch, Row};
use weir_flow_store::{FlowReader, LabelledReader, is_parquet};
use weir_models::{LessonCounters, LessonSettings, Lessons, Samples, Source, event_rows};

use super::arguments::{Classes, DataArguments, TrustArguments};
use crate::progress::Progress;

/// Everything that was read.
pub(super) struct Taught {
    pub(super) samples: Samples,
    pub(super) counters: LessonCounters,
    /// The files, with what was in them.
    pub(super) sources: Vec<String>,
}

/// Reads all data, whoever labelled them.
pub(super) fn read(
    arguments: &DataArguments,
    classes: Classes,
    settings: LessonSettings,
) -> anyhow::Result<Taught> {
    read_trusting(arguments, &TrustArguments::default(), classes, settings)
}

/// Reads all data; of labels those of sources that are trusted.
pub(super) fn read_trusting(
    arguments: &DataArguments,
    trust: &TrustArguments,
    classes: Classes,
    settings: LessonSettings,
) -> anyhow::Result<Taught> {
    let join = read_labels(arguments, trust)?;
    let mut teacher = Teacher {
        lessons: Lessons::new(settings),
        join,
        classes,
        unlabelled: 0,
        records: 0,
    };
    let mut sources = Vec::new();
    let progress = Progress::of_files("read", &arguments.data);
    for path in &arguments.data {
        sources.push(
            teacher
                .read(path)
                .with_context(|| path.display().to_string())?,
        );
    }
    progress.finish();
    anyhow::ensure!(
        teacher.unlabelled == 0 || teacher.records > teacher.unlabelled,
        "these flows have no labels: give some with --labels"
    );
    for label in teacher.join.iter().flat_map(LabelJoin::unmatched) {
        tracing::warn!(target = %label.target, attack = label.attack, "no flow matches this label");
    }
    if teacher.unlabelled > 0 {
        tracing::warn!(
            records = teacher.unlabelled,
            "records without a label were taken as peace"
        );
    }
    let (samples, counters) = teacher.lessons.finish();
    if counters.undeclared > 0 {
        tracing::warn!(
            windows = counters.undeclared,
            "windows of which nobody says anything were left out (--assume-peace takes them as peace)"
        );
    }
    anyhow::ensure!(
        !samples.is_empty(),
        "there is no flow in these files of which anybody says anything"
    );
    Ok(Taught {
        samples,
        counters,
        sources,
    })
}

/// The labels beside the data, if there are any.
pub(super) fn read_labels(
    arguments: &DataArguments,
    trust: &TrustArguments,
) -> anyhow::Result<Option<LabelJoin>> {
    let Some(path) = &arguments.labels else {
        return Ok(None);
    };
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let labels = read_attack_labels(file).with_context(|| path.display().to_string())?;
    let tolerance = (arguments.tolerance * 1e9) as i64;
    let mut join = LabelJoin::with_trust(labels, tolerance, |by| trust.trusts(by));
    if trust.assume_peace {
        join.assume_peace();
    }
    Ok(Some(join))
}

/// Gives the flows of a file, labelled or not; says in a line what was in it.
pub(super) fn flows(
    path: &Path,
    give: &mut dyn FnMut(&LabelledFlow<'_>),
) -> anyhow::Result<String> {
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    if is_parquet(path) {
        let labelled = match path.is_file() {
            true => LabelledReader::open(path)?,
            false => None,
        };
        if let Some(lines) = labelled {
            let read = import(lines, &name, give)?;
            return Ok(format!("{name}: labelled flows, {} records", read.records));
        }
        for batch in FlowReader::open(&[PathBuf::from(path)])? {
            give_batch(&batch?, &name, give);
        }
        return Ok(format!("{name}: stored flows"));
    }
    match import(File::open(path)?, &name, give) {
        Ok(ImportReport {
            layout,
            records,
            bad,
        }) => {
            if bad > 0 {
                tracing::warn!(file = name, bad, "lines could not be read");
            }
            Ok(format!(
                "{name}: {layout}, {records} records, {bad} bad lines"
            ))
        }
        Err(weir_datasets::ImportError::Unknown(_)) if looks_captured(path)? => {
            let mut decoders = Decoders::new(&DecoderLimits::default(), ColumnSet::NONE);
            let mut batch = FlowBatch::default();
            for datagram in Capture::open(path)? {
                batch.clear();
                decoders.handle_datagram(datagram.at, datagram.from, &datagram.payload, &mut batch);
                give_batch(&batch, &name, give);
            }
            Ok(format!("{name}: captured exports"))
        }
        Err(error) => Err(error.into()),
    }
}

fn give_batch(batch: &FlowBatch, capture: &str, give: &mut dyn FnMut(&LabelledFlow<'_>)) {
    for (row, flags_known) in event_rows(batch) {
        give(&LabelledFlow {
            row,
            flags_known,
            answer: None,
            truth: Truth::Unlabelled,
            capture,
            by: "",
        });
    }
}

struct Teacher {
    lessons: Lessons,
    join: Option<LabelJoin>,
    classes: Classes,
    unlabelled: u64,
    records: u64,
}

impl Teacher {
    /// Reads one file; says in a line what was in it.
    fn read(&mut self, path: &Path) -> anyhow::Result<String> {
        flows(path, &mut |flow| self.take_labelled(flow))
    }

    fn take_labelled(&mut self, flow: &LabelledFlow<'_>) {
        self.take(
            &flow.row,
            flow.flags_known,
            flow.answer,
            (flow.truth, flow.by),
            flow.capture,
        );
    }

    fn take(
        &mut self,
        row: &Row,
        flags_known: bool,
        answer: Option<bool>,
        (truth, said_by): (Truth<'_>, &str),
        capture: &str,
    ) {
        self.records += 1;
        let mut source = Source {
            flags_known,
            answer,
            ..Source::new(capture, None)
        };
        let (attack, by);
        match (truth, &mut self.join) {
            (Truth::Attack(words), _) => {
                (attack, by) = (Some(self.classes.name(words)), said_by.to_owned());
            }
            (Truth::Unlabelled, Some(join)) => {
                let joined = join.join(row);
                source.undeclared = !joined.declared;
                if joined.attack.is_some() {
                    source.answer = Some(joined.answer);
                }
                let name = joined.attack.map(|words| self.classes.name(words));
                (attack, by) = (name, joined.by.to_owned());
            }
            (truth, _) => {
                self.unlabelled += u64::from(truth == Truth::Unlabelled);
                source.undeclared = truth == Truth::Undeclared;
                (attack, by) = (None, String::new());
            }
        }
        source.attack = attack.as_deref();
        source.by = &by;
        self.lessons.handle_row(row, &source);
    }
}

impl Classes {
    fn name(self, words: &str) -> String {
        match self {
            Self::Family => family(words),
            Self::AsIs => words.to_owned(),
            Self::Binary => "attack".to_owned(),
        }
    }
}

/// Whether a file begins as pcap or pcapng.
pub(super) fn looks_captured(path: &Path) -> anyhow::Result<bool> {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = File::open(path)?.read(&mut magic)?;
    let known = [0xa1b2_c3d4_u32, 0xa1b2_3c4d, 0x0a0d_0d0a];
    let word = u32::from_be_bytes(magic);
    Ok(read == 4
        && known
            .iter()
            .any(|one| *one == word || one.swap_bytes() == word))
}
