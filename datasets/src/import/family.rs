/// The family of an attack in a data set's words: the catalogue's name of its vector where it has one (design.md), else a name
/// of the same style; words unknown are left as they are, in lower case with hyphens.
///
/// Data sets name the same thing in many ways; families are what generalises from one to another.
pub fn family(words: &str) -> String {
    let plain = plain(words);
    let known = FAMILIES
        .iter()
        .find(|(parts, _)| parts.iter().all(|part| plain.contains(part)));
    known.map_or(plain.clone(), |(_, family)| (*family).to_owned())
}

/// The first whose parts all occur wins: special ones first.
const FAMILIES: &[(&[&str], &str)] = &[
    (&["syn", "ack", "reflection"], "tcp-synack-reflection"),
    (&["synack"], "tcp-synack-reflection"),
    (&["portscan"], "port-scan"),
    (&["port-scan"], "port-scan"),
    (&["portmap"], "portmap-amplification"),
    (&["masscan"], "port-scan"),
    (&["horizontalscan"], "port-scan"),
    (&["horizontalportscan"], "port-scan"),
    (&["partofahorizontal"], "port-scan"),
    (&["reconnaissance"], "port-scan"),
    (&["dns", "query"], "dns-query-flood"),
    (&["water-torture"], "dns-query-flood"),
    (&["dns"], "dns-amplification"),
    (&["ntp"], "ntp-amplification"),
    (&["snmp"], "snmp-amplification"),
    (&["ssdp"], "ssdp-amplification"),
    (&["ldap"], "cldap-amplification"),
    (&["memcache"], "memcached-amplification"),
    (&["chargen"], "chargen-amplification"),
    (&["netbios"], "netbios-amplification"),
    (&["mssql"], "mssql-amplification"),
    (&["tftp"], "tftp-amplification"),
    (&["syn"], "tcp-syn-flood"),
    (&["ack", "flood"], "tcp-ack-flood"),
    (&["rst", "flood"], "tcp-rst-flood"),
    (&["icmp"], "icmp-flood"),
    (&["fragment"], "ip-fragments"),
    (&["udp"], "udp-flood"),
    (&["slow"], "slow-http"),
    (&["hulk"], "http-flood"),
    (&["goldeneye"], "http-flood"),
    (&["loic"], "http-flood"),
    (&["http", "flood"], "http-flood"),
    (&["webddos"], "http-flood"),
    (&["patator"], "brute-force"),
    (&["web-attack"], "web-attack"),
    (&["bruteforce"], "brute-force"),
    (&["brute-force"], "brute-force"),
    (&["heartbleed"], "exploit"),
    (&["exploit"], "exploit"),
    (&["infiltration"], "infiltration"),
    (&["c-c"], "botnet"),
    (&["botnet"], "botnet"),
    (&["filedownload"], "botnet"),
    (&["okiru"], "botnet"),
    (&["mirai"], "botnet"),
    (&["torii"], "botnet"),
    // CIC-IDS2017's "DDoS" is LOIC's HTTP flood; elsewhere the word says no more than that.
    (&["ddos"], "http-flood"),
];

/// Lower case, one hyphen for whatever is no letter or digit; "attempted" is an attack whose victim did not answer.
fn plain(words: &str) -> String {
    let words = words.to_ascii_lowercase();
    let words = words.trim_end_matches("attempted");
    let mut plain = String::with_capacity(words.len());
    for letter in words.chars() {
        if letter.is_ascii_alphanumeric() {
            plain.push(letter);
        } else if !plain.ends_with('-') && !plain.is_empty() {
            plain.push('-');
        }
    }
    plain.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_data_sets_find_their_family() {
        for (words, expected) in [
            ("syn_flood_cicddos2019", "tcp-syn-flood"),
            ("tcp_syn_ack_slow_reflection", "tcp-synack-reflection"),
            ("DrDoS_DNS", "dns-amplification"),
            ("Web Attack - Brute Force", "web-attack"),
            ("Web Attack \u{fffd} XSS", "web-attack"),
            ("FTP-Patator", "brute-force"),
            ("ftp_bruteforce", "brute-force"),
            ("DoS Hulk - Attempted", "http-flood"),
            ("DoS Slowhttptest", "slow-http"),
            ("DDoS", "http-flood"),
            ("PartOfAHorizontalPortScan", "port-scan"),
            ("C&C-Torii", "botnet"),
            ("UDP-lag", "udp-flood"),
            ("tcp-synack-reflection", "tcp-synack-reflection"),
            ("Some New Thing", "some-new-thing"),
        ] {
            assert_eq!(family(words), expected, "{words}");
        }
    }

    #[test]
    fn the_catalogue_keeps_its_names() {
        for vector in weir_flow_record::Vector::ALL {
            assert_eq!(family(vector.name()), vector.name());
        }
    }
}
