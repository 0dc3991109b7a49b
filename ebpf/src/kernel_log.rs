use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};

/// What the kernel program says of rare events, brought to `tracing` under the target `weir_ebpf::kernel`.
pub(crate) struct KernelLog(EbpfLogger<Forward>);

impl KernelLog {
    pub(crate) fn open(ebpf: &mut Ebpf) -> Option<Self> {
        match EbpfLogger::init_with_logger(ebpf, Forward) {
            Ok(logger) => Some(Self(logger)),
            Err(error) => {
                tracing::warn!(%error, "the sampler's own log lines are not shown; its counters tell the same");
                None
            }
        }
    }

    pub(crate) fn flush(&mut self) {
        self.0.flush();
    }
}

struct Forward;

impl Log for Forward {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The program pads its texts.
        let text = record.args().to_string();
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        match record.level() {
            Level::Error => tracing::error!(target: "weir_ebpf::kernel", "{text}"),
            Level::Warn => tracing::warn!(target: "weir_ebpf::kernel", "{text}"),
            _ => tracing::info!(target: "weir_ebpf::kernel", "{text}"),
        }
    }

    fn flush(&self) {}
}
