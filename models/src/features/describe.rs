use std::sync::OnceLock;

use super::slot::{BUCKETS, Slot};

/// Writes the features of a window of so many seconds in the order of the schema.
pub(crate) fn describe(sum: &Slot, seconds: usize, out: &mut [f32]) {
    let seconds = seconds as f32;
    let mut put = {
        let mut places = out.iter_mut();
        move |value: f32| {
            if let Some(place) = places.next() {
                *place = value;
            }
        }
    };
    put((1.0 + sum.packets / seconds).log2());
    put((1.0 + sum.octets * 8.0 / seconds).log2());
    put((1.0 + sum.source_count()).log2());
    put((share(sum.octets, sum.packets) + 1.0).log2());
    for size in sum.sizes {
        put(share(size, sum.packets));
    }
    for protocol in sum.protocols {
        put(share(protocol, sum.packets));
    }
    for flag in sum.flags {
        put(share(flag as f32, sum.flagged as f32));
    }
    let records = sum.records as f32;
    put(share(sum.single_packet as f32, records));
    put(mean(sum.logs[0], records));
    put(spread(sum.logs[0], records));
    put(mean(sum.logs[1], records));
    put(spread(sum.logs[1], records));
    put(spread(sum.logs[2], records));
    put(share(sum.instant as f32, records));
    put(share(sum.lasting as f32, records));
    put(share(sum.speed, sum.speeds as f32));
    put(evenness(&sum.sources, sum.records));
    put(if sum.records < 2 {
        f32::NAN
    } else {
        (sum.source_count() / records).min(1.0)
    });
    let ports = sum.with_ports;
    put(evenness(&sum.destination_ports, ports));
    put(if ports < 2 {
        f32::NAN
    } else {
        (sum.port_count() / ports as f32).min(1.0)
    });
    put(top(&sum.destination_ports, ports));
    put(evenness(&sum.source_ports, ports));
    put(top(&sum.source_ports, ports));
    put(share(sum.from_service as f32, ports as f32));
    put(share(sum.to_service as f32, ports as f32));
    put(log_ratio(sum.packets, sum.packets_out));
    put(log_ratio(sum.octets, sum.octets_out));
    put(log_ratio(records, sum.records_out as f32));
    put(share(
        sum.vector_octets.iter().copied().fold(0.0, f32::max),
        sum.octets,
    ));
    for vector in sum.vectors {
        put(share(vector, sum.packets));
    }
}

/// The logarithm of a ratio; unknown where the second was not seen at all: an exporter may watch one direction only.
pub(crate) fn log_ratio(one: f32, other: f32) -> f32 {
    if other > 0.0 {
        ((one + 1.0) / (other + 1.0)).log2()
    } else {
        f32::NAN
    }
}

fn share(part: f32, whole: f32) -> f32 {
    if whole > 0.0 { part / whole } else { f32::NAN }
}

fn mean([sum, _]: [f32; 2], count: f32) -> f32 {
    share(sum, count)
}

fn spread([sum, squares]: [f32; 2], count: f32) -> f32 {
    if count < 2.0 {
        return f32::NAN;
    }
    let mean = sum / count;
    (squares / count - mean * mean).max(0.0).sqrt()
}

/// Entropy of hashed counters, as a share of what that many records could have at most: 0 all the same, 1 all different.
fn evenness(buckets: &[u16; BUCKETS], records: u32) -> f32 {
    if records < 2 {
        return f32::NAN;
    }
    let total: u32 = buckets.iter().map(|count| u32::from(*count)).sum();
    let logs: f32 = buckets.iter().map(|count| count_log(*count)).sum();
    let total = total as f32;
    let entropy = total.log2() - logs / total;
    (entropy / expected_entropy(total)).clamp(0.0, 1.0)
}

/// The entropy of so many different values hashed to the counters, roughly.
fn expected_entropy(records: f32) -> f32 {
    let buckets = BUCKETS as f32;
    // Occupied counters after so many throws.
    let occupied = buckets * (1.0 - (-records / buckets).exp());
    occupied.max(2.0).log2()
}

fn top(buckets: &[u16; BUCKETS], records: u32) -> f32 {
    if records < 2 {
        return f32::NAN;
    }
    let most = buckets.iter().copied().max().unwrap_or(0);
    (f32::from(most) / records as f32).min(1.0)
}

/// `count · log2(count)`, from a table for the counts that come often.
fn count_log(count: u16) -> f32 {
    static TABLE: OnceLock<[f32; 256]> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        std::array::from_fn(|count| {
            if count < 2 {
                0.0
            } else {
                count as f32 * (count as f32).log2()
            }
        })
    });
    match table.get(usize::from(count)) {
        Some(value) => *value,
        None => f32::from(count) * f32::from(count).log2(),
    }
}
