use std::fmt;

use csv::ByteRecord;
use weir_flow_record::{Row, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG};

use super::columns::Columns;
use super::time::{nanos, span};
use super::values::{address, count, flags, number, port, protocol, zeek_flags};
use super::{LabelledFlow, Truth};

/// A layout of flows in text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// `first_epoch,last_epoch,src_ip,…,label,class,capture`: one direction a line.
    Common,
    /// CICFlowMeter: CIC-IDS2017 (improved or not), CIC-DDoS2019.
    Cic,
    /// UNSW-NB15, with or without its header.
    Unsw,
    /// Zeek's `conn.log` with labels: IoT-23, as tabs or CSV.
    Zeek,
    /// Argus' binetflow: CTU-13.
    Ctu,
    /// nfdump's CSV, of version 1.6 or 1.7: no labels.
    Nfdump,
    /// `weir decode --format csv` and goflow2: no labels.
    Weir,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Common => "common",
            Self::Cic => "cicflowmeter",
            Self::Unsw => "unsw-nb15",
            Self::Zeek => "zeek",
            Self::Ctu => "binetflow",
            Self::Nfdump => "nfdump",
            Self::Weir => "weir",
        })
    }
}

/// Names of a column, in lower case, and whether the layout is nothing without it.
pub(super) type Names = (&'static [&'static str], bool);

/// The columns of UNSW-NB15's files, which have no header.
pub(super) const UNSW_NAMES: &str = "srcip,sport,dstip,dsport,proto,state,dur,sbytes,dbytes,sttl,dttl,sloss,dloss,service,\
sload,dload,spkts,dpkts,swin,dwin,stcpb,dtcpb,smeansz,dmeansz,trans_depth,res_bdy_len,sjit,djit,stime,ltime,sintpkt,dintpkt,tcprtt,\
synack,ackdat,is_sm_ips_ports,ct_state_ttl,ct_flw_http_mthd,is_ftp_login,ct_ftp_cmd,ct_srv_src,ct_srv_dst,ct_dst_ltm,ct_src_ltm,\
ct_src_dport_ltm,ct_dst_sport_ltm,ct_dst_src_ltm,attack_cat,label";

const COMMON: &[Names] = &[
    (&["first_epoch"], true),
    (&["last_epoch"], true),
    (&["src_ip"], true),
    (&["dst_ip"], true),
    (&["src_port"], true),
    (&["dst_port"], true),
    (&["proto"], true),
    (&["tcp_flags"], false),
    (&["packets"], true),
    (&["bytes"], true),
    (&["label"], false),
    (&["class"], false),
    (&["capture"], false),
];
const CIC: &[Names] = &[
    (&["src ip", "source ip"], true),
    (&["dst ip", "destination ip"], true),
    (&["src port", "source port"], true),
    (&["dst port", "destination port"], true),
    (&["protocol"], true),
    (&["timestamp"], true),
    (&["flow duration"], true),
    (&["total fwd packet", "total fwd packets"], true),
    (&["total bwd packets", "total backward packets"], true),
    (
        &["total length of fwd packet", "total length of fwd packets"],
        true,
    ),
    (
        &["total length of bwd packet", "total length of bwd packets"],
        true,
    ),
    (&["fwd header length"], false),
    (&["bwd header length"], false),
    (&["fin flag count"], false),
    (&["syn flag count"], false),
    (&["rst flag count"], false),
    (&["fwd psh flags"], false),
    (&["bwd psh flags"], false),
    (&["ack flag count"], false),
    (&["fwd rst flags"], false),
    (&["bwd rst flags"], false),
    (&["label"], true),
];
const UNSW: &[Names] = &[
    (&["srcip"], true),
    (&["dstip"], true),
    (&["sport"], true),
    (&["dsport"], true),
    (&["proto"], true),
    (&["stime"], true),
    (&["dur"], true),
    (&["spkts"], true),
    (&["dpkts"], true),
    (&["sbytes"], true),
    (&["dbytes"], true),
    (&["attack_cat"], false),
    (&["label"], true),
];
const ZEEK: &[Names] = &[
    (&["id.orig_h"], true),
    (&["id.resp_h"], true),
    (&["id.orig_p"], true),
    (&["id.resp_p"], true),
    (&["proto"], true),
    (&["ts"], true),
    (&["duration"], true),
    (&["orig_pkts"], true),
    (&["resp_pkts"], true),
    (&["orig_ip_bytes"], true),
    (&["resp_ip_bytes"], true),
    (&["history"], false),
    (&["label", "tunnel_parents   label   detailed-label"], false),
    (&["detailed-label"], false),
];
const CTU: &[Names] = &[
    (&["srcaddr"], true),
    (&["dstaddr"], true),
    (&["sport"], true),
    (&["dport"], true),
    (&["proto"], true),
    (&["starttime"], true),
    (&["dur"], true),
    (&["totpkts"], true),
    (&["totbytes"], true),
    (&["srcbytes"], true),
    (&["state"], false),
    (&["dir"], false),
    (&["label"], true),
];
const NFDUMP: &[Names] = &[
    (&["sa", "srcaddr"], true),
    (&["da", "dstaddr"], true),
    (&["sp", "srcport"], true),
    (&["dp", "dstport"], true),
    (&["pr", "proto"], true),
    (&["ts", "firstseen"], true),
    (&["te", "lastseen"], false),
    (&["td", "duration"], true),
    (&["ipkt", "packets"], true),
    (&["ibyt", "bytes"], true),
    (&["flg", "flags"], false),
    (&["opkt"], false),
    (&["obyt"], false),
];
const WEIR: &[Names] = &[
    (&["src_addr"], true),
    (&["dst_addr"], true),
    (&["src_port"], true),
    (&["dst_port"], true),
    (&["proto"], true),
    (&["time_flow_start_ns"], true),
    (&["time_flow_end_ns"], true),
    (&["packets"], true),
    (&["bytes"], true),
    (&["tcp_flags"], false),
    (&["sampling_rate"], false),
    (&["label"], false),
    (&["class"], false),
    (&["capture"], false),
    (&["answer"], false),
    (&["by"], false),
];

