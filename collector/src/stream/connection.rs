use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::PollFlags;
use openssl::ssl::SslStream;
use weir_flow_record::ReceivedAt;
use weir_netflow::DatagramError;

use super::channel::{Channel, ReadOutcome};
use super::counters::{CloseReason, Refusal, StreamCounters};
use super::framing::Framer;
use super::settings::StreamSettings;
use super::{StreamEvent, StreamTransport, Taken};
use crate::receive::wall_clock;

/// Reads of one connection before the others have their turn.
const READS: usize = 8;

/// One connection, from its TLS handshake to the moment at which its end has been told.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    channel: Channel,
    transport: StreamTransport,
    phase: Phase,
    /// What the socket must be ready for.
    pub(super) wants: PollFlags,
    /// Whoever takes the events took none: the socket is left alone, TCP holds the exporter back.
    pub(super) stalled: bool,
    /// There may be more to read that poll(2) does not know of.
    pub(super) more: bool,
    pub(super) since: Instant,
    /// The last octet, or the moment at which we read again after a stall.
    progress: Instant,
    /// Begin of the message that is not whole yet.
    message_since: Option<Instant>,
    received_at: ReceivedAt,
}

enum Phase {
    Handshake,
    /// A session whose beginning is not told yet.
    Opening(Framer),
    Open(Framer),
    /// A session whose end is not told yet.
    Closing(CloseReason),
}

impl Connection {
    pub(super) fn tcp(stream: TcpStream, peer: SocketAddr, now: Instant) -> Self {
        let phase = Phase::Opening(Framer::new());
        Self::new(Channel::Tcp(stream), StreamTransport::Tcp, phase, peer, now)
    }

    pub(super) fn tls(stream: SslStream<TcpStream>, peer: SocketAddr, now: Instant) -> Self {
        let channel = Channel::Tls(Box::new(stream));
        Self::new(channel, StreamTransport::Tls, Phase::Handshake, peer, now)
    }

    fn new(
        channel: Channel,
        transport: StreamTransport,
        phase: Phase,
        peer: SocketAddr,
        now: Instant,
    ) -> Self {
        Self {
            peer,
            channel,
            transport,
            phase,
            wants: PollFlags::POLLIN,
            stalled: false,
            // What the client sent with its connection is there already.
            more: true,
            since: now,
            progress: now,
            message_since: None,
            received_at: ReceivedAt::from_nanos(0),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.channel.fd()
    }

    pub(super) fn is_half_open(&self) -> bool {
        matches!(self.phase, Phase::Handshake)
    }

    /// Ends a session; what it has not handed over is lost with it.
    pub(super) fn close(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Open(_)) {
            self.phase = Phase::Closing(reason);
            // Its end is told at the next turn.
            self.more = true;
        }
    }

    /// Does what can be done without waiting; whether the connection is still there.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        counters: &mut StreamCounters,
        handle: &mut impl FnMut(StreamEvent<'_>) -> Taken,
    ) -> bool {
        self.more = false;
        if let Phase::Handshake = self.phase {
            match self.channel.shake_hands() {
                Ok(None) => {
                    self.wants = PollFlags::POLLIN;
                    self.phase = Phase::Opening(Framer::new());
                }
                Ok(Some(wants)) => {
                    self.wants = wants;
                    return true;
                }
                Err(refusal) => {
                    counters.count_refused(refusal);
                    return false;
                }
            }
        }
        let was_stalled = std::mem::take(&mut self.stalled);
        for _ in 0..READS {
            if self.hand_over(counters, handle) == Taken::Full {
                counters.stalls += u64::from(!was_stalled);
                self.stalled = true;
                return true;
            }
            if was_stalled {
                // The time for which we did not read is not the exporter's.
                self.progress = now;
                self.message_since = self.message_since.map(|_| now);
            }
            if matches!(self.phase, Phase::Closing(_)) {
                return false;
            }
            if !self.read(now) {
                return true;
            }
        }
        self.more = true;
        true
    }

