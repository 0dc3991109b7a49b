//! `weir sample`: packets of an interface as flow records, printed or exported.

mod export;

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use weir_collector::wall_clock;
use weir_ebpf::{Observation, Sampler, SamplerSettings, capability};
use weir_flow_record::{ColumnSet, FlowBatch, ReceivedAt};

use crate::arguments::SampleArguments;
use crate::decode::records::{Records, is_for_terminal};
use export::FlowExporter;

/// Time between two reads: a ring of 16 MiB takes 80,000 samples.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs the command until it is stopped, or has given what it was asked for.
pub(crate) fn run(arguments: &SampleArguments) -> anyhow::Result<()> {
    if arguments.export.is_none() && is_for_terminal(arguments.format, None) {
        anyhow::bail!("this format is not for a terminal: send it elsewhere");
    }
    let duration = arguments.duration()?;
    let mut sources = Vec::new();
    for interface in &arguments.interfaces {
        let settings = settings(arguments, interface);
        let sampler = Sampler::open(&settings)?;
        tell(&sampler.story());
        let observation = Observation::of(&sampler);
        sources.push((sampler, observation));
    }
    let mut sink = match &arguments.export {
        Some(target) => Sink::Export(
            sources
                .iter()
                .map(|(_, observation)| FlowExporter::open(target, observation))
                .collect::<anyhow::Result<_>>()?,
        ),
        None => Sink::Print(Box::new(Records::new(arguments.format, None)?)),
    };
    capability::drop_all()?;
    let stop = stop_flag()?;
    let end = duration.map(|duration| Instant::now() + duration);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 && !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        let mut more = false;
        for (number, (sampler, observation)) in sources.iter_mut().enumerate() {
            batch.clear();
            let now = ReceivedAt::from_nanos(wall_clock());
            let records = sampler.read(now, observation, &mut batch, None);
            more |= records == Sampler::MOST_RECORDS;
            cut(&mut batch, left);
            left -= batch.len() as u64;
            match sink.handle_batch(number, now, &batch, &mut out) {
                // Whoever reads has seen enough, as with `| head`.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                done => done.context("cannot write")?,
            }
        }
        if !more {
            std::thread::sleep(PAUSE);
        }
    }
    sink.finish(&mut out).context("cannot write")?;
    for (sampler, _) in &mut sources {
        tell(&summary(sampler));
    }
    Ok(())
}

/// Says something to whoever started this, who may have gone.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn settings(arguments: &SampleArguments, interface: &str) -> SamplerSettings {
    SamplerSettings {
        interface: interface.to_owned(),
        sample_one_in: arguments.one_in,
        mode: arguments.mode,
        exact: arguments.exact,
        headers: !arguments.exact,
        promiscuous: !arguments.no_promiscuous,
        ..SamplerSettings::default()
    }
}

/// Keeps `most` records.
fn cut(batch: &mut FlowBatch, most: u64) {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if batch.len() > most {
        batch.truncate(most);
        for datagram in &mut batch.datagrams {
            datagram.rows.end = datagram.rows.end.min(most as u32);
        }
    }
}

/// Where records go.
enum Sink {
    Print(Box<Records>),
    /// One for each interface.
    Export(Vec<FlowExporter>),
}

impl Sink {
    fn handle_batch(
        &mut self,
        source: usize,
        now: ReceivedAt,
        batch: &FlowBatch,
        out: &mut impl Write,
    ) -> io::Result<()> {
        match self {
            Self::Print(_) if batch.is_empty() => Ok(()),
            Self::Print(records) => {
                records.write(batch, out)?;
                records.flush(out)
            }
            Self::Export(exporters) => {
                if let Some(exporter) = exporters.get_mut(source) {
                    exporter.handle_batch(now, batch);
                }
                Ok(())
            }
        }
    }

    fn finish(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Print(records) => {
                records.finish(out)?;
                out.flush()
            }
            Self::Export(exporters) => {
                for mut exporter in exporters {
                    exporter.finish(ReceivedAt::from_nanos(wall_clock()));
                    tell(&exporter.summary());
                }
                Ok(())
            }
        }
    }
}

fn summary(sampler: &mut Sampler) -> String {
    let totals = sampler.totals();
    let lost = sampler.lost_records(&totals);
    format!(
        "{}: {} packets, {} octets; {} sampled, {} of them without IP, {lost} records lost",
        sampler.interface(),
        totals.packets,
        totals.octets,
        totals.samples,
        totals.without_ip,
    )
}

/// Set by SIGINT or SIGTERM.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (mut terminate, mut interrupt) = {
        let _guard = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        flag.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}
