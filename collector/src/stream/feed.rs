use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use weir_flow_record::ReceivedAt;

use super::{CloseReason, StreamEvent, StreamTransport, Taken};
use crate::steer::shard_of;

/// Events on their way to one shard: what an exporter of a million records a second sends in 20 ms.
const QUEUE: usize = 1024;
/// Octets of messages among them.
const OCTETS: usize = 4 << 20;
/// Messages whose memory is kept for the next ones.
const SPARE: usize = 64;
/// Sessions at fault on their way back.
const FAULTS: usize = 64;

/// What a shard says of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// It was used.
    Good,
    /// The message was malformed: its session is to end.
    Malformed,
}

/// The end of the bounded queues at which [`Streams`](super::Streams) puts events in.
pub struct StreamFeed {
    outlets: Vec<Outlet>,
    faults: Receiver<SocketAddr>,
}

/// The end at which a shard takes the events of its exporters out.
pub struct StreamInlet {
    events: Receiver<Queued>,
    octets: Arc<AtomicUsize>,
    spare: SyncSender<Vec<u8>>,
    faults: SyncSender<SocketAddr>,
    /// Sessions that are to end: nothing of theirs is used any more.
    faulty: Vec<Faulty>,
    skipped: u64,
}

struct Outlet {
    events: SyncSender<Queued>,
    /// Octets of messages that are on their way; the two ends keep it together.
    octets: Arc<AtomicUsize>,
    /// Memory of messages that came back.
    spare: Receiver<Vec<u8>>,
    at_hand: Option<Vec<u8>>,
}

struct Faulty {
    peer: SocketAddr,
    told: bool,
}

enum Queued {
    Opened(SocketAddr, StreamTransport, Option<String>),
    Message(ReceivedAt, SocketAddr, StreamTransport, Vec<u8>),
    Closed(SocketAddr, StreamTransport, CloseReason),
}

/// Queues from the thread of the streams to `shards` shards (at least one).
pub fn stream_feed(shards: u16) -> (StreamFeed, Vec<StreamInlet>) {
    let (fault, faults) = sync_channel(FAULTS);
    let (outlets, inlets) = (0..shards.max(1))
        .map(|_| {
            let (sender, events) = sync_channel(QUEUE);
            let (spare, spares) = sync_channel(SPARE);
            let octets = Arc::new(AtomicUsize::new(0));
            let outlet = Outlet {
                events: sender,
                octets: Arc::clone(&octets),
                spare: spares,
                at_hand: None,
            };
            let inlet = StreamInlet {
                events,
                octets,
                spare,
                faults: fault.clone(),
                faulty: Vec::new(),
                skipped: 0,
            };
            (outlet, inlet)
        })
        .unzip();
    (StreamFeed { outlets, faults }, inlets)
}

impl StreamFeed {
    /// Puts an event into the queue of the shard that [`shard_of`] names.
    pub fn handle_event(&mut self, event: StreamEvent<'_>) -> Taken {
        let (StreamEvent::Opened { peer, .. }
        | StreamEvent::Message { peer, .. }
        | StreamEvent::Closed { peer, .. }) = event;
        let count = u16::try_from(self.outlets.len()).unwrap_or(u16::MAX);
        let shard = usize::from(shard_of(peer.ip(), count));
        match self.outlets.get_mut(shard) {
            Some(outlet) => outlet.put(event),
            None => Taken::Full,
        }
    }

    /// A session in which a shard found a malformed message: give it to [`Streams::end`](super::Streams::end). Poll after
    /// every turn.
    #[must_use]
    pub fn poll_fault(&mut self) -> Option<SocketAddr> {
        self.faults.try_recv().ok()
    }
}

impl Outlet {
    fn put(&mut self, event: StreamEvent<'_>) -> Taken {
        let queued = match event {
            StreamEvent::Opened {
                peer,
                transport,
                name,
            } => Queued::Opened(peer, transport, name.map(str::to_owned)),
            StreamEvent::Message {
                at,
                peer,
                transport,
                octets,
            } => {
                let waiting = self.octets.load(Ordering::Relaxed);
                if waiting > 0 && waiting + octets.len() > OCTETS {
                    return Taken::Full;
                }
                let spare = self.at_hand.take().or_else(|| self.spare.try_recv().ok());
                let mut copy = spare.unwrap_or_default();
                copy.clear();
                copy.extend_from_slice(octets);
                self.octets.fetch_add(octets.len(), Ordering::Relaxed);
                Queued::Message(at, peer, transport, copy)
            }
            StreamEvent::Closed {
                peer,
                transport,
                reason,
            } => Queued::Closed(peer, transport, reason),
        };
        match self.events.try_send(queued) {
            Ok(()) => Taken::Yes,
            // A shard that is gone takes nothing either: the daemon stops.
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                if let Queued::Message(_, _, _, memory) = back {
                    self.octets.fetch_sub(memory.len(), Ordering::Relaxed);
                    self.at_hand = Some(memory);
                }
                Taken::Full
            }
        }
    }
}

impl StreamInlet {
    /// Hands over at most `most` events that are there, and returns their number. Never waits.
    pub fn take(
        &mut self,
        most: usize,
        mut handle: impl FnMut(StreamEvent<'_>) -> Verdict,
    ) -> usize {
        for count in 0..most {
            let Ok(queued) = self.events.try_recv() else {
                return count;
            };
            match queued {
                Queued::Opened(peer, transport, name) => {
                    let name = name.as_deref();
                    let verdict = handle(StreamEvent::Opened {
                        peer,
                        transport,
                        name,
                    });
                    self.note(peer, verdict);
                }
                Queued::Message(at, peer, transport, octets) => {
                    self.octets.fetch_sub(octets.len(), Ordering::Relaxed);
                    let verdict = if self.faulty.iter().any(|faulty| faulty.peer == peer) {
                        self.skipped += 1;
                        Verdict::Malformed
                    } else {
                        handle(StreamEvent::Message {
                            at,
                            peer,
                            transport,
                            octets: &octets,
                        })
                    };
                    self.note(peer, verdict);
                    // Where the way back is full the memory is let go.
                    let _ = self.spare.try_send(octets);
                }
                Queued::Closed(peer, transport, reason) => {
                    let _ = handle(StreamEvent::Closed {
                        peer,
                        transport,
                        reason,
                    });
                    self.faulty.retain(|faulty| faulty.peer != peer);
                }
            }
        }
        most
    }

    /// Messages that were not used because one before them in their session was malformed.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn note(&mut self, peer: SocketAddr, verdict: Verdict) {
        if verdict == Verdict::Good {
            return;
        }
        let known = self.faulty.iter().position(|faulty| faulty.peer == peer);
        let index = known.unwrap_or_else(|| {
            self.faulty.push(Faulty { peer, told: false });
            self.faulty.len() - 1
        });
        if let Some(faulty) = self.faulty.get_mut(index)
            && !faulty.told
        {
            // Where the way is full, the session's next message brings it up again.
            faulty.told = self.faults.try_send(peer).is_ok();
        }
    }
}