impl Layout {
    /// The layout of a header, and whether it is none but a first line of data.
    pub(super) fn of(header: &str) -> Option<(Self, bool)> {
        let header = header.to_ascii_lowercase();
        let has = |name: &str| header.contains(name);
        let layout = if has("first_epoch") {
            Self::Common
        } else if has("id.orig_h") {
            Self::Zeek
        } else if has("flow duration") && (has("src ip") || has("source ip")) {
            Self::Cic
        } else if has("srcaddr") && has("totpkts") {
            Self::Ctu
        } else if has("time_flow_start_ns") {
            Self::Weir
        } else if header.starts_with("ts,te,td") || has("firstseen") {
            Self::Nfdump
        } else if has("srcip,sport") {
            Self::Unsw
        } else {
            let headless = header.split(',').count() == 49
                && header.split(',').next().and_then(address).is_some();
            return headless.then_some((Self::Unsw, true));
        };
        Some((layout, false))
    }

    pub(super) fn columns(self) -> &'static [Names] {
        match self {
            Self::Common => COMMON,
            Self::Cic => CIC,
            Self::Unsw => UNSW,
            Self::Zeek => ZEEK,
            Self::Ctu => CTU,
            Self::Nfdump => NFDUMP,
            Self::Weir => WEIR,
        }
    }
}

/// Gives the flows of a line; `None` if it cannot be read.
pub(super) fn flows(
    columns: &Columns,
    record: &ByteRecord,
    name: &str,
    give: &mut dyn FnMut(&LabelledFlow<'_>),
) -> Option<()> {
    let text = |column: usize| columns.text(record, column);
    match columns.layout {
        Layout::Common => common(&text, name, give),
        Layout::Cic => cic(&text, name, give),
        Layout::Unsw => unsw(&text, name, give),
        Layout::Zeek => zeek(&text, name, give),
        Layout::Ctu => ctu(&text, name, give),
        Layout::Nfdump => nfdump(&text, name, give),
        Layout::Weir => weir(&text, name, give),
    }
}

type Text<'a> = dyn Fn(usize) -> &'a str + 'a;
type Give<'a> = dyn FnMut(&LabelledFlow<'_>) + 'a;

/// A connection of two directions.
struct Connection<'a> {
    /// Addresses, ports, protocol and times of the question.
    row: Row,
    /// Packets, octets and TCP flags, there and back.
    ways: [(u64, u64, u16); 2],
    flags_known: bool,
    truth: Truth<'a>,
    capture: &'a str,
}

impl Connection<'_> {
    fn give(&self, give: &mut Give<'_>) {
        for (answer, (packets, octets, tcp_flags)) in [false, true].into_iter().zip(self.ways) {
            if packets == 0 {
                continue;
            }
            let mut row = Row {
                packets,
                octets,
                tcp_flags,
                ..self.row
            };
            if answer {
                std::mem::swap(&mut row.source_address, &mut row.destination_address);
                std::mem::swap(&mut row.source_port, &mut row.destination_port);
            }
            give(&LabelledFlow {
                row,
                flags_known: self.flags_known,
                answer: Some(answer),
                truth: self.truth,
                capture: self.capture,
                by: "",
            });
        }
    }
}

/// A record of addresses, ports and protocol in the first five columns of a layout.
fn ends(text: &Text<'_>, start: i64, end: i64) -> Option<Row> {
    let number = protocol(text(4))?;
    Some(Row {
        source_address: address(text(0))?,
        destination_address: address(text(1))?,
        source_port: port(text(2)),
        destination_port: port(text(3)),
        protocol: number,
        flow_start: start,
        flow_end: end.max(start),
        sampling_rate: 1,
        ..Row::default()
    })
}

