//! The sockets of the resolver: from the address and the interface that the upstream has for itself, since the DNS behind the
//! path that is under attack is of no use.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{
    RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// A connection that is not there within this is not going to be.
const CONNECT: Duration = Duration::from_secs(3);

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Tokio's sockets, from where they are told.
#[derive(Clone)]
pub(super) struct OwnPath {
    tokio: TokioRuntimeProvider,
    source: Option<IpAddr>,
    interface: Option<String>,
}

impl OwnPath {
    pub(super) fn new(source: Option<IpAddr>, interface: Option<String>) -> Self {
        Self {
            tokio: TokioRuntimeProvider::default(),
            source,
            interface,
        }
    }

    /// A socket to `to`; from the source where that is of the same family.
    fn socket(&self, to: SocketAddr, kind: Type, port: u16) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), kind, None)?;
        socket.set_nonblocking(true)?;
        if let Some(interface) = &self.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let source = self.source.filter(|own| own.is_ipv4() == to.is_ipv4());
        socket.bind(&SocketAddr::new(source.unwrap_or(any), port).into())?;
        Ok(socket)
    }
}

impl RuntimeProvider for OwnPath {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        wait: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let socket = self.socket(server, Type::STREAM, 0);
        Box::pin(async move {
            let socket = socket?;
            socket.set_tcp_nodelay(true)?;
            let connected = TcpSocket::from_std_stream(socket.into()).connect(server);
            let connected = tokio::time::timeout(wait.unwrap_or(CONNECT), connected).await;
            Ok(AsyncIoTokioAsStd(connected??))
        })
    }

    /// `local` has a port drawn by lot, so that answers are hard to forge.
    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<UdpSocket> {
        let socket = self.socket(server, Type::DGRAM, local.port());
        Box::pin(async move { UdpSocket::from_std(socket?.into()) })
    }
}
