//! Sockets of the server: tasks that read them into one queue, and write what goes to connections.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use weir_dtls::SessionId;

/// Inputs that wait to be taken; then sockets are left to fill.
const QUEUE: usize = 1024;
/// Octets that are read at once from a connection: a record of TLS.
const PIECE: usize = 16_384;
/// Pieces that wait to be written to one connection; a peer that does not read loses it.
const UNWRITTEN: usize = 64;
/// A piece that is not written within this is not going to be.
const WRITE: Duration = Duration::from_secs(10);
/// Tries to find a port that is free for UDP and TCP, where any port will do.
const TRIES: usize = 16;

/// What a socket has brought.
pub(crate) enum Incoming {
    /// A datagram of the socket of that index.
    Datagram(usize, SocketAddr, Vec<u8>),
    /// A connection.
    Accepted(TcpStream, SocketAddr),
    /// Octets of a connection.
    Octets(SessionId, Vec<u8>),
    /// A connection that brings nothing more.
    Ended(SessionId),
}

/// One address, both transports.
pub(crate) struct Bound {
    pub(crate) datagrams: Arc<UdpSocket>,
    pub(crate) streams: Arc<TcpListener>,
}

impl Bound {
    /// Opens both sockets, of the same port where the address leaves it open. Call within a tokio runtime.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let mut result = Self::try_open(address);
        for _ in 1..TRIES {
            match &result {
                Err(error) if address.port() == 0 && error.kind() == io::ErrorKind::AddrInUse => {
                    result = Self::try_open(address);
                }
                _ => break,
            }
        }
        result
    }

    fn try_open(address: SocketAddr) -> io::Result<Self> {
        let datagrams = std::net::UdpSocket::bind(address)?;
        datagrams.set_nonblocking(true)?;
        // The standard library lets a port be taken again that old connections linger on.
        let streams = std::net::TcpListener::bind(datagrams.local_addr()?)?;
        streams.set_nonblocking(true)?;
        Ok(Self {
            datagrams: Arc::new(UdpSocket::from_std(datagrams)?),
            streams: Arc::new(TcpListener::from_std(streams)?),
        })
    }
}

/// All sockets while the server runs.
pub(crate) struct Sockets {
    queue: mpsc::Sender<Incoming>,
    incoming: mpsc::Receiver<Incoming>,
    readers: Vec<JoinHandle<()>>,
    connections: BTreeMap<SessionId, Open>,
    /// Connections that are over, and may have something left to be written.
    leaving: Vec<JoinHandle<()>>,
}

struct Open {
    unwritten: mpsc::Sender<Vec<u8>>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Sockets {
    /// Begins to read.
    pub(crate) fn new(bound: &[Bound]) -> Self {
        let (queue, incoming) = mpsc::channel(QUEUE);
        let mut readers = Vec::new();
        for (index, bound) in bound.iter().enumerate() {
            let (socket, to) = (Arc::clone(&bound.datagrams), queue.clone());
            readers.push(tokio::spawn(read_datagrams(index, socket, to)));
            let (listener, to) = (Arc::clone(&bound.streams), queue.clone());
            readers.push(tokio::spawn(accept(listener, to)));
        }
        Self {
            queue,
            incoming,
            readers,
            connections: BTreeMap::new(),
            leaving: Vec::new(),
        }
    }

    /// The next input.
    pub(crate) async fn receive(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    /// The next input, if it is there already.
    pub(crate) fn try_receive(&mut self) -> Option<Incoming> {
        self.incoming.try_recv().ok()
    }

    /// A connection is read and written from now on.
    pub(crate) fn open(&mut self, id: SessionId, stream: TcpStream) {
        // Requests are small, and none waits for the next.
        let _ = stream.set_nodelay(true);
        let (reading, writing) = stream.into_split();
        let (unwritten, pieces) = mpsc::channel(UNWRITTEN);
        let open = Open {
            unwritten,
            reader: tokio::spawn(read_octets(id, reading, self.queue.clone())),
            writer: tokio::spawn(write_octets(writing, pieces)),
        };
        self.connections.insert(id, open);
    }

    /// Queues octets for a connection; false where its peer does not take them.
    pub(crate) fn write(&mut self, id: SessionId, octets: Vec<u8>) -> bool {
        self.connections
            .get(&id)
            .is_some_and(|open| open.unwritten.try_send(octets).is_ok())
    }

    /// A connection is over: what is queued is still written.
    pub(crate) fn close(&mut self, id: SessionId) {
        if let Some(open) = self.connections.remove(&id) {
            open.reader.abort();
            self.leaving.retain(|writer| !writer.is_finished());
            self.leaving.push(open.writer);
        }
    }

    /// Stops reading, and waits a little for what is still to be written.
    pub(crate) async fn shut_down(mut self) {
        self.readers.iter().for_each(JoinHandle::abort);
        let ids: Vec<SessionId> = self.connections.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close(id));
        let written = async {
            for writer in self.leaving {
                let _ = writer.await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), written).await;
    }
}

async fn read_datagrams(index: usize, socket: Arc<UdpSocket>, queue: mpsc::Sender<Incoming>) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                let incoming = Incoming::Datagram(index, from, datagram);
                if queue.send(incoming).await.is_err() {
                    return;
                }
            }
            // An ICMP error of an earlier send: the socket goes on.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn accept(listener: Arc<TcpListener>, queue: mpsc::Sender<Incoming>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if queue.send(Incoming::Accepted(stream, from)).await.is_err() {
                    return;
                }
            }
            // No descriptors left, or a peer that was gone at once.
            Err(error) => {
                tracing::debug!(%error, "a connection is not accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn read_octets(id: SessionId, stream: OwnedReadHalf, queue: mpsc::Sender<Incoming>) {
    loop {
        let read = match stream.readable().await {
            Ok(()) => {
                // A connection that is idle has no buffer.
                let mut buffer = vec![0; PIECE];
                stream.try_read(&mut buffer).map(|length| {
                    buffer.truncate(length);
                    buffer
                })
            }
            Err(error) => Err(error),
        };
        let incoming = match read {
            Ok(octets) if !octets.is_empty() => Incoming::Octets(id, octets),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Ok(_) | Err(_) => Incoming::Ended(id),
        };
        let ended = matches!(incoming, Incoming::Ended(_));
        if queue.send(incoming).await.is_err() || ended {
            return;
        }
    }
}

async fn write_octets(mut stream: OwnedWriteHalf, mut pieces: mpsc::Receiver<Vec<u8>>) {
    while let Some(piece) = pieces.recv().await {
        let written = tokio::time::timeout(WRITE, stream.write_all(&piece)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
    let _ = stream.shutdown().await;
}
