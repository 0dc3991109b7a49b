//! Generates scenarios, replays and scores them with the binary, and prints a table of the scores.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Parser;
use serde_json::Value;
use weir_datasets::generator::{ScenarioFile, built_in};

/// Generates scenarios, replays and scores them with the binary, and prints a table of the scores
///
/// Exit status 1 if a score does not keep what its scenario expects.
#[derive(Parser, Debug)]
struct Arguments {
    /// Scenarios by name; all that come with weir by default, the large ones last.
    scenarios: Vec<String>,
    /// The weir to run; the one beside this program by default.
    #[arg(long)]
    weir: Option<PathBuf>,
    /// Keeps labels, events, configurations and scores in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Replaces the scenarios' seed.
    #[arg(long)]
    seed: Option<u64>,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What takes minutes.
const LARGE: [&str; 2] = ["peace", "large"];

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let weir = match &arguments.weir {
        Some(weir) => weir.clone(),
        None => std::env::current_exe()?.with_file_name("weir"),
    };
    let folder = tempfile::tempdir()?;
    let folder = match &arguments.keep {
        Some(keep) => {
            std::fs::create_dir_all(keep)?;
            keep.as_path()
        }
        None => folder.path(),
    };
    let mut names: Vec<&str> = built_in().iter().map(|scenario| scenario.name).collect();
    names.sort_by_key(|name| LARGE.iter().position(|large| large == name));
    if !arguments.scenarios.is_empty() {
        names = arguments.scenarios.iter().map(String::as_str).collect();
    }
    println!(
        "{:<24} {:>7} {:>8} {:>9} {:>7} {:>7} {:>6} {:>5} {:>9} {:>8}  kept",
        "scenario",
        "attacks",
        "recall",
        "precision",
        "p50 s",
        "p95 s",
        "false",
        "dup",
        "per 1000",
        "took s"
    );
    let mut kept = true;
    for name in names {
        kept &= run(name, &weir, folder, arguments.seed)?;
    }
    if !kept {
        return Err("a score is not what its scenario expects".into());
    }
    Ok(())
}

fn run(name: &str, weir: &Path, folder: &Path, seed: Option<u64>) -> Outcome<bool> {
    let scenario = built_in().iter().find(|scenario| scenario.name == name);
    let text = scenario
        .ok_or_else(|| format!("there is no scenario `{name}`"))?
        .text;
    let expect = ScenarioFile::parse(text)?.expect;
    let file = |end: &str| folder.join(format!("{name}.{end}"));
    let (config, labels, events) = (file("toml"), file("csv"), file("ndjson"));
    let seed: Vec<String> = seed
        .iter()
        .flat_map(|seed| ["--seed".to_owned(), seed.to_string()])
        .collect();
    let begun = Instant::now();
    let written = Command::new(weir)
        .args(["generate", name])
        .args(&seed)
        .arg("--weir-config")
        .arg(&config)
        .status()?;
    if !written.success() {
        return Err(format!("{name}: weir generate failed").into());
    }
    let mut generate = Command::new(weir)
        .args(["generate", name, "-o", "-"])
        .args(&seed)
        .arg("--labels")
        .arg(&labels)
        .stdout(Stdio::piped())
        .spawn()?;
    let pipe = generate.stdout.take().ok_or("no pipe")?;
    let replayed = Command::new(weir)
        .args(["replay", "-"])
        .stdin(pipe)
        .arg("--config")
        .arg(&config)
        .arg("--events")
        .arg(&events)
        .status()?;
    if !generate.wait()?.success() || !replayed.success() {
        return Err(format!("{name}: weir generate or weir replay failed").into());
    }
    let mut score = Command::new(weir);
    score
        .args(["score", "--details"])
        .arg("--config")
        .arg(&config)
        .arg("--labels")
        .arg(&labels)
        .arg("--events")
        .arg(&events);
    for bound in &expect {
        score.args(["--require", bound]);
    }
    let out = score.output()?;
    let figures: Value = serde_json::from_slice(&out.stdout)?;
    std::fs::write(file("json"), &out.stdout)?;
    let took = begun.elapsed().as_secs_f64();
    println!("{}", line(name, &figures, took, out.status.success()));
    if !out.status.success() {
        eprint!("{}", String::from_utf8_lossy(&out.stderr));
    }
    std::io::stdout().flush()?;
    Ok(out.status.success())
}

fn line(name: &str, figures: &Value, took: f64, kept: bool) -> String {
    let number = |key: &str, places: usize| match figures[key].as_f64() {
        Some(value) => format!("{value:.places$}"),
        None => "-".to_owned(),
    };
    // After the arrival of the first datagram that shows the attack: what the detector itself takes.
    format!(
        "{name:<24} {:>7} {:>8} {:>9} {:>7} {:>7} {:>6} {:>5} {:>9} {took:>8.1}  {}",
        number("attacks", 0),
        number("recall", 3),
        number("precision", 3),
        number("receipt_p50_s", 2),
        number("receipt_p95_s", 2),
        number("false_alarms", 0),
        number("duplicates", 0),
        number("false_alarms_per_day_per_1000", 2),
        if kept { "yes" } else { "NO" }
    )
}
