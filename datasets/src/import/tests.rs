#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use super::*;

struct Flow {
    source: String,
    destination: String,
    ports: (u16, u16),
    packets: u64,
    octets: u64,
    seconds: (f64, f64),
    flags: Option<u16>,
    answer: Option<bool>,
    truth: Option<String>,
    capture: String,
}

fn read_all(text: &str) -> (Vec<Flow>, ImportReport) {
    let mut flows = Vec::new();
    let report = import(text.as_bytes(), "file", &mut |flow: &LabelledFlow<'_>| {
        flows.push(Flow {
            source: flow.row.source_address.to_string(),
            destination: flow.row.destination_address.to_string(),
            ports: (flow.row.source_port, flow.row.destination_port),
            packets: flow.row.packets,
            octets: flow.row.octets,
            seconds: (
                flow.row.flow_start as f64 / 1e9,
                flow.row.flow_end as f64 / 1e9,
            ),
            flags: flow.flags_known.then_some(flow.row.tcp_flags),
            answer: flow.answer,
            truth: match flow.truth {
                Truth::Unlabelled | Truth::Undeclared => None,
                Truth::Peace => Some("peace".to_owned()),
                Truth::Attack(words) => Some(words.to_owned()),
            },
            capture: flow.capture.to_owned(),
        });
    })
    .unwrap();
    (flows, report)
}

#[test]
fn common_layout() {
    let (flows, report) = read_all(
        "first_epoch,last_epoch,src_ip,dst_ip,src_port,dst_port,proto,tcp_flags,packets,bytes,label,class,capture\n\
         1541241031.281,1541241031.5,172.16.0.5,192.168.50.4,19497,39521,6,......S.,2,80,attack,syn_flood,a.pcap\n\
         1499083071.59,1499083071.6,192.168.10.50,192.168.10.3,15686,53,17,,2,142,normal,BENIGN,CIC/bwd/166856\n\
         soon,1499083071.6,192.168.10.50,192.168.10.3,15686,53,17,,2,142,normal,BENIGN,CIC/bwd/166856\n",
    );
    assert_eq!(
        (report.layout, report.records, report.bad),
        (Layout::Common, 2, 1)
    );
    assert_eq!(
        (flows[0].flags, flows[0].destination.as_str()),
        (Some(2), "192.168.50.4")
    );
    assert_eq!(flows[0].truth.as_deref(), Some("syn_flood"));
    assert_eq!(flows[0].seconds, (1_541_241_031.281, 1_541_241_031.5));
    assert_eq!((flows[1].answer, flows[1].flags), (Some(true), None));
    assert_eq!(
        (flows[1].truth.as_deref(), flows[1].capture.as_str()),
        (Some("peace"), "CIC")
    );
}

#[test]
fn cicflowmeter_of_both_ages() {
    let (flows, report) = read_all(
        "id,Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Total Fwd Packet,Total Bwd packets,\
         Total Length of Fwd Packet,Total Length of Bwd Packet,Fwd Header Length,Bwd Header Length,FIN Flag Count,SYN Flag Count,\
         RST Flag Count,Fwd PSH Flags,Bwd PSH Flags,ACK Flag Count,Label\n\
         1,x,172.16.0.1,23123,192.168.10.50,80,6,2017-07-07 19:02:39.182486,4216645,7,5,20,11595,152,112,1,2,1,1,1,11,DDoS\n",
    );
    assert_eq!((report.layout, report.records), (Layout::Cic, 2));
    assert_eq!(
        (flows[0].packets, flows[0].octets, flows[0].answer),
        (7, 20 + 152 + 140, Some(false))
    );
    assert_eq!((flows[1].packets, flows[1].octets), (5, 11595 + 112 + 100));
    assert_eq!(
        (flows[1].source.as_str(), flows[1].ports),
        ("192.168.10.50", (80, 23123))
    );
    // SYN, FIN, PSH, ACK there; SYN, PSH, ACK back, since one FIN is the question's.
    assert_eq!((flows[0].flags, flows[1].flags), (Some(0x1b), Some(0x1a)));
    let (flows, _) = read_all(
        "Unnamed: 0,Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp, Flow Duration, \
         Total Fwd Packets, Total Backward Packets,Total Length of Fwd Packets, Total Length of Bwd Packets, Label\n\
         5,x,172.16.0.5,900,192.168.50.1,53,17,2018-12-01 10:51:39.813448,28415,97,0,42680.0,0.0,DrDoS_DNS\n",
    );
    assert_eq!(flows.len(), 1);
    assert_eq!(
        (flows[0].octets, flows[0].capture.as_str()),
        (42680 + 97 * 28, "CIC-DDoS2019")
    );
}

