//! The demo's story: each step is told when it is really seen, and the end says whether all of them were.

use std::io::Write;
use std::time::{Duration, Instant};

use weir_attack_event::{AttackEvent, EventKind, MitigationStatus};
use weir_dots_export::{ClientNotice, SessionState};

use crate::daemon::Story;

/// The steps that must be seen, in the order in which they are told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Step {
    Session,
    Normal,
    Attack,
    Detected,
    TopTalkers,
    Accepted,
    Told,
    Dropped,
    BackToNormal,
    Stopped,
    Ended,
    Withdrawn,
}

const STEPS: [Step; 12] = [
    Step::Session,
    Step::Normal,
    Step::Attack,
    Step::Detected,
    Step::TopTalkers,
    Step::Accepted,
    Step::Told,
    Step::Dropped,
    Step::BackToNormal,
    Step::Stopped,
    Step::Ended,
    Step::Withdrawn,
];

/// Listens to what happens and tells it.
pub(crate) struct Teller<W> {
    out: W,
    begin: Instant,
    seen: Vec<(Step, Instant)>,
    attack_began: Option<Instant>,
    normal_bits: u64,
    peak_bits: u64,
    newest_second: i64,
    dropped: u64,
    told_vectors: String,
}

impl<W: Write> Teller<W> {
    /// A story that begins now.
    pub(crate) fn new(out: W, now: Instant) -> Self {
        Self {
            out,
            begin: now,
            seen: Vec::new(),
            attack_began: None,
            normal_bits: 0,
            peak_bits: 0,
            newest_second: i64::MIN,
            dropped: 0,
            told_vectors: String::new(),
        }
    }

    /// Tells something that is no step.
    pub(crate) fn say(&mut self, now: Instant, text: &str) {
        let at = now.duration_since(self.begin).as_secs_f64();
        let _ = writeln!(self.out, "{at:6.2} s  {text}");
        let _ = self.out.flush();
    }

    /// The simulated attack's first packets pass the router.
    pub(crate) fn handle_attack(&mut self, now: Instant, text: &str) {
        self.attack_began = Some(now);
        self.step(now, Step::Attack, text);
    }

    /// Whether normal traffic was seen.
    pub(crate) fn is_ready(&self) -> bool {
        self.has(Step::Session) && self.has(Step::Normal)
    }

    /// Whether the story has come to its end.
    pub(crate) fn is_over(&self) -> bool {
        STEPS.iter().all(|step| self.has(*step))
    }

    /// Steps that were not seen.
    pub(crate) fn missing(&self) -> Vec<Step> {
        STEPS.into_iter().filter(|step| !self.has(*step)).collect()
    }

    /// Takes in something that happened.
    pub(crate) fn handle(&mut self, now: Instant, story: &Story) {
        match story {
            Story::Level { second, octets } => {
                self.handle_level(now, *second, octets.saturating_mul(8))
            }
            Story::Event(event) => self.handle_event(now, event),
            Story::Notice(notice) => self.handle_notice(now, notice),
        }
    }

    fn handle_level(&mut self, now: Instant, second: i64, bits: u64) {
        if second <= self.newest_second {
            return;
        }
        self.newest_second = second;
        if self.attack_began.is_none() {
            self.normal_bits = self.normal_bits.max(bits);
            if bits > 0 {
                self.step(
                    now,
                    Step::Normal,
                    &format!("normal traffic of the zone: {}", bit_rate(bits)),
                );
            }
            return;
        }
        self.peak_bits = self.peak_bits.max(bits);
        if self.has(Step::Dropped) && bits < self.peak_bits / 10 {
            let text = format!(
                "the exports show it: the zone is back at {} (peak {})",
                bit_rate(bits),
                bit_rate(self.peak_bits)
            );
            self.step(now, Step::BackToNormal, &text);
        }
    }

    fn handle_event(&mut self, now: Instant, event: &AttackEvent) {
        match event.kind {
            EventKind::AttackStart => {
                self.told_vectors = vectors(event);
                let text = format!(
                    "attack detected on {} ({}), severity {}",
                    event.target.prefix,
                    self.told_vectors,
                    severity(event)
                );
                self.step(now, Step::Detected, &text);
                for reason in &event.why {
                    self.say(now, &format!("   why: {}", reason.0));
                }
            }
            EventKind::AttackUpdate => {
                let told = vectors(event);
                if self.told_vectors != told {
                    self.say(
                        now,
                        &format!("attack update: {told}, severity {}", severity(event)),
                    );
                    self.told_vectors = told;
                }
            }
            EventKind::AttackEnd => {
                let text = format!(
                    "attack ended on {}: {}",
                    event.target.prefix,
                    vectors(event)
                );
                self.step(now, Step::Ended, &text);
            }
        }
        if let Some(found) = event
            .findings
            .as_ref()
            .filter(|found| !found.top_talkers.is_empty())
            && !self.has(Step::TopTalkers)
        {
            let text = format!(
                "drill-down: {} sources seen; top talkers:",
                found.source_count
            );
            self.step(now, Step::TopTalkers, &text);
            for talker in found.top_talkers.iter().take(5) {
                let text = format!(
                    "   {:<20} {:>12}  {:4.1} %",
                    talker.source_prefix.to_string(),
                    bit_rate(talker.bits_per_second),
                    talker.share * 100.0
                );
                self.say(now, &text);
            }
        }
    }