fn common(text: &Text<'_>, name: &str, give: &mut Give<'_>) -> Option<()> {
    let shifted = |column: usize| text(column + 2);
    let mut row = ends(&shifted, nanos(text(0))?, nanos(text(1))?)?;
    row.packets = count(text(8))?;
    row.octets = count(text(9))?;
    let capture = if text(12).is_empty() { name } else { text(12) };
    // `IoT-23/CTU-Malware-Capture-42-1/resp/C9BV`: the capture, the direction, the line.
    let ways = [
        ("/fwd", false),
        ("/bwd", true),
        ("/orig", false),
        ("/resp", true),
    ];
    let way = ways
        .into_iter()
        .find_map(|(mark, answer)| Some((capture.find(mark)?, answer)));
    let (cut, answer) = (way.map_or(capture.len(), |way| way.0), way.map(|way| way.1));
    let known = flags(text(7), answer == Some(true));
    row.tcp_flags = known.unwrap_or(0);
    give(&LabelledFlow {
        row,
        flags_known: known.is_some(),
        answer,
        truth: truth(text(10), text(11)),
        capture: capture.get(..cut)?,
        by: "",
    });
    Some(())
}

fn cic(text: &Text<'_>, _: &str, give: &mut Give<'_>) -> Option<()> {
    let start = nanos(text(5))?;
    // Durations are in microseconds; CICFlowMeter writes −1 for what it could not tell.
    let row = ends(
        text,
        start,
        start.checked_add(number(text(6))?.max(0).checked_mul(1000)?)?,
    )?;
    let (forth, back) = (count(text(7))?, count(text(8))?);
    // Payloads; what was on the wire is more by the headers, transport's as counted and 20 octets of IP.
    let octets = |payload: usize, header: usize, packets: u64| {
        let transport = count(text(header)).unwrap_or(8 * packets);
        Some(
            count(text(payload))?
                .saturating_add(transport)
                .saturating_add(20 * packets),
        )
    };
    let some = |column: usize, least: i64, flag: u16| {
        if number(text(column)).unwrap_or(0) >= least {
            flag
        } else {
            0
        }
    };
    // Counts are of both directions together: a second SYN or FIN is the answer's.
    let shared = some(18, 1, TCP_ACK);
    let there = shared
        | some(14, 1, TCP_SYN)
        | some(13, 1, TCP_FIN)
        | some(16, 1, TCP_PSH)
        | some(19, 1, TCP_RST);
    let here = shared
        | some(14, 2, TCP_SYN)
        | some(13, 2, TCP_FIN)
        | some(17, 1, TCP_PSH)
        | some(20, 1, TCP_RST);
    let connection = Connection {
        row,
        ways: [
            (forth, octets(9, 11, forth)?, there),
            (back, octets(10, 12, back)?, here),
        ],
        flags_known: row.protocol == 6 && !text(14).is_empty() && !text(18).is_empty(),
        truth: truth(text(21), text(21)),
        capture: if start < 1_510_000_000_000_000_000 {
            "CIC-IDS2017"
        } else {
            "CIC-DDoS2019"
        },
    };
    connection.give(give);
    Some(())
}

fn unsw(text: &Text<'_>, _: &str, give: &mut Give<'_>) -> Option<()> {
    let start = nanos(text(5))?;
    let row = ends(text, start, start.checked_add(span(text(6))?)?)?;
    let truth = match (text(12), text(11)) {
        ("0", _) => Truth::Peace,
        (_, "") => Truth::Attack("attack"),
        (_, kind) => Truth::Attack(kind),
    };
    let connection = Connection {
        row,
        ways: [
            (count(text(7))?, count(text(9))?, 0),
            (count(text(8))?, count(text(10))?, 0),
        ],
        flags_known: false,
        truth,
        capture: "UNSW-NB15",
    };
    connection.give(give);
    Some(())
}

fn zeek(text: &Text<'_>, name: &str, give: &mut Give<'_>) -> Option<()> {
    let start = nanos(text(5))?;
    let row = ends(text, start, start.checked_add(span(text(6)).unwrap_or(0))?)?;
    let (label, kind) = match text(12) {
        // IoT-23 writes the last three columns into one, parted by blanks.
        joined if joined.contains("  ") => {
            let mut parts = joined.split_whitespace().skip(1);
            (parts.next().unwrap_or(""), parts.next().unwrap_or(""))
        }
        label => (label, text(13)),
    };
    let connection = Connection {
        row,
        ways: [
            (
                count(text(7))?,
                count(text(9))?,
                zeek_flags(text(11), false),
            ),
            (
                count(text(8))?,
                count(text(10))?,
                zeek_flags(text(11), true),
            ),
        ],
        flags_known: row.protocol == 6 && !text(11).is_empty(),
        truth: truth(label, kind),
        capture: name,
    };
    connection.give(give);
    Some(())
}

