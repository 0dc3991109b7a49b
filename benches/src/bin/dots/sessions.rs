//! Many DTLS sessions of one client in one thread.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::json;
use weir_dots_proto::client::{Notice, Request, Session};
use weir_dots_proto::{Cuid, Method, Mid, Resource, SessionParameters, Tmid};
use weir_dtls::{ClientContext, Connection, Credentials, DtlsEvent};

use crate::Outcome;

/// Handshakes under way at once.
const AT_ONCE: usize = 32;
/// Cuids of a client; sessions share them, each with a mid and a tmid of its own.
const CUIDS: usize = 10;
/// Longest wait for all sessions.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    Read,
    Tell,
    Refresh,
}

struct One {
    socket: UdpSocket,
    connection: Connection,
    session: Session,
    connected: bool,
    waiting: bool,
    number: u32,
}

pub(crate) struct Sessions {
    all: Vec<One>,
}

impl Sessions {
    /// Opens the sessions.
    pub(crate) fn connect(
        credentials: &Credentials,
        address: SocketAddr,
        count: usize,
    ) -> Outcome<Self> {
        let context = ClientContext::new(credentials)?;
        let mut sessions = Self { all: Vec::new() };
        let until = Instant::now() + PATIENCE;
        while sessions.all.len() < count || sessions.all.iter().any(|one| !one.connected) {
            if Instant::now() > until {
                let stand = sessions.all.iter().filter(|one| one.connected).count();
                return Err(format!("{stand} of {count} sessions stand").into());
            }
            let under_way = sessions.all.iter().filter(|one| !one.connected).count();
            if under_way < AT_ONCE && sessions.all.len() < count {
                let number = u32::try_from(sessions.all.len())?;
                sessions.all.push(One::new(&context, address, number)?);
            }
            sessions.turn()?;
        }
        Ok(sessions)
    }

    /// Nothing but heartbeats.
    pub(crate) fn idle(&mut self, length: Duration) -> Outcome<()> {
        let until = Instant::now() + length;
        while Instant::now() < until {
            if self.turn()? == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Each session asks again as soon as it is answered. Gives the number of answers.
    pub(crate) fn ask(&mut self, what: Ask, length: Duration) -> Outcome<u64> {
        let until = Instant::now() + length;
        let mut answered = 0;
        while Instant::now() < until {
            let now = Instant::now();
            for one in self.all.iter_mut().filter(|one| !one.waiting) {
                one.waiting = true;
                let request = one.request(what)?;
                one.session.handle_request(now, request);
            }
            answered += self.turn()?;
        }
        self.idle(Duration::from_secs(1))?;
        Ok(answered)
    }

    /// Looks at all sockets once. Gives the number of answers.
    fn turn(&mut self) -> Outcome<u64> {
        let mut answered = 0;
        for one in &mut self.all {
            answered += one.turn()?;
        }
        Ok(answered)
    }
}

impl One {
    fn new(context: &ClientContext, address: SocketAddr, number: u32) -> Outcome<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            connection: Connection::connect(context, "localhost", None, Instant::now())?,
            session: Session::new(SessionParameters::default(), u64::from(number)),
            connected: false,
            waiting: false,
            number,
        })
    }

    fn request(&self, what: Ask) -> Outcome<Request> {
        let cuid = Cuid::new(&format!("bench-{}", self.number as usize % CUIDS))?;
        let target = format!("10.{}.{}.1/32", self.number >> 8, self.number & 255);
        let mitigate = Resource::Mitigate {
            cuid: cuid.clone(),
            mid: Some(Mid(self.number)),
        };
        Ok(match what {
            Ask::Read => Request::new(Method::Get, mitigate),
            Ask::Tell => Request {
                body: Some(json!({"ietf-dots-telemetry:telemetry": {
                "pre-or-ongoing-mitigation": [{
                    "target": {"target-prefix": [target]},
                    "total-attack-traffic": [{"unit": "megabit-ps", "mid-percentile-g": "900"}],
                }]}})),
                ..Request::new(
                    Method::Put,
                    Resource::Telemetry {
                        cuid,
                        tmid: Some(Tmid(self.number)),
                    },
                )
            },
            Ask::Refresh => Request {
                body: Some(
                    json!({"ietf-dots-signal-channel:mitigation-scope": {"scope": [
                    {"target-prefix": [target], "lifetime": 3600}]}}),
                ),
                ..Request::new(Method::Put, mitigate)
            },
        })
    }

    fn turn(&mut self) -> Outcome<u64> {
        let now = Instant::now();
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    self.connection.handle_datagram(now, datagram);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.connection.poll_timeout().is_some_and(|due| due <= now) {
            self.connection.handle_timeout(now);
        }
        while let Some(event) = self.connection.poll_event() {
            match event {
                DtlsEvent::Connected { .. } => {
                    self.connected = true;
                    self.session.handle_connected(now);
                }
                DtlsEvent::Data(datagram) => self.session.handle_datagram(now, &datagram),
                DtlsEvent::Closed(reason) => {
                    return Err(format!("session {} ended: {reason:?}", self.number).into());
                }
            }
        }
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(now);
        }
        let mut answered = 0;
        while let Some(notice) = self.session.poll_notice() {
            match notice {
                Notice::Response { .. } => {
                    answered += 1;
                    self.waiting = false;
                }
                Notice::Unanswered { .. } => self.waiting = false,
                _ => {}
            }
        }
        if self.connected {
            while let Some(datagram) = self.session.poll_transmit() {
                self.connection.handle_send(&datagram)?;
            }
        }
        while let Some(datagram) = self.connection.poll_transmit() {
            // A full buffer loses a datagram, as the network may.
            let _ = self.socket.send(&datagram);
        }
        Ok(answered)
    }
}