    fn handle_notice(&mut self, now: Instant, notice: &ClientNotice) {
        match notice {
            ClientNotice::Session {
                upstream,
                state: SessionState::Up,
            } => {
                let text = format!(
                    "DOTS session with {upstream} stands (DTLS 1.2, certificates on both sides)"
                );
                self.step(now, Step::Session, &text);
            }
            ClientNotice::Session { upstream, state } => {
                self.say(now, &format!("session with {upstream}: {state:?}"))
            }
            ClientNotice::Granted(report) => {
                let text = format!("mitigation request accepted (2.01): mid {}", report.mid);
                if self.has(Step::Accepted) {
                    self.say(
                        now,
                        &format!("{text}, for a scope that holds the newly seen vectors too"),
                    );
                } else {
                    self.step(now, Step::Accepted, &text);
                }
            }
            ClientNotice::Told { tmid, .. } => {
                self.step(now, Step::Told, &format!("telemetry accepted: tmid {tmid}"));
            }
            ClientNotice::Status(report) => {
                self.dropped = report.bytes_dropped.unwrap_or(0).max(self.dropped);
                if report.status == MitigationStatus::AttackSuccessfullyMitigated
                    && self.dropped > 0
                {
                    let rate = report
                        .bytes_dropped_per_second
                        .unwrap_or(0)
                        .saturating_mul(8);
                    let text = format!(
                        "status 2, attack successfully mitigated: {} octets dropped so far, {} now",
                        self.dropped,
                        bit_rate(rate)
                    );
                    self.step(now, Step::Dropped, &text);
                }
                if report.status == MitigationStatus::AttackStopped {
                    let text = format!(
                        "status 3, attack stopped: {} octets dropped in all",
                        self.dropped
                    );
                    self.step(now, Step::Stopped, &text);
                }
            }
            // A request with a wider scope takes the place of the one before, which is withdrawn.
            ClientNotice::Withdrawn { mid, .. } if !self.has(Step::Ended) => {
                self.say(
                    now,
                    &format!("mitigation {mid} withdrawn: a wider one has taken its place"),
                );
            }
            ClientNotice::Withdrawn { mid, .. } => {
                self.step(
                    now,
                    Step::Withdrawn,
                    &format!("mitigation {mid} withdrawn (2.02)"),
                );
            }
            ClientNotice::Refused {
                code, diagnostic, ..
            } => {
                self.say(now, &format!("request refused: {code} {diagnostic}"));
            }
            _ => {}
        }
    }

    fn step(&mut self, now: Instant, step: Step, text: &str) {
        if !self.has(step) {
            self.seen.push((step, now));
            self.say(now, text);
        }
    }

    fn has(&self, step: Step) -> bool {
        self.seen.iter().any(|(seen, _)| *seen == step)
    }

    /// The summary at the end.
    pub(crate) fn finish(&mut self, now: Instant) {
        let after_attack = |step: Step| -> Option<Duration> {
            let at = self.seen.iter().find(|(seen, _)| *seen == step)?.1;
            Some(at.duration_since(self.attack_began?))
        };
        let lines: Vec<String> = [
            ("attack start to detection", Step::Detected),
            ("attack start to accepted request", Step::Accepted),
            (
                "attack start to first dropped octets reported",
                Step::Dropped,
            ),
        ]
        .into_iter()
        .filter_map(|(text, step)| {
            Some(format!(
                "   {text}: {:.2} s",
                after_attack(step)?.as_secs_f64()
            ))
        })
        .collect();
        self.say(now, "summary:");
        for line in lines {
            self.say(now, &line);
        }
        let missing = self.missing();
        if missing.is_empty() {
            self.say(
                now,
                &format!("   all {} steps were seen on the wire", STEPS.len()),
            );
        } else {
            self.say(now, &format!("   not seen: {missing:?}"));
        }
    }
}

fn severity(event: &AttackEvent) -> String {
    format!("{:?}", event.severity).to_lowercase()
}

/// The vectors with their shares in tens of percent: small changes are no news.
fn vectors(event: &AttackEvent) -> String {
    let shares = event
        .vectors
        .iter()
        .map(|vector| format!("{} {:.0} %", vector.name, vector.share * 100.0));
    shares.collect::<Vec<_>>().join(", ")
}

/// A rate with an SI prefix, for reading.
pub(crate) fn bit_rate(bits: u64) -> String {
    let (value, unit) = match bits {
        0..1_000 => return format!("{bits} bit/s"),
        1_000..1_000_000 => (bits as f64 / 1e3, "kbit/s"),
        1_000_000..1_000_000_000 => (bits as f64 / 1e6, "Mbit/s"),
        _ => (bits as f64 / 1e9, "Gbit/s"),
    };
    format!("{value:.1} {unit}")
}
