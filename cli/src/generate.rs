//! `weir generate`: a scenario as a capture, or sent live.

mod live;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use weir_datasets::PcapWriter;
use weir_datasets::generator::{Generator, ScenarioFile, built_in, configuration, kinds};
use weir_datasets::score::write_truths;
use weir_flow_record::{Period, Timestamp};

/// Octets that are written to the capture at once.
const BUFFER: usize = 1 << 20;

#[derive(Args, Debug)]
pub(crate) struct GenerateArguments {
    /// A scenario in TOML, or the name of one that comes with the program (see --list).
    #[arg(required_unless_present = "list", value_name = "SCENARIO")]
    pub(crate) scenario: Option<PathBuf>,
    /// Writes the datagrams to this capture; - writes to standard output, for `weir replay -`.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Writes what really happened: CSV with the header start,end,target,attack,exported. `exported` is when the first
    /// datagram with packets of the attack left.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Writes a configuration that fits the scenario: zones, limits, sampling rates.
    #[arg(long, value_name = "FILE")]
    pub(crate) weir_config: Option<PathBuf>,
    /// Replaces the scenario's seed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Replaces the scenario's duration, such as 2d.
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub(crate) duration: Option<Period>,
    /// Sends the datagrams to this address, each exporter from a socket of its own, in the scenario's time from now on.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "output")]
    pub(crate) to: Option<SocketAddr>,
    /// Lets --to name an address that is not this machine's loopback.
    #[arg(long, requires = "to")]
    pub(crate) remote: bool,
    /// Sends so many times as fast as the scenario's time goes.
    #[arg(long, requires = "to", default_value_t = 1.0, value_parser = positive)]
    pub(crate) speed: f64,
    /// Sends so many datagrams a second, whatever their time.
    #[arg(long, requires = "to", conflicts_with = "speed", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Stops sending after this time.
    #[arg(long, requires = "to", value_name = "TIME", value_parser = period, default_value = "1h")]
    pub(crate) at_most: Period,
    /// Lists the scenarios that come with the program, and the kinds of attacks and benign extremes.
    #[arg(long)]
    pub(crate) list: bool,
    /// Prints the scenario's text, to start one's own from.
    #[arg(long)]
    pub(crate) show: bool,
}

fn period(text: &str) -> Result<Period, String> {
    text.parse::<Period>().map_err(|error| error.to_string())
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("write a number above 0".to_owned()),
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &GenerateArguments) -> anyhow::Result<()> {
    if arguments.list {
        return list();
    }
    let path = arguments.scenario.as_deref().unwrap_or(Path::new(""));
    let text = text(path)?;
    if arguments.show {
        print!("{text}");
        return Ok(());
    }
    let mut file = ScenarioFile::parse(&text).with_context(|| path.display().to_string())?;
    if let Some(seed) = arguments.seed {
        file.seed = seed;
    }
    if let Some(duration) = arguments.duration {
        file.duration = duration;
    }
    if arguments.to.is_some() {
        file.start = Timestamp::from_nanos(jiff::Timestamp::now().as_nanosecond() as i64);
    }
    if let Some(path) = &arguments.weir_config {
        fs::write(path, configuration(&file))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut generator = Generator::new(file).with_context(|| path.display().to_string())?;
    match (arguments.to, &arguments.output) {
        (Some(to), _) => live::send(&mut generator, to, arguments)?,
        (None, Some(path)) => capture(&mut generator, path)?,
        (None, None) if arguments.weir_config.is_some() && arguments.labels.is_none() => {
            return Ok(());
        }
        // When attacks are exported is known at the end only.
        (None, None) => while generator.poll_datagram().is_some() {},
    }
    if let Some(path) = &arguments.labels {
        fs::write(path, write_truths(&generator.labels()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let made = generator.made();
    tracing::info!(
        datagrams = made.datagrams,
        octets = made.octets,
        records = made.records,
        lost = made.lost,
        "generated"
    );
    Ok(())
}

fn capture(generator: &mut Generator, path: &Path) -> anyhow::Result<()> {
    let out: Box<dyn Write> = if path == Path::new("-") {
        Box::new(io::stdout().lock())
    } else {
        Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
    };
    let mut pcap = PcapWriter::new(BufWriter::with_capacity(BUFFER, out))?;
    while let Some(datagram) = generator.poll_datagram() {
        let (from, to) = ends(datagram.from);
        pcap.write(datagram.at, from, to, &datagram.payload)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    pcap.finish()
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// An exporter, and the collector in its family: a capture needs both.
fn ends(from: SocketAddr) -> (SocketAddr, SocketAddr) {
    let port = if from.port() == 6343 { 6343 } else { 4739 };
    let collector = match from.ip() {
        IpAddr::V4(_) => IpAddr::from([192, 0, 2, 250]),
        IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfa]),
    };
    (from, SocketAddr::new(collector, port))
}

fn text(path: &Path) -> anyhow::Result<String> {
    let known = built_in()
        .iter()
        .find(|scenario| Path::new(scenario.name) == path);
    match known {
        Some(scenario) => Ok(scenario.text.to_owned()),
        None => fs::read_to_string(path).with_context(|| {
            format!(
                "{}: neither a scenario that comes with weir nor a file",
                path.display()
            )
        }),
    }
}

/// A line of `--list`.
struct Listed<'a> {
    name: &'a str,
    what: &'a str,
    about: String,
}

fn list() -> anyhow::Result<()> {
    let scenarios = built_in().iter().map(|scenario| {
        let file = ScenarioFile::parse(scenario.text);
        Listed {
            name: scenario.name,
            what: "scenario",
            about: file.map(|file| file.description).unwrap_or_default(),
        }
    });
    let kinds = kinds().map(|(name, vector, about)| Listed {
        name,
        what: vector.map_or("benign", |_| "attack"),
        about: match vector {
            Some(vector) if vector.name() != name => format!("{about}; labelled {vector}"),
            _ => about.to_owned(),
        },
    });
    let mut out = io::stdout().lock();
    for line in scenarios.chain(kinds) {
        writeln!(out, "{:<9} {:<24} {}", line.what, line.name, line.about)?;
    }
    Ok(())
}
