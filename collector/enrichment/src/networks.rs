//! The table of networks, from a CSV file: the longest prefix that holds an address says what the network is.

use std::collections::BTreeMap;

use csv::{ReaderBuilder, StringRecord, Trim};
use hashbrown::HashMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use weir_flow_record::Address;

use crate::config::check_text;

/// Networks in a file, at most.
const MOST_NETWORKS: usize = 1 << 20;
/// Mistakes reported one by one, at most.
const MOST_FAULTS: usize = 1_000;
const COLUMNS: [&str; 5] = ["prefix", "name", "site", "role", "tenant"];

/// What a line says of its prefix; empty = nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Network {
    pub(crate) name: Box<str>,
    pub(crate) site: Box<str>,
    pub(crate) role: Box<str>,
    pub(crate) tenant: Box<str>,
}

/// Networks by prefix. A line holds whole: a longer prefix takes nothing over from a shorter one.
#[derive(Default)]
pub(crate) struct Networks {
    v4: PrefixMap<Ipv4Net, u32>,
    v6: PrefixMap<Ipv6Net, u32>,
    entries: Vec<Network>,
}

/// A bad line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub(crate) struct LineFault {
    pub(crate) line: u64,
    pub(crate) message: String,
}

impl LineFault {
    fn new(line: u64, message: impl Into<String>) -> Self {
        Self {
            line,
            message: message.into(),
        }
    }
}

impl Networks {
    /// Reads a file's content. The first line names the columns, in any order; `prefix` must be among them. Lines that begin
    /// with `#` are comments. All bad lines are reported (beyond 1,000 by their number), and then nothing is read.
    pub(crate) fn parse(octets: &[u8]) -> Result<Self, Vec<LineFault>> {
        let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .comment(Some(b'#'))
            .trim(Trim::All)
            .from_reader(octets);
        let mut parser = Parser::default();
        let mut columns = None;
        let mut record = csv::ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => {
                    parser.fault(LineFault::new(reader.position().line(), error.to_string()));
                    break;
                }
            }
            let line = record.position().map_or(0, |at| line_of(octets, at));
            let Ok(fields) = StringRecord::from_byte_record(record.clone()) else {
                parser.fault(LineFault::new(line, "is not UTF-8"));
                continue;
            };
            match &columns {
                Some(columns) => parser.line(line, columns, &fields),
                None => match Columns::of(line, &fields) {
                    Ok(found) => columns = Some(found),
                    Err(faults) => return Err(faults),
                },
            }
        }
        if columns.is_none() {
            parser.fault(LineFault::new(
                1,
                format!(
                    "a first line with the columns {} is missing",
                    COLUMNS.join(",")
                ),
            ));
        }
        parser.finish()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of the longest match.
    pub(crate) fn find(&self, address: Address) -> Option<u32> {
        if self.entries.is_empty() {
            return None;
        }
        match address.host() {
            IpNet::V4(host) => self.v4.get_lpm(&host).map(|(_, number)| *number),
            IpNet::V6(host) => self.v6.get_lpm(&host).map(|(_, number)| *number),
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Network> {
        self.entries.get(number as usize)
    }

    /// All networks, sorted by prefix.
    pub(crate) fn sorted(&self) -> BTreeMap<IpNet, &Network> {
        let v4 = self
            .v4
            .iter()
            .map(|(prefix, number)| (IpNet::V4(prefix), number));
        let v6 = self
            .v6
            .iter()
            .map(|(prefix, number)| (IpNet::V6(prefix), number));
        v4.chain(v6)
            .filter_map(|(prefix, number)| Some((prefix, self.get(*number)?)))
            .collect()
    }

    /// Where IPv4 prefixes begin, and the address behind each.
    pub(crate) fn v4_starts(&self) -> impl Iterator<Item = u32> + '_ {
        self.v4
            .keys()
            .flat_map(|prefix| {
                let behind = prefix.broadcast().to_bits().checked_add(1);
                [Some(prefix.network().to_bits()), behind]
            })
            .flatten()
    }

    fn insert(&mut self, prefix: IpNet, network: Network) {
        let Ok(number) = u32::try_from(self.entries.len()) else {
            return;
        };
        self.entries.push(network);
        match prefix {
            IpNet::V4(prefix) => self.v4.insert(prefix, number),
            IpNet::V6(prefix) => self.v6.insert(prefix, number),
        };
    }
}

/// Which field of a line is which column.
struct Columns {
    prefix: usize,
    /// `name`, `site`, `role`, `tenant`.
    texts: [Option<usize>; 4],
    count: usize,
}