fn ctu(text: &Text<'_>, name: &str, give: &mut Give<'_>) -> Option<()> {
    let start = nanos(text(5))?;
    let row = ends(text, start, start.checked_add(span(text(6))?)?)?;
    let (packets, octets, source) = (count(text(7))?, count(text(8))?, count(text(9))?);
    let back = octets.saturating_sub(source);
    // Packets are of both directions together: shared by octets, at least one where there are any.
    let answered = if back == 0 || packets < 2 {
        0
    } else {
        let share = u128::from(packets) * u128::from(back) / u128::from(octets.max(1));
        (share as u64).clamp(1, packets - 1)
    };
    let (there, here) = argus_flags(text(10));
    let connection = Connection {
        row,
        ways: [
            (
                packets - answered,
                octets - if answered == 0 { 0 } else { back },
                there,
            ),
            (answered, back, here),
        ],
        flags_known: row.protocol == 6 && text(10).contains('_'),
        // Background was never looked at by anyone: neither peace nor attack, but by far most of it is peace.
        truth: if text(12).contains("Botnet") {
            Truth::Attack("botnet")
        } else {
            Truth::Peace
        },
        capture: name,
    };
    connection.give(give);
    Some(())
}

/// Argus' state of a TCP connection, such as `SRPA_SPA`: flags there, flags back.
fn argus_flags(state: &str) -> (u16, u16) {
    let (there, here) = state.split_once('_').unwrap_or(("", ""));
    let letters = |text: &str| {
        text.chars().fold(0, |flags, letter| {
            flags
                | match letter {
                    'S' => TCP_SYN,
                    'A' => TCP_ACK,
                    'F' => TCP_FIN,
                    'R' => TCP_RST,
                    'P' => TCP_PSH,
                    'U' => TCP_URG,
                    _ => 0,
                }
        })
    };
    (letters(there), letters(here))
}

fn nfdump(text: &Text<'_>, name: &str, give: &mut Give<'_>) -> Option<()> {
    let start = nanos(text(5))?;
    let row = ends(text, start, start.checked_add(span(text(7))?)?)?;
    let known = flags(text(10), false);
    let back = (
        count(text(11)).unwrap_or(0),
        count(text(12)).unwrap_or(0),
        0,
    );
    let connection = Connection {
        row,
        ways: [(count(text(8))?, count(text(9))?, known.unwrap_or(0)), back],
        flags_known: row.protocol == 6 && known.is_some(),
        truth: Truth::Unlabelled,
        capture: name,
    };
    // A record of nfdump's is one direction, unless it has counters of the way back.
    if back.0 == 0 {
        let (packets, octets, tcp_flags) = connection.ways[0];
        let row = Row {
            packets,
            octets,
            tcp_flags,
            ..connection.row
        };
        give(&LabelledFlow {
            row,
            flags_known: connection.flags_known,
            answer: None,
            truth: Truth::Unlabelled,
            capture: name,
            by: "",
        });
    } else {
        connection.give(give);
    }
    Some(())
}

fn weir(text: &Text<'_>, name: &str, give: &mut Give<'_>) -> Option<()> {
    let mut row = ends(text, number(text(5))?, number(text(6))?)?;
    row.packets = count(text(7))?;
    row.octets = count(text(8))?;
    row.tcp_flags = u16::try_from(number(text(9)).unwrap_or(0)).ok()?;
    row.sampling_rate = u32::try_from(number(text(10)).unwrap_or(0)).ok()?;
    let flags_known = row.protocol == 6 && row.tcp_flags != 0;
    // What `weir join` adds.
    let truth = match text(11) {
        "undeclared" => Truth::Undeclared,
        label => truth(label, text(12)),
    };
    let answer = match text(14) {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    };
    give(&LabelledFlow {
        row,
        flags_known,
        answer,
        truth,
        capture: if text(13).is_empty() { name } else { text(13) },
        by: text(15),
    });
    Some(())
}

/// `kind` unless the label says peace.
fn truth<'a>(label: &'a str, kind: &'a str) -> Truth<'a> {
    let peaceful = |text: &str| {
        ["normal", "benign", "background", "0"]
            .iter()
            .any(|one| text.eq_ignore_ascii_case(one))
    };
    match (label, kind) {
        ("" | "-", "" | "-") => Truth::Unlabelled,
        (label, kind) if peaceful(label) || (label.is_empty() && peaceful(kind)) => Truth::Peace,
        (label, "" | "-") => Truth::Attack(label),
        (_, kind) => Truth::Attack(kind),
    }
}
