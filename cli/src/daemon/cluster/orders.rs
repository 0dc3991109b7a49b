//! An operator's word at a detector goes to the partition that it concerns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;
use weir_detector::{Override, OverrideError};

use super::feed::Holdings;
use super::partition::{Common, Partition, owner_of};
use crate::daemon::judge::{Input, Order};

/// Brings words to partitions until nobody has any.
pub(super) struct Orders {
    pub(super) common: Arc<Common>,
    pub(super) holdings: Arc<Holdings>,
    pub(super) inputs: Receiver<Input>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Orders {
    pub(super) fn run(self) {
        loop {
            match self.inputs.recv_timeout(Duration::from_millis(200)) {
                Ok(input) => self.handle_input(input),
                Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => return,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle_input(&self, input: Input) {
        match input {
            Input::Operator(Order::Hold { hold, withdraw }, reply) => {
                let asked = self.holdings.with(|partitions| {
                    let orders = partitions.into_iter().map(|partition| {
                        send(partition, |reply| {
                            Input::Operator(Order::Hold { hold, withdraw }, reply)
                        })
                    });
                    orders.collect::<Vec<_>>()
                });
                let done = asked.into_iter().map(|answer| answer?.blocking_recv().ok());
                let done: Vec<Option<bool>> = done.collect();
                // Whoever asked may have gone.
                let _ = reply.send(done.iter().all(|done| *done == Some(true)));
            }
            Input::Operator(Order::Confirm(attack), reply) => {
                let asked = self.holdings.with(|partitions| {
                    let owner = owner_of(partitions.into_iter(), &attack)?;
                    send(owner, |reply| {
                        Input::Operator(Order::Confirm(attack.clone()), reply)
                    })
                });
                let done = asked.and_then(|answer| answer.blocking_recv().ok());
                let _ = reply.send(done.unwrap_or(false));
            }
            Input::Override(word, reply) => {
                let asked = self.holdings.with(|partitions| {
                    let owner = self.owner(partitions, &word)?;
                    send(owner, |reply| Input::Override(word.clone(), reply))
                });
                let answer = asked.and_then(|answer| answer.blocking_recv().ok());
                let _ = reply.send(answer.unwrap_or_else(|| Err(nobody(&word))));
            }
            Input::Baselines(_, reply) => {
                let _ = reply.send(Err("baselines are with the partitions' owners".to_owned()));
            }
            // Nothing else comes from an operator.
            _ => {}
        }
    }

    /// Who owns the attack, or the zone, of a word.
    fn owner<'p>(&self, partitions: Vec<&'p Partition>, word: &Override) -> Option<&'p Partition> {
        let prefix = match word {
            Override::End { attack, .. } => return owner_of(partitions.into_iter(), attack),
            Override::Start { target, .. } => target,
            Override::Mute { prefix, .. } | Override::Unmute { prefix, .. } => prefix,
        };
        let number = self.partition_of(prefix)?;
        partitions.into_iter().find(|one| one.number == number)
    }

    fn partition_of(&self, prefix: &IpNet) -> Option<u32> {
        let zones = &self.common.settings.detector.zones;
        let held = zones.iter().find(|zone| {
            let mut prefixes = zone.prefixes.iter();
            prefixes.any(|own| own.contains(prefix) || prefix.contains(own))
        });
        self.common.cluster.partitions.of(held?.id)
    }
}

/// Hands a word to a partition; `None` where it takes none any more.
fn send<T>(
    partition: &Partition,
    word: impl FnOnce(oneshot::Sender<T>) -> Input,
) -> Option<oneshot::Receiver<T>> {
    let (reply, answer) = oneshot::channel();
    partition.input.try_send(word(reply)).ok()?;
    Some(answer)
}

/// What is said where another detector owns it.
fn nobody(word: &Override) -> OverrideError {
    match word {
        Override::End { attack, .. } => OverrideError::NotOpen(attack.clone()),
        Override::Start { target, .. } => OverrideError::NoZone(*target),
        Override::Mute { prefix, .. } => OverrideError::NoZone(*prefix),
        Override::Unmute { prefix, .. } => OverrideError::NotMuted(*prefix),
    }
}