impl Columns {
    fn of(line: u64, header: &StringRecord) -> Result<Self, Vec<LineFault>> {
        let mut places = [None; 5];
        let mut faults = Vec::new();
        for (place, name) in header.iter().enumerate() {
            match COLUMNS.iter().position(|column| *column == name) {
                None => faults.push(LineFault::new(
                    line,
                    format!("`{name}` is no column: there are {}", COLUMNS.join(", ")),
                )),
                Some(column) if places[column].is_some() => {
                    faults.push(LineFault::new(line, format!("column `{name}` comes twice")));
                }
                Some(column) => places[column] = Some(place),
            }
        }
        let [prefix, texts @ ..] = places;
        match prefix {
            Some(prefix) if faults.is_empty() => Ok(Self {
                prefix,
                texts,
                count: header.len(),
            }),
            Some(_) => Err(faults),
            None => {
                faults.push(LineFault::new(line, "column `prefix` is missing"));
                Err(faults)
            }
        }
    }
}

#[derive(Default)]
struct Parser {
    networks: Networks,
    lines: HashMap<IpNet, u64>,
    faults: Vec<LineFault>,
    more_faults: u64,
}

impl Parser {
    fn fault(&mut self, fault: LineFault) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        } else {
            self.more_faults += 1;
        }
    }

    fn line(&mut self, line: u64, columns: &Columns, fields: &StringRecord) {
        if let Err(message) = self.take(line, columns, fields) {
            self.fault(LineFault::new(line, message));
        }
    }

    fn take(&mut self, line: u64, columns: &Columns, fields: &StringRecord) -> Result<(), String> {
        if fields.len() != columns.count {
            return Err(format!(
                "has {} fields where the first line names {} columns",
                fields.len(),
                columns.count
            ));
        }
        let prefix = prefix(fields.get(columns.prefix).unwrap_or_default())?;
        let [name, site, role, tenant] = columns.texts.map(|place| {
            place
                .and_then(|place| fields.get(place))
                .unwrap_or_default()
        });
        for text in [name, site, role, tenant] {
            check_text(text)?;
        }
        if self.networks.len() >= MOST_NETWORKS {
            return Err(format!("is beyond the bound of {MOST_NETWORKS} networks"));
        }
        if let Some(first) = self.lines.get(&prefix) {
            return Err(format!("{prefix} stands in line {first} already"));
        }
        self.lines.insert(prefix, line);
        let [name, site, role, tenant] = [name, site, role, tenant].map(Box::from);
        self.networks.insert(
            prefix,
            Network {
                name,
                site,
                role,
                tenant,
            },
        );
        Ok(())
    }

    fn finish(mut self) -> Result<Networks, Vec<LineFault>> {
        if self.more_faults > 0 {
            let last = self.faults.last().map_or(0, |fault| fault.line);
            let message = format!("and {} more bad lines follow", self.more_faults);
            self.faults.push(LineFault::new(last, message));
        }
        if self.faults.is_empty() {
            Ok(self.networks)
        } else {
            Err(self.faults)
        }
    }
}

/// The line where a record really begins: its position is that of the blank lines and comments before it.
fn line_of(octets: &[u8], position: &csv::Position) -> u64 {
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let mut rest = octets.get(start..).unwrap_or_default();
    let mut line = position.line();
    loop {
        let skipped = match rest {
            [b'\n' | b'\r', ..] => 1,
            [b'#', ..] => rest.iter().take_while(|octet| **octet != b'\n').count(),
            _ => return line,
        };
        line += u64::from(rest.first() == Some(&b'\n'));
        rest = rest.get(skipped..).unwrap_or_default();
    }
}

