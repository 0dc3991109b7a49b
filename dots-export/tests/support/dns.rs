//! A DNS server over UDP, TCP and TLS that has the records it is given.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, NAPTR, PTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a server does with questions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// Answers.
    Ready,
    /// Answers over UDP that the answer is too large for it.
    Truncating,
    /// Says nothing.
    Silent,
    /// Says that it has failed.
    Failing,
    /// Sends what is no answer.
    Raving,
    /// Sends answers of which some octets are others; differs with the number.
    Garbling(u64),
}

pub(crate) struct Zone {
    pub(crate) records: Vec<Record>,
    pub(crate) mood: Mood,
    /// Questions, such as `NAPTR example.net. udp`.
    pub(crate) asked: Vec<String>,
    /// Who asked.
    pub(crate) askers: BTreeSet<IpAddr>,
}

/// A server; it ends with the runtime.
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    pub(crate) zone: Arc<Mutex<Zone>>,
}

impl DnsServer {
    pub(crate) async fn start(records: Vec<Record>) -> Self {
        let zone = zone(records);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        tokio::spawn(serve_datagrams(udp, Arc::clone(&zone)));
        tokio::spawn(serve_streams(tcp, None, Arc::clone(&zone)));
        Self { address, zone }
    }

    /// Over TLS alone, with the lab's certificate of that file.
    pub(crate) async fn start_tls(records: Vec<Record>, keys: &Path, file: &str) -> Self {
        let zone = zone(records);
        let chain = CertificateDer::pem_file_iter(keys.join(format!("{file}.pem"))).unwrap();
        let chain = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(keys.join(format!("{file}.key"))).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(serve_streams(tcp, Some(acceptor), Arc::clone(&zone)));
        Self { address, zone }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.zone.lock().unwrap().mood = mood;
    }

    pub(crate) fn set_records(&self, records: Vec<Record>) {
        self.zone.lock().unwrap().records = records;
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.zone.lock().unwrap().asked.clone()
    }
}

fn zone(records: Vec<Record>) -> Arc<Mutex<Zone>> {
    Arc::new(Mutex::new(Zone {
        records,
        mood: Mood::Ready,
        asked: Vec::new(),
        askers: BTreeSet::new(),
    }))
}

async fn serve_datagrams(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 2048];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        zone.lock().unwrap().askers.insert(from.ip());
        if let Some(answer) = answer(&zone, &buffer[..length], "udp") {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn serve_streams(socket: TcpListener, tls: Option<TlsAcceptor>, zone: Arc<Mutex<Zone>>) {
    loop {
        let Ok((stream, from)) = socket.accept().await else {
            continue;
        };
        zone.lock().unwrap().askers.insert(from.ip());
        let (zone, tls) = (Arc::clone(&zone), tls.clone());
        tokio::spawn(async move {
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve_stream(stream, "tls", zone).await;
                    }
                }
                None => serve_stream(stream, "tcp", zone).await,
            }
        });
    }
}

async fn serve_stream(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    over: &str,
    zone: Arc<Mutex<Zone>>,
) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let Some(answer) = answer(&zone, &question, over) else {
            continue;
        };
        let length = u16::try_from(answer.len()).unwrap();
        let _ = stream.write_u16(length).await;
        let _ = stream.write_all(&answer).await;
        let _ = stream.flush().await;
    }
}

fn answer(zone: &Mutex<Zone>, octets: &[u8], over: &str) -> Option<Vec<u8>> {
    let question = Message::from_vec(octets).ok()?;
    let query = question.queries.first()?.clone();
    let mut zone = zone.lock().unwrap();
    let name = query.name().to_lowercase();
    zone.asked
        .push(format!("{} {name} {over}", query.query_type()));
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    match zone.mood {
        Mood::Silent => return None,
        Mood::Raving => return Some(octets.iter().rev().copied().collect()),
        Mood::Failing => answer.metadata.response_code = ResponseCode::ServFail,
        Mood::Truncating if over == "udp" => answer.metadata.truncation = true,
        Mood::Truncating | Mood::Ready | Mood::Garbling(_) => {
            let here = |record: &&Record| record.name.to_lowercase() == name;
            let known = zone.records.iter().any(|record| here(&record));
            let found = zone.records.iter().filter(here).filter(|record| {
                [query.query_type(), RecordType::CNAME].contains(&record.data.record_type())
            });
            answer.add_answers(found.cloned());
            if !known {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
        }
    }
    let mut octets = answer.to_vec().unwrap();
    if let Mood::Garbling(seed) = &mut zone.mood {
        garble(&mut octets, seed);
        return Some(octets);
    }
    if over == "udp" && octets.len() > 1232 {
        answer.answers.clear();
        answer.metadata.truncation = true;
        return Some(answer.to_vec().unwrap());
    }
    Some(octets)
}

/// Changes a few octets behind the identifier and the flags.
fn garble(octets: &mut [u8], seed: &mut u64) {
    let mut lot = |below: usize| {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*seed >> 33).unwrap() % below
    };
    for _ in 0..=lot(4) {
        let at = 4 + lot(octets.len() - 4);
        octets[at] = u8::try_from(lot(256)).unwrap();
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

pub(crate) fn naptr(owner: &str, order: u16, flags: &str, service: &str, to: &str) -> Record {
    naptr_of(owner, (order, 10), flags, service, "", to)
}

pub(crate) fn naptr_of(
    owner: &str,
    (order, preference): (u16, u16),
    flags: &str,
    service: &str,
    regexp: &str,
    to: &str,
) -> Record {
    let boxed = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
    let data = NAPTR::new(
        order,
        preference,
        boxed(flags),
        boxed(service),
        boxed(regexp),
        name(to),
    );
    record(owner, 3600, RData::NAPTR(data))
}

pub(crate) fn srv(owner: &str, priority: u16, weight: u16, port: u16, to: &str) -> Record {
    let data = SRV::new(priority, weight, port, name(to));
    record(owner, 1800, RData::SRV(data))
}

pub(crate) fn ptr(owner: &str, to: &str) -> Record {
    record(owner, 3600, RData::PTR(PTR(name(to))))
}

pub(crate) fn cname(owner: &str, to: &str) -> Record {
    record(owner, 3600, RData::CNAME(CNAME(name(to))))
}

pub(crate) fn host(owner: &str, address: &str) -> Record {
    let data = match address.parse().unwrap() {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    record(owner, 900, data)
}
