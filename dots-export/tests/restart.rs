//! `kill -9` at every point of an attack: after the restart there are never two active mitigations for it, and when it is
//! over none is left.

mod support;

use std::time::Duration;

use support::{World, event, provider, settings};
use weir_attack_event::{AttackEvent, AttackId, EventKind};
use weir_dots_export::{ClientNotice, Exporter, PolicyConfig};
use weir_dots_proto::Mid;
use weir_dots_proto::body::MitigationStatus;

const TARGET: &str = "203.0.113.7/32";

/// What the outside world brings, in order.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Act {
    Connect,
    Start,
    Update,
    Widen,
    Report,
    End,
}

const STORY: [Act; 7] = [
    Act::Connect,
    Act::Start,
    Act::Report,
    Act::Update,
    Act::Widen,
    Act::Report,
    Act::End,
];

struct Story {
    world: World,
    exporter: Exporter,
    second: i64,
}

impl Story {
    fn new() -> Self {
        let exporter = Exporter::new(settings(PolicyConfig::default(), &["provider"]));
        Self {
            world: World::new(),
            exporter,
            second: 1_700_000_001,
        }
    }

    /// False: the process died on the way.
    fn act(&mut self, act: Act) -> bool {
        self.second += 15;
        match act {
            Act::Connect => self.world.client.handle_connected(self.world.now),
            Act::Start => self.tell(EventKind::AttackStart, false),
            Act::Update => self.tell(EventKind::AttackUpdate, false),
            Act::Widen => self.tell(EventKind::AttackUpdate, true),
            Act::End => self.tell(EventKind::AttackEnd, true),
            Act::Report => {
                for mid in self.world.peer.active() {
                    let status = MitigationStatus::AttackSuccessfullyMitigated;
                    self.world.peer.report(self.world.now, mid, status, 1_000);
                }
            }
        }
        self.drain() && self.world.run_for(Duration::from_secs(15)) && self.drain()
    }

    fn tell(&mut self, kind: EventKind, wide: bool) {
        let event = attack(kind, wide, self.second);
        self.exporter.handle_event(event.time, &event);
    }

    fn drain(&mut self) -> bool {
        let now = attack(EventKind::AttackUpdate, false, self.second).time;
        loop {
            for notice in std::mem::take(&mut self.world.notices) {
                self.exporter.handle_notice(now, &notice);
            }
            let mut quiet = true;
            while let Some((upstream, command)) = self.exporter.poll_command() {
                assert_eq!(upstream, provider());
                quiet = false;
                if !self.world.command(command) {
                    return false;
                }
                assert!(
                    self.world.peer.active().len() <= 1,
                    "two active mitigations"
                );
            }
            if !self.world.settle() {
                return false;
            }
            assert!(
                self.world.peer.active().len() <= 1,
                "two active mitigations"
            );
            if quiet && self.world.notices.is_empty() {
                return true;
            }
        }
    }

    /// Begins anew with what the journals hold: `open` is the detector's.
    fn restart(&mut self, open: bool) {
        self.world.steps = usize::MAX;
        self.world.restart();
        self.exporter = Exporter::new(settings(PolicyConfig::default(), &["provider"]));
        self.exporter.restore(open.then(|| AttackId("a".into())));
        assert!(self.drain());
        self.world.client.handle_connected(self.world.now);
        assert!(self.drain());
    }
}

/// The wide attack has a second vector, and so a second protocol.
fn attack(kind: EventKind, wide: bool, second: i64) -> AttackEvent {
    let mut event = event(kind, "a", TARGET, second);
    if wide {
        event
            .vectors
            .push(support::vector(weir_flow_record::Vector::TcpSynFlood, 0.05));
    }
    event
}

/// Plays the story, dies after `steps`, and goes on; `missed`: the attack ended while the process was down.
fn play(steps: usize, missed: bool) -> bool {
    let mut story = Story::new();
    story.world.steps = steps;
    let mut rest = STORY.iter().copied();
    let mut last = None;
    let mut survived = true;
    for act in rest.by_ref() {
        last = Some(act);
        if !story.act(act) {
            survived = false;
            break;
        }
    }
    if survived {
        assert!(
            story.world.peer.active().is_empty(),
            "left behind without a crash"
        );
        return true;
    }
    // The detector's own journal: the attack is open from its start to its end, which is told again after a crash.
    let begun = !matches!(last, Some(Act::Connect));
    let open = begun && !missed;
    story.restart(open);
    if open {
        assert!(story.act(Act::Update));
        assert!(story.act(Act::Widen));
        assert!(
            !story.world.peer.active().is_empty(),
            "nobody helps: {:?}",
            story.world.log()
        );
        assert!(story.act(Act::End));
    }
    assert!(story.world.run_for(Duration::from_secs(200)));
    let log = story.world.log();
    assert!(
        story.world.peer.active().is_empty(),
        "orphan after {steps} steps: {log:?}"
    );
    assert!(story.world.client.mitigations().next().is_none(), "{log:?}");
    assert!(
        !story.world.rows.keys().any(|key| key.starts_with("mid/")),
        "{log:?}"
    );
    false
}

#[test]
fn killed_at_every_step_while_the_attack_goes_on() {
    let survivors = (1..500).find(|steps| play(*steps, false));
    let survivors = survivors.expect("the story ends");
    assert!(survivors > 40, "the story has {survivors} steps only");
}

#[test]
fn killed_at_every_step_and_the_attack_ends_meanwhile() {
    let survivors = (1..500).find(|steps| play(*steps, true));
    assert!(survivors.is_some());
}

#[test]
fn a_restart_carries_on_with_what_stands() {
    let mut story = Story::new();
    for act in [Act::Connect, Act::Start] {
        assert!(story.act(act));
    }
    let puts = |story: &Story| {
        story
            .world
            .log()
            .iter()
            .filter(|line| line.starts_with("PUT mitigate"))
            .count()
    };
    assert_eq!(puts(&story), 1);
    story.restart(true);
    assert!(story.act(Act::Update));
    // Nothing was asked twice, and telemetry goes on under the same number.
    assert_eq!(puts(&story), 1);
    assert_eq!(story.world.peer.active(), [Mid(1)]);
    assert_eq!(story.world.peer.telemetry.len(), 1);
    assert!(
        !story
            .world
            .notices
            .iter()
            .any(|notice| matches!(notice, ClientNotice::Orphan { .. }))
    );
}

#[test]
fn a_lossy_network_delays_and_breaks_nothing() {
    for seed in 1..40 {
        let mut story = Story::new();
        story.world.loss = 3;
        story.world.seed = seed;
        for act in STORY {
            assert!(story.act(act));
            assert!(story.world.run_for(Duration::from_secs(60)) && story.drain());
            if act == Act::Start {
                assert_eq!(story.world.peer.active().len(), 1, "seed {seed}");
            }
        }
        assert!(story.world.run_for(Duration::from_secs(300)) && story.drain());
        let log = story.world.log();
        assert!(story.world.peer.active().is_empty(), "seed {seed}: {log:?}");
        assert!(
            story.world.client.mitigations().next().is_none(),
            "seed {seed}: {log:?}"
        );
    }
}