/// An address or a prefix without bits beyond its length; IPv4 in its own form, as all addresses are looked up.
fn prefix(text: &str) -> Result<IpNet, String> {
    let prefix = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is neither an address nor a prefix"))?;
    if prefix.trunc() != prefix {
        return Err(format!(
            "{prefix} has bits beyond its length: write {}",
            prefix.trunc()
        ));
    }
    match prefix {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err(format!("{prefix} is IPv4: write it as such"))
        }
        _ => Ok(prefix),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let faults = Networks::parse(text.as_bytes()).err().unwrap_or_default();
        faults.iter().map(ToString::to_string).collect()
    }

    fn name_of<'a>(networks: &'a Networks, address: &str) -> &'a str {
        let address = Address::from(address.parse::<std::net::IpAddr>().unwrap());
        networks
            .find(address)
            .and_then(|number| networks.get(number))
            .map_or("", |network| &network.name)
    }

    #[test]
    fn the_longest_prefix_wins_and_takes_nothing_over() {
        let text = "\u{feff}# our networks\nprefix,name,site,role,tenant\n\
                    192.0.2.0/24,all,fra1,servers,acme\n192.0.2.128/25,\"half, upper\",,,\n\
                    192.0.2.200,one,,,\n2001:db8::/32,six,,,\n::/0,rest,,,\n";
        let networks = Networks::parse(text.as_bytes()).unwrap();
        assert_eq!(networks.len(), 5);
        for (address, name) in [
            ("192.0.2.1", "all"),
            ("192.0.2.129", "half, upper"),
            ("192.0.2.200", "one"),
            ("198.51.100.1", ""),
            ("2001:db8::1", "six"),
            ("2001:db9::1", "rest"),
        ] {
            assert_eq!(name_of(&networks, address), name, "{address}");
        }
        let upper = networks.find(Address::from_v4([192, 0, 2, 129])).unwrap();
        assert_eq!(&*networks.get(upper).unwrap().site, "");
    }

    #[test]
    fn columns_come_in_any_order_and_some_may_be_missing() {
        let networks = Networks::parse(b"tenant, prefix\nacme, 10.0.0.0/8\n").unwrap();
        assert_eq!(&*networks.get(0).unwrap().tenant, "acme");
        assert_eq!(Networks::parse(b"prefix\n").unwrap().len(), 0);
    }

    #[test]
    fn every_bad_line_is_told_with_its_number() {
        let text = "prefix,name\r\n# comment\n10.0.0.0/8,a\r\n\r\n10.0.0.1/8,b\nx,c\n10.0.0.0/8,d\n\
                    10.1.0.0/16\n10.2.0.0/16,e,f\n::ffff:10.0.0.0/104,g\n10.3.0.0/16,\u{7}\n";
        let expected = [
            "line 5: 10.0.0.1/8 has bits beyond its length: write 10.0.0.0/8",
            "line 6: `x` is neither an address nor a prefix",
            "line 7: 10.0.0.0/8 stands in line 3 already",
            "line 8: has 1 fields where the first line names 2 columns",
            "line 9: has 3 fields where the first line names 2 columns",
            "line 10: ::ffff:10.0.0.0/104 is IPv4: write it as such",
            "line 11: \"\\u{7}\" has a control character",
        ];
        assert_eq!(messages(text), expected);
    }

    #[test]
    fn a_bad_first_line_ends_it() {
        assert_eq!(
            messages("prefix,asn,name,name\n1,2,3,4\n"),
            [
                "line 1: `asn` is no column: there are prefix, name, site, role, tenant",
                "line 1: column `name` comes twice"
            ]
        );
        assert_eq!(messages("name\n"), ["line 1: column `prefix` is missing"]);
        assert_eq!(messages("").len(), 1);
        let broken = Networks::parse(b"prefix,name\n10.0.0.0/8,\xff\n")
            .err()
            .unwrap();
        assert_eq!(broken[0].to_string(), "line 2: is not UTF-8");
    }

    #[test]
    fn a_flood_of_bad_lines_is_bounded() {
        let text = format!("prefix\n{}", "x\n".repeat(5_000));
        let told = messages(&text);
        assert_eq!(told.len(), MOST_FAULTS + 1);
        assert!(told[MOST_FAULTS].contains("4000 more bad lines"));
    }

    /// Prefixes of a small space, so that many nest.
    fn prefixes() -> impl Strategy<Value = Vec<IpNet>> {
        let v4 = (0u32..256, 20u8..=32).prop_map(|(low, length)| {
            IpNet::V4(Ipv4Net::new_assert((0x0a00_0000 | low).into(), length))
        });
        let v6 = (0u128..256, 118u8..=128).prop_map(|(low, length)| {
            IpNet::V6(Ipv6Net::new_assert(
                ((0x2001_0db8 << 96) | low).into(),
                length,
            ))
        });
        let any = prop_oneof![v4, v6, Just("0.0.0.0/0".parse().unwrap())];
        proptest::collection::vec(any.prop_map(|prefix| prefix.trunc()), 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn longest_match_is_as_a_naive_search_finds_it(mut prefixes in prefixes(), low in 0u8..=255) {
            prefixes.sort();
            prefixes.dedup();
            let lines: String = prefixes.iter().map(|prefix| format!("{prefix},{prefix}\n")).collect();
            let networks = Networks::parse(format!("prefix,name\n{lines}").as_bytes()).unwrap();
            for address in [
                std::net::IpAddr::from([10, 0, 0, low]),
                std::net::IpAddr::from(((0x2001_0db8 << 96) | u128::from(low)).to_be_bytes()),
            ] {
                let naive = prefixes.iter().filter(|prefix| prefix.contains(&address)).max_by_key(|prefix| prefix.prefix_len());
                let naive = naive.map(ToString::to_string).unwrap_or_default();
                prop_assert_eq!(name_of(&networks, &address.to_string()), naive);
            }
            prop_assert_eq!(networks.sorted().len(), prefixes.len());
        }
    }
}
