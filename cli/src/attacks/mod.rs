//! `weir attacks …`: what the daemon sees, and an operator's word on it.

pub(crate) mod api;
mod label;
mod said;
mod words;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use hyper::Method;
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_attack_event::{AttackEvent, EventKind};
use weir_collector::wall_clock;
use weir_detector::Mute;
use weir_flow_record::{ColumnSet, Direction, Timestamp};
use weir_state::State;

use self::api::{Answer, AttackView, Ending, Muting, Starting};
pub(crate) use self::label::{Label, Labelling};
pub(crate) use self::said::Said;
use crate::arguments::{
    self, AttacksCommand, EndAttackArguments, LabelArguments, LabelsArguments,
    ListAttacksArguments, MuteArguments, ShowAttackArguments, StartAttackArguments,
    UnmuteArguments,
};
use crate::dots::runtime;
use crate::journal::Journal;
use crate::{admin, config};

/// Ended attacks that are listed unless all are asked for.
const LISTED: usize = 20;

/// Runs a command.
pub(crate) fn run(command: AttacksCommand) -> anyhow::Result<()> {
    match command {
        AttacksCommand::List(arguments) => list(&arguments),
        AttacksCommand::Show(arguments) => show(&arguments),
        AttacksCommand::Start(arguments) => start(&arguments),
        AttacksCommand::End(arguments) => end(&arguments),
        AttacksCommand::Mute(arguments) => mute(&arguments),
        AttacksCommand::Unmute(arguments) => unmute(&arguments),
        AttacksCommand::Label(arguments) => label(&arguments),
        AttacksCommand::Labels(arguments) => labels(&arguments),
    }
}

fn list(arguments: &ListAttacksArguments) -> anyhow::Result<()> {
    let daemon = Asked::new(&arguments.config.config)?;
    let mut events: Vec<AttackEvent> = daemon.get("/api/v1/attacks")?;
    if !arguments.all {
        let open = |event: &AttackEvent| event.kind != EventKind::AttackEnd;
        let listed = events.iter().filter(|event| open(event)).count() + LISTED;
        events.truncate(listed);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&events)?);
        return Ok(());
    }
    print!("{}", table(&events));
    let mutes: Vec<Mute> = daemon.get("/api/v1/attacks/mutes")?;
    for mute in mutes {
        let until = mute.until.map_or_else(
            || "until it is unmuted".to_owned(),
            |until| format!("until {until}"),
        );
        let space = if mute.note.is_empty() { "" } else { ": " };
        println!("muted: {} {until}{space}{}", mute.prefix, mute.note);
    }
    Ok(())
}

fn table(events: &[AttackEvent]) -> String {
    if events.is_empty() {
        return "no attacks\n".to_owned();
    }
    let mut text = format!(
        "{:<18} {:<6} {:<30} {:<16} {:<4} {:<8} {:<20} {:>12} {:>14} {:>16}  {}\n",
        "ATTACK",
        "STATE",
        "TARGET",
        "ZONE",
        "DIR",
        "SEVERITY",
        "START",
        "LASTED",
        "PEAK",
        "",
        "KINDS"
    );
    for event in events {
        let ended = event.kind == EventKind::AttackEnd;
        let until = event.end_time.unwrap_or(event.time);
        let start = Timestamp::from_seconds(event.start_time.second());
        text.push_str(&format!(
            "{:<18} {:<6} {:<30} {:<16} {:<4} {:<8} {:<20} {:>12} {:>14} {:>16}  {}\n",
            event.id.to_string(),
            if ended { "ended" } else { "open" },
            event.target.prefix.to_string(),
            event.target.zone,
            format!("{:?}", event.target.direction).to_lowercase(),
            format!("{:?}", event.severity).to_lowercase(),
            start.to_string(),
            words::span(event.start_time, until),
            words::rate(event.traffic.bits_per_second.peak, "bit/s"),
            words::rate(event.traffic.packets_per_second.peak, "packets/s"),
            words::vectors(&event.vectors),
        ));
    }
    text
}

fn show(arguments: &ShowAttackArguments) -> anyhow::Result<()> {
    let daemon = Asked::new(&arguments.config.config)?;
    let view: AttackView = daemon.get(&format!("/api/v1/attacks/{}", path(&arguments.attack)?))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&view)?);
    } else {
        print!("{view}");
    }
    Ok(())
}

/// A name as a part of a path.
fn path(attack: &str) -> anyhow::Result<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    anyhow::ensure!(
        !attack.is_empty() && attack.chars().all(is_plain),
        "no attack is named `{attack}`"
    );
    Ok(attack)
}

