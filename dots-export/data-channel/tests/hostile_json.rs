//! Seeded runs of the fuzz target: requests that are mutations of valid ones.
#![allow(clippy::unwrap_used, reason = "helper functions of tests")]

use weir_data_channel::fuzzing::fuzz_restconf;

const SEEDS: &[&str] = &[
    r#"POST ~ {"ietf-dots-data-channel:aliases":{"alias":[{"name":"a","target-prefix":["192.0.2.0/24"],"target-port-range":[{"lower-port":1,"upper-port":2}],"target-protocol":[6],"target-fqdn":["www.example"],"target-uri":["https://www.example/"]}]}}"#,
    r#"PUT ~/acls/acl=a?insert=first {"ietf-dots-data-channel:acls":{"acl":[{"name":"a","type":"ipv4-acl-type","activation-type":"immediate","aces":{"ace":[{"name":"x","matches":{"ipv4":{"dscp":1,"ecn":1,"length":1,"ttl":1,"protocol":6,"ihl":5,"offset":20,"identification":1,"destination-ipv4-network":"192.0.2.0/24","source-ipv4-network":"198.51.100.0/24","fragment":{"operator":"not match","type":"isf ff"}},"tcp":{"sequence-number":1,"data-offset":5,"options":"AQI=","flags-bitmask":{"bitmask":2},"source-port-range-or-operator":{"lower-port":1,"upper-port":2},"destination-port-range-or-operator":{"operator":"neq","port":5}}},"actions":{"forwarding":"accept","rate-limit":"20.00"}}]}}]}}"#,
    r#"PUT ~/acls/acl=b?insert=before&point=%2Fietf-dots-data-channel%3Adots-data%2Fdots-client%3Dc%2Facls%2Facl%3Da {"ietf-dots-data-channel:acl":[{"name":"b","type":"ietf-access-control-list:ipv6-acl-type","aces":{"ace":[{"name":"x","matches":{"ipv6":{"flow-label":7},"icmp":{"type":1,"code":2,"rest-of-header":""}},"actions":{"forwarding":"drop"}}]}}]}"#,
    r#"POST ~/acls/acl=a/aces?insert=after&point=~/acls/acl=a/aces/ace=x {"ietf-dots-data-channel:ace":[{"name":"y","matches":{"udp":{"length":8}},"actions":{"forwarding":"drop"}}]}"#,
    r#"PATCH ~/acls/acl=a {"ietf-dots-data-channel:acl":[{"name":"a","activation-type":"deactivate"}]}"#,
    r#"POST ~ {"ietf-dots-mapping:vendor-mapping":{"vendor":[{"vendor-id":1,"vendor-name":"x","description-lang":"en-US","last-updated":"18446744073709551615","attack-mapping":[{"attack-id":1,"attack-description":"d"}]}]}}"#,
    r#"PUT ~/ietf-dots-mapping:vendor-mapping/vendor=1/attack-mapping=2 {"ietf-dots-mapping:attack-mapping":[{"attack-id":2,"attack-description":"e"}]}"#,
    r#"PUT ~ {"ietf-dots-data-channel:dots-client":[{"cuid":"c","cdid":"d","aliases":{"alias":[{"name":"z","target-prefix":["2001:db8::/32"]}]}}]}"#,
    r#"PATCH ~ {"ietf-dots-data-channel:dots-client":[{"cuid":"c","acls":{"acl":[{"name":"q"}]}}]}"#,
    r#"POST /restconf/data {"ietf-dots-data-channel:dots-data":{"dots-client":[{"cuid":"e"}]}}"#,
    "GET ~?content=nonconfig&depth=4 ",
    "GET /restconf/data?depth=2 ",
    "GET ~/acls/acl=a/aces/ace=x/matches/tcp ",
    "GET /.well-known/host-meta ",
    "DELETE ~/aliases/alias=a/target-prefix=192.0.2.0%2F24 ",
    "DELETE ~/acls/acl=a/aces/ace=x ",
    "OPTIONS ~ ",
    r#"{"alias":[{"name":"a","target-prefix":["192.0.2.0/24"],"pending-lifetime":5}]}"#,
    r#"{"acl":[{"name":"a","pending-lifetime":5,"aces":{"ace":[{"name":"x","actions":{"forwarding":"drop"},"statistics":{"matched-packets":"1"}}]}}]}"#,
    r#"{"vendor":[{"vendor-id":1,"last-updated":"1"}]}"#,
    r#"{"address-family":["ipv4"],"forwarding-actions":["drop","reject"],"ipv4":{"dscp":true}}"#,
    "<XRD><Link rel='restconf' href='/restconf'/></XRD>",
];

/// xorshift64*: the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }
}

#[test]
fn valid_requests_pass_the_target() {
    fuzz_restconf(SEEDS.join("\n").as_bytes());
    for seed in SEEDS {
        fuzz_restconf(seed.as_bytes());
    }
}

#[test]
fn mutated_requests_do_no_harm() {
    const WORDS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "null",
        "-1",
        "1e9",
        "0",
        "99999999999999999999",
        "\\u0000",
        "%00",
        "/",
        "=",
        "true",
        "\"name\"",
        "{}",
        "[]",
        "~",
    ];
    let mut random = Random(0x5eed_2024);
    let rounds = std::env::var("WEIR_FUZZ_ROUNDS");
    for _ in 0..rounds.map_or(3_000, |rounds| rounds.parse().unwrap()) {
        let mut requests = Vec::new();
        for _ in 0..=random.below(6) {
            let mut octets = SEEDS[random.below(SEEDS.len())].as_bytes().to_vec();
            for _ in 0..random.below(4) {
                let at = random.below(octets.len());
                match random.below(5) {
                    0 => octets[at] = u8::try_from(random.below(256)).unwrap(),
                    1 if octets.len() > 1 => {
                        octets.remove(at);
                    }
                    2 => octets.truncate(at.max(1)),
                    3 => {
                        let word = WORDS[random.below(WORDS.len())].bytes();
                        octets.splice(at..at, word);
                    }
                    _ => {
                        let end = (at + random.below(40)).min(octets.len());
                        let part = octets[at..end].to_vec();
                        octets.splice(at..at, part);
                    }
                }
            }
            requests.push(octets);
        }
        fuzz_restconf(&requests.join(&b'\n'));
    }
}

#[test]
fn deep_and_long_bodies_are_refused() {
    let deep = format!("POST ~ {}{}", "[".repeat(100_000), "]".repeat(100_000));
    fuzz_restconf(deep.as_bytes());
    let wide = format!("POST ~ {{{}}}", r#""a":1,"#.repeat(50_000));
    fuzz_restconf(wide.as_bytes());
    let long = format!("GET ~{} ", "/a".repeat(50_000));
    fuzz_restconf(long.as_bytes());
}