    /// Ends what takes too long; whether the connection is still there.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        settings: &StreamSettings,
        counters: &mut StreamCounters,
    ) -> bool {
        if self.is_half_open() {
            let late = now.saturating_duration_since(self.since) > settings.handshake_time;
            if late {
                counters.count_refused(Refusal::HandshakeTime);
            }
            return !late;
        }
        if self.stalled {
            return true;
        }
        let passed = |since: Instant| now.saturating_duration_since(since);
        if self
            .message_since
            .is_some_and(|since| passed(since) > settings.message_time)
        {
            self.close(CloseReason::Slow);
        } else if !settings.idle.is_zero() && passed(self.progress) > settings.idle {
            self.close(CloseReason::Idle);
        }
        true
    }

    /// Tells everything that is there to tell.
    fn hand_over(
        &mut self,
        counters: &mut StreamCounters,
        handle: &mut impl FnMut(StreamEvent<'_>) -> Taken,
    ) -> Taken {
        let (peer, transport) = (self.peer, self.transport);
        if let Phase::Opening(_) = self.phase {
            let name = self.channel.certificate_name();
            if handle(StreamEvent::Opened {
                peer,
                transport,
                name: name.as_deref(),
            }) == Taken::Full
            {
                return Taken::Full;
            }
            counters.opened += 1;
            if let Phase::Opening(framer) =
                std::mem::replace(&mut self.phase, Phase::Closing(CloseReason::Lost))
            {
                self.phase = Phase::Open(framer);
            }
        }
        if let Phase::Open(framer) = &mut self.phase {
            loop {
                match framer.message() {
                    Ok(Some(octets)) => {
                        let length = octets.len() as u64;
                        if handle(StreamEvent::Message {
                            at: self.received_at,
                            peer,
                            transport,
                            octets,
                        }) == Taken::Full
                        {
                            return Taken::Full;
                        }
                        counters.messages += 1;
                        counters.octets += length;
                        framer.consume();
                    }
                    Ok(None) => return Taken::Yes,
                    Err(error) => {
                        self.phase = Phase::Closing(reason_of(error));
                        break;
                    }
                }
            }
        }
        if let Phase::Closing(reason) = self.phase {
            if handle(StreamEvent::Closed {
                peer,
                transport,
                reason,
            }) == Taken::Full
            {
                return Taken::Full;
            }
            counters.count_closed(reason);
        }
        Taken::Yes
    }

    /// Reads once; whether there is something new to hand over. Called when no whole message is left.
    fn read(&mut self, now: Instant) -> bool {
        let Phase::Open(framer) = &mut self.phase else {
            return false;
        };
        let partial = framer.is_partial();
        match self.channel.read(framer.room()) {
            ReadOutcome::Octets(count) => {
                framer.handle_filled(count);
                self.received_at = ReceivedAt::from_nanos(wall_clock());
                self.progress = now;
                // A message that became whole and one that began are told apart by what is left of the first.
                let whole = !matches!(framer.message(), Ok(None));
                if whole || !partial {
                    self.message_since = Some(now);
                }
                self.wants = PollFlags::POLLIN;
                true
            }
            ReadOutcome::Wait(wants) => {
                if !partial {
                    self.message_since = None;
                }
                self.wants = wants;
                false
            }
            ReadOutcome::End(reason) => {
                let cut = partial && reason == CloseReason::Peer;
                self.phase = Phase::Closing(if cut { CloseReason::Truncated } else { reason });
                true
            }
        }
    }
}

impl Drop for Connection {
    /// Tells a TLS peer that this is the end, if the socket takes it.
    fn drop(&mut self) {
        if !self.is_half_open() {
            self.channel.say_goodbye();
        }
    }
}

fn reason_of(error: DatagramError) -> CloseReason {
    match error {
        DatagramError::Version { .. } => CloseReason::Version,
        DatagramError::Length { .. } => CloseReason::Length,
        _ => CloseReason::Malformed,
    }
}