fn start(arguments: &StartAttackArguments) -> anyhow::Result<()> {
    let wanted = Starting {
        target: arguments::prefix(&arguments.target).map_err(anyhow::Error::msg)?,
        direction: if arguments.outbound {
            Direction::Out
        } else {
            Direction::In
        },
        vector: arguments.vector.clone(),
        lifetime: arguments.lifetime.map(|time| time.0.as_secs()),
        note: arguments.note.clone(),
    };
    let daemon = Asked::new(&arguments.config.config)?;
    let answer: Answer = daemon.post("/api/v1/attacks/start", &wanted)?;
    tell(&answer);
    Ok(())
}

fn end(arguments: &EndAttackArguments) -> anyhow::Result<()> {
    let wanted = Ending {
        attack: arguments.attack.clone(),
        note: arguments.note.clone(),
    };
    let daemon = Asked::new(&arguments.config.config)?;
    let answer: Answer = daemon.post("/api/v1/attacks/end", &wanted)?;
    tell(&answer);
    Ok(())
}

fn mute(arguments: &MuteArguments) -> anyhow::Result<()> {
    let wanted = Muting {
        prefix: arguments::prefix(&arguments.prefix).map_err(anyhow::Error::msg)?,
        seconds: arguments.time.map(|time| time.0.as_secs()),
        note: arguments.note.clone(),
    };
    let daemon = Asked::new(&arguments.config.config)?;
    let answer: Answer = daemon.post("/api/v1/attacks/mute", &wanted)?;
    println!("muted {}", wanted.prefix);
    for attack in answer.attacks {
        println!("ended {attack}");
    }
    Ok(())
}

fn unmute(arguments: &UnmuteArguments) -> anyhow::Result<()> {
    let wanted = Muting {
        prefix: arguments::prefix(&arguments.prefix).map_err(anyhow::Error::msg)?,
        seconds: None,
        note: String::new(),
    };
    let daemon = Asked::new(&arguments.config.config)?;
    let _: Answer = daemon.post("/api/v1/attacks/unmute", &wanted)?;
    println!("unmuted {}", wanted.prefix);
    Ok(())
}

fn tell(answer: &Answer) {
    for attack in &answer.attacks {
        println!("{} {attack}", answer.done);
    }
}

fn label(arguments: &LabelArguments) -> anyhow::Result<()> {
    let who = ["SUDO_USER", "USER", "LOGNAME"];
    let who = who.iter().find_map(|name| std::env::var(name).ok());
    let wanted = Labelling {
        attack: arguments.attack.clone(),
        name: arguments.name.clone(),
        by: arguments
            .by
            .clone()
            .or(who)
            .unwrap_or_else(|| "unknown".to_owned()),
        note: arguments.note.clone(),
    };
    wanted.check().map_err(anyhow::Error::msg)?;
    let daemon = Asked::new(&arguments.config.config)?;
    let label: Label = daemon.post("/api/v1/attacks/label", &wanted)?;
    println!("labelled {} {} by {}", label.attack, label.name, label.by);
    Ok(())
}

fn labels(arguments: &LabelsArguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config.config, ColumnSet::NONE)?;
    let said: Vec<Said> = match asked::<()>(
        &settings.state_dir,
        Method::GET,
        "/api/v1/attacks/labels",
        None,
    )? {
        Some(octets) => serde_json::from_slice(&octets)?,
        // Without a daemon the state file is free.
        None => Journal::new(Arc::new(State::open(&settings.state_dir)?)).said()?,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&said)?);
    } else {
        let now = Timestamp::from_nanos(wall_clock());
        print!("{}", said::csv(&said, settings.detector.vendor_id, now));
    }
    Ok(())
}

/// A running daemon.
struct Asked {
    settings: config::Settings,
}

impl Asked {
    fn new(config: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            settings: config::load(config, ColumnSet::NONE)?,
        })
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.answer(Method::GET, path, None::<&()>)
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.answer(Method::POST, path, Some(body))
    }

    fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        let state_dir = &self.settings.state_dir;
        let octets = asked(state_dir, method, path, body)?;
        let octets =
            octets.with_context(|| format!("no daemon runs on {}", state_dir.display()))?;
        Ok(serde_json::from_slice(&octets)?)
    }
}

fn asked<B: Serialize>(
    state_dir: &Path,
    method: Method,
    path: &str,
    body: Option<&B>,
) -> anyhow::Result<Option<Bytes>> {
    runtime()?.block_on(admin::ask(state_dir, method, path, body))
}