#[test]
fn unsw_without_a_header() {
    let line = |label: &str| {
        let filler = ",0".repeat(17);
        format!(
            "59.166.0.0,1390,149.171.126.6,53,udp,CON,0.001055,132,164,31,29,0,0,dns,500473.9,621800.9,2,2,0,0,0,0,66,82,0,0,0,0,1421927414,1421927414{filler},{label}\n"
        )
    };
    let (flows, report) = read_all(&(line(",0") + &line("DoS,1")));
    assert_eq!(
        (report.layout, report.records, report.bad),
        (Layout::Unsw, 4, 0)
    );
    assert_eq!(
        (flows[0].packets, flows[0].octets, flows[1].octets),
        (2, 132, 164)
    );
    assert_eq!(flows[0].truth.as_deref(), Some("peace"));
    assert_eq!(flows[2].truth.as_deref(), Some("DoS"));
}

#[test]
fn zeek_as_tabs_with_joined_labels_and_as_csv() {
    let (flows, report) = read_all(
        "#separator \\x09\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\t\
         conn_state\tlocal_orig\tlocal_resp\tmissed_bytes\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\ttunnel_parents   label   detailed-label\n\
         #types\ttime\n\
         1547127288.018828\tC\t192.168.1.197\t45082\t104.24.97.120\t80\ttcp\thttp\t4.5\t150\t67212\tSF\t-\t-\t0\tShADadfF\t54\t2938\t50\t69224\t(empty)   Malicious   C&C\n\
         1547127289\tD\t192.168.1.197\t3\t224.0.0.1\t53\tudp\t-\t-\t-\t-\tS0\t-\t-\t0\tD\t1\t60\t0\t0\t-   Benign   -\n",
    );
    assert_eq!(
        (report.layout, report.records, report.bad),
        (Layout::Zeek, 3, 0)
    );
    assert_eq!(flows[0].truth.as_deref(), Some("C&C"));
    assert_eq!((flows[0].flags, flows[1].flags), (Some(0x1b), Some(0x1b)));
    assert_eq!(flows[1].octets, 69224);
    assert_eq!(
        (flows[2].truth.as_deref(), flows[2].flags),
        (Some("peace"), None)
    );
}

#[test]
fn binetflow_and_nfdump() {
    let (flows, _) = read_all(
        "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes,Label\n\
         2011/08/10 09:46:53.047277,3550.182373,udp,212.50.71.179,39678,  <->,147.32.84.229,13363,CON,0,0,12,875,413,flow=Background-UDP-Established\n\
         2011/08/10 09:46:53,0.000883,tcp,84.13.246.132,0x01bd,   ->,147.32.84.229,80,S_RA,0,0,2,120,60,flow=From-Botnet-V42-TCP\n",
    );
    assert_eq!(flows.len(), 4);
    assert_eq!(
        (
            flows[0].packets + flows[1].packets,
            flows[0].octets + flows[1].octets
        ),
        (12, 875)
    );
    assert_eq!(
        (flows[2].ports.0, flows[2].flags, flows[3].flags),
        (445, Some(0x02), Some(0x14))
    );
    assert_eq!(flows[2].truth.as_deref(), Some("botnet"));
    let (flows, report) = read_all(
        "ts,te,td,sa,da,sp,dp,pr,flg,fwd,stos,ipkt,ibyt,opkt,obyt\n\
         2024-05-01 10:00:00.5,2024-05-01 10:00:02.5,2.000,192.0.2.1,198.51.100.2,443,5000,TCP,...AP.S.,0,0,10,5000,0,0\n\
         Summary\n",
    );
    assert_eq!(
        (report.layout, report.records, report.bad),
        (Layout::Nfdump, 1, 1)
    );
    assert_eq!(
        (flows[0].flags, flows[0].truth.as_deref()),
        (Some(0x1a), None)
    );
    assert!((flows[0].seconds.1 - flows[0].seconds.0 - 2.0).abs() < 1e-6);
}

#[test]
fn hostile_files_are_refused_or_counted() {
    let unknown = import(&b"a,b,c\n1,2,3\n"[..], "x", &mut |_| {});
    assert!(matches!(unknown, Err(ImportError::Unknown(_))));
    let missing = import(&b"first_epoch,last_epoch,src_ip\n"[..], "x", &mut |_| {});
    assert!(matches!(
        missing,
        Err(ImportError::Missing {
            column: "dst_ip",
            ..
        })
    ));
    let capture = import(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0][..], "x", &mut |_| {});
    assert!(matches!(capture, Err(ImportError::Unknown(_))));
    assert!(import(&[0x1f, 0x8b, 8, 0, 0][..], "x", &mut |_| {}).is_err());
    let (_, report) = read_all(
        "first_epoch,last_epoch,src_ip,dst_ip,src_port,dst_port,proto,packets,bytes\n\
         9999999999999999999,1,1.1.1.1,2.2.2.2,1,1,6,1,1\n1,1,1.1.1.1,2.2.2.2,1,1,6,-5,1\n1,1,1.1.1.1\n\u{0}\n",
    );
    assert_eq!((report.records, report.bad), (0, 4));
}
