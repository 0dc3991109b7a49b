use sha2::{Digest, Sha256};
use weir_flow_record::Vector;

/// Raised whenever a feature is added, removed, or computed otherwise.
pub const SCHEMA_VERSION: u32 = 1;

/// Features of one window.
pub(crate) const PER_WINDOW: usize = WINDOW_FEATURES.len() + Vector::COUNT;

/// Features of both windows together with the target, behind those of the windows.
pub const CONTEXT: usize = CONTEXT_FEATURES.len();

/// Length of the vector.
pub const FEATURES: usize = 2 * PER_WINDOW + CONTEXT;

/// Lengths of the windows in seconds, in the order in which they stand in the vector.
pub(crate) const WINDOW_SECONDS: [usize; 2] = [10, 1];

/// One feature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feature {
    /// Its name in files, such as `10s.size_mean`.
    pub name: String,
    /// What a high value means, for people.
    pub high: String,
    /// What a low value means, for people.
    pub low: String,
    /// Whether its value depends on how much traffic there is, not only on its kind.
    pub absolute: bool,
}

/// Name, words for high and low, and whether it measures volume.
type Definition = (&'static str, &'static str, &'static str, bool);

/// In the order of `describe`.
const WINDOW_FEATURES: [Definition; 40] = [
    (
        "log_packets",
        "many packets a second",
        "few packets a second",
        true,
    ),
    ("log_bits", "many bits a second", "few bits a second", true),
    ("log_sources", "many sources", "few sources", true),
    ("size_mean", "large packets", "small packets", false),
    (
        "size_below_80",
        "nearly only packets below 80 octets",
        "hardly a packet below 80 octets",
        false,
    ),
    (
        "size_80_200",
        "packets of 80 to 200 octets",
        "no packets of 80 to 200 octets",
        false,
    ),
    (
        "size_200_600",
        "packets of 200 to 600 octets",
        "no packets of 200 to 600 octets",
        false,
    ),
    (
        "size_600_1200",
        "packets of 600 to 1200 octets",
        "no packets of 600 to 1200 octets",
        false,
    ),
    (
        "size_above_1200",
        "packets above 1200 octets",
        "hardly a packet above 1200 octets",
        false,
    ),
    ("tcp", "nearly only TCP", "hardly any TCP", false),
    ("udp", "nearly only UDP", "hardly any UDP", false),
    ("icmp", "ICMP", "no ICMP", false),
    ("flag_syn", "flows with SYN", "flows without SYN", false),
    ("flag_ack", "flows with ACK", "flows without ACK", false),
    (
        "flag_push",
        "flows that carried data (PSH)",
        "flows without data (no PSH)",
        false,
    ),
    (
        "flag_fin",
        "flows that were closed (FIN)",
        "flows never closed (no FIN)",
        false,
    ),
    (
        "flag_reset",
        "flows that were reset (RST)",
        "no flow reset",
        false,
    ),
    (
        "syn_only",
        "connections asked for and never made",
        "connections really made",
        false,
    ),
    (
        "single_packet",
        "flows of one packet",
        "flows of several packets",
        false,
    ),
    (
        "packets_mean",
        "many packets a flow",
        "few packets a flow",
        false,
    ),
    (
        "packets_spread",
        "flows of very different packet counts",
        "flows of equal packet counts",
        false,
    ),
    (
        "octets_mean",
        "many octets a flow",
        "few octets a flow",
        false,
    ),
    (
        "octets_spread",
        "flows of very different sizes",
        "flows of equal size",
        false,
    ),
    (
        "size_spread",
        "packet sizes that vary from flow to flow",
        "the same packet size in all flows",
        false,
    ),
    (
        "instant",
        "flows without duration",
        "flows that last",
        false,
    ),
    (
        "lasting",
        "flows of ten seconds and more",
        "short flows only",
        false,
    ),
    (
        "octets_per_flow_second",
        "fast flows",
        "very slow flows",
        false,
    ),
    (
        "source_entropy",
        "sources spread evenly",
        "few sources that hold most flows",
        false,
    ),
    (
        "sources_per_flow",
        "each flow from another source",
        "many flows a source",
        false,
    ),
    (
        "destination_port_entropy",
        "destination ports spread evenly",
        "one destination port",
        false,
    ),
    (
        "destination_ports_per_flow",
        "each flow to another port",
        "many flows to the same port",
        false,
    ),
    (
        "destination_port_top",
        "one destination port holds nearly all flows",
        "no destination port stands out",
        false,
    ),
    (
        "source_port_entropy",
        "source ports spread evenly",
        "one source port",
        false,
    ),
    (
        "source_port_top",
        "one source port holds nearly all flows",
        "no source port stands out",
        false,
    ),
    (
        "source_port_service",
        "flows from service ports (below 1024)",
        "flows from clients' ports",
        false,
    ),
    (
        "destination_port_service",
        "flows to service ports (below 1024)",
        "flows to high ports",
        false,
    ),
    (
        "packets_in_to_out",
        "far more packets come than are answered",
        "more packets leave than come",
        false,
    ),
    (
        "octets_in_to_out",
        "far more octets come than are answered",
        "far more octets leave than come",
        false,
    ),
    (
        "records_in_to_out",
        "flows that stay without answer",
        "flows that are answered",
        false,
    ),
    (
        "octets_by_top_vector",
        "one kind of traffic alone",
        "several kinds of traffic",
        false,
    ),
];

const CONTEXT_FEATURES: [Definition; 4] = [
    (
        "burst",
        "traffic that comes in bursts",
        "steady traffic",
        false,
    ),
    (
        "packets_over_level",
        "packets far above the target's usual level",
        "packets below the target's usual level",
        false,
    ),
    (
        "octets_over_level",
        "octets far above the target's usual level",
        "octets below the target's usual level",
        false,
    ),
    ("log_sampling", "coarse sampling", "fine sampling", false),
];

/// All features, in the vector's order.
pub fn schema() -> Vec<Feature> {
    let mut features = Vec::with_capacity(FEATURES);
    for seconds in WINDOW_SECONDS {
        let prefix = format!("{seconds}s");
        features.extend(WINDOW_FEATURES.iter().map(|one| feature(&prefix, one)));
        features.extend(Vector::ALL.iter().map(|vector| share(&prefix, *vector)));
    }
    features.extend(CONTEXT_FEATURES.iter().map(|one| feature("target", one)));
    features
}

/// SHA-256 over version, names and order, in hexadecimal: two programs with the same hash mean the same numbers.
pub fn schema_hash() -> String {
    let mut hash = Sha256::new();
    hash.update(SCHEMA_VERSION.to_le_bytes());
    for feature in schema() {
        hash.update(feature.name.as_bytes());
        hash.update([0]);
    }
    crate::hex(&hash.finalize())
}

fn feature(prefix: &str, (name, high, low, absolute): &Definition) -> Feature {
    Feature {
        name: format!("{prefix}.{name}"),
        high: (*high).to_owned(),
        low: (*low).to_owned(),
        absolute: *absolute,
    }
}

/// The share of a vector in the packets; what fits none counts as `total`.
fn share(prefix: &str, vector: Vector) -> Feature {
    let words = match vector {
        Vector::Total => "traffic of no known kind".to_owned(),
        vector => format!("traffic of the kind {vector}"),
    };
    Feature {
        name: format!("{prefix}.share.{vector}"),
        low: format!("no {words}"),
        high: words,
        absolute: false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_as_many_as_numbers() {
        let names: BTreeSet<String> = schema().into_iter().map(|one| one.name).collect();
        assert_eq!(names.len(), FEATURES);
    }

    /// Artefacts carry this hash: who changes features raises the version and this line.
    #[test]
    fn the_hash_is_pinned() {
        assert_eq!(&schema_hash()[..16], "8d153051efa39f67");
    }
}
