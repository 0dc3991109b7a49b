use weir_flow_record::{Address, Row, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, Vector};

/// Counters that addresses and ports are hashed to.
pub(crate) const BUCKETS: usize = 64;

/// Words of the bitmap that counts sources.
const SOURCE_WORDS: usize = 32;

/// Words of the bitmap that counts destination ports.
const PORT_WORDS: usize = 8;

/// What a second (or the sum of some) holds about one target.
///
/// Packets and octets are scaled by the sampling rate and spread over the record's time; everything else counts each record
/// once, in the second in which it ended.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) packets: f32,
    pub(crate) octets: f32,
    pub(crate) packets_out: f32,
    pub(crate) octets_out: f32,
    /// Scaled packets by vector.
    pub(crate) vectors: [f32; Vector::COUNT],
    /// Scaled octets by vector.
    pub(crate) vector_octets: [f32; Vector::COUNT],
    /// Scaled packets by mean size of the record: below 80, 200, 600, 1200, and above.
    pub(crate) sizes: [f32; 5],
    /// Scaled packets of TCP, UDP, ICMP.
    pub(crate) protocols: [f32; 3],
    /// Records as exported.
    pub(crate) records: u32,
    pub(crate) records_out: u32,
    /// TCP records whose flags are known.
    pub(crate) flagged: u32,
    /// Of these, records with SYN, ACK, PSH, FIN, RST, and with SYN alone (or SYN and RST).
    pub(crate) flags: [u32; 6],
    pub(crate) single_packet: u32,
    pub(crate) instant: u32,
    pub(crate) lasting: u32,
    /// Records from a port below 1024, and to one; only of protocols with ports.
    pub(crate) from_service: u32,
    pub(crate) to_service: u32,
    pub(crate) with_ports: u32,
    /// Sums and sums of squares of the logarithms of packets, octets and octets a packet.
    pub(crate) logs: [[f32; 2]; 3],
    /// Sum of the logarithms of octets a second, over records that last.
    pub(crate) speed: f32,
    pub(crate) speeds: u32,
    pub(crate) sources: [u16; BUCKETS],
    pub(crate) destination_ports: [u16; BUCKETS],
    pub(crate) source_ports: [u16; BUCKETS],
    pub(crate) source_bits: [u64; SOURCE_WORDS],
    pub(crate) port_bits: [u64; PORT_WORDS],
}

impl Slot {
    pub(crate) const EMPTY: Self = Self {
        packets: 0.0,
        octets: 0.0,
        packets_out: 0.0,
        octets_out: 0.0,
        vectors: [0.0; Vector::COUNT],
        vector_octets: [0.0; Vector::COUNT],
        sizes: [0.0; 5],
        protocols: [0.0; 3],
        records: 0,
        records_out: 0,
        flagged: 0,
        flags: [0; 6],
        single_packet: 0,
        instant: 0,
        lasting: 0,
        from_service: 0,
        to_service: 0,
        with_ports: 0,
        logs: [[0.0; 2]; 3],
        speed: 0.0,
        speeds: 0,
        sources: [0; BUCKETS],
        destination_ports: [0; BUCKETS],
        source_ports: [0; BUCKETS],
        source_bits: [0; SOURCE_WORDS],
        port_bits: [0; PORT_WORDS],
    };

    /// Adds a share of a record's packets and octets.
    pub(crate) fn add_traffic(&mut self, traffic: &Traffic, share: f32) {
        let packets = traffic.packets * share;
        let octets = traffic.octets * share;
        self.packets += packets;
        self.octets += octets;
        self.vectors[traffic.vector.index()] += packets;
        self.vector_octets[traffic.vector.index()] += octets;
        self.sizes[traffic.size] += packets;
        if let Some(protocol) = traffic.protocol {
            self.protocols[protocol] += packets;
        }
    }

    /// Adds a share of a record that leaves the target.
    pub(crate) fn add_answer(&mut self, traffic: &Traffic, share: f32) {
        self.packets_out += traffic.packets * share;
        self.octets_out += traffic.octets * share;
    }

    /// Counts a record towards the target.
    pub(crate) fn add_record(&mut self, row: &Row, flags_known: bool) {
        self.records += 1;
        self.count_shape(row);
        if row.protocol == 6 && flags_known {
            self.count_flags(row.tcp_flags);
        }
        count(
            &mut self.sources,
            &mut self.source_bits,
            spread(row.source_address),
        );
        if matches!(row.protocol, 6 | 17 | 132) {
            self.with_ports += 1;
            self.from_service += u32::from(row.source_port < 1024);
            self.to_service += u32::from(row.destination_port < 1024);
            count(
                &mut self.destination_ports,
                &mut self.port_bits,
                mix(u64::from(row.destination_port)),
            );
            let bucket = mix(u64::from(row.source_port)) as usize % BUCKETS;
            self.source_ports[bucket] = self.source_ports[bucket].saturating_add(1);
        }
    }

    fn count_shape(&mut self, row: &Row) {
        let packets = row.packets.max(1) as f32;
        let octets = row.octets.max(1) as f32;
        for (sums, value) in self
            .logs
            .iter_mut()
            .zip([packets, octets, octets / packets])
        {
            let log = value.log2();
            sums[0] += log;
            sums[1] += log * log;
        }
        let duration = row.flow_end.saturating_sub(row.flow_start).max(0);
        self.single_packet += u32::from(row.packets <= 1);
        self.instant += u32::from(duration < 1_000_000);
        self.lasting += u32::from(duration >= 10_000_000_000);
        if duration >= 1_000_000 {
            self.speed += (octets / (duration as f32 / 1e9)).log2();
            self.speeds += 1;
        }
    }

    fn count_flags(&mut self, flags: u16) {
        self.flagged += 1;
        for (sum, flag) in self
            .flags
            .iter_mut()
            .zip([TCP_SYN, TCP_ACK, TCP_PSH, TCP_FIN, TCP_RST])
        {
            *sum += u32::from(flags & flag != 0);
        }
        self.flags[5] += u32::from(flags & (TCP_SYN | TCP_ACK | TCP_PSH | TCP_FIN) == TCP_SYN);
    }

    /// Adds another second.
    pub(crate) fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.octets += other.octets;
        self.packets_out += other.packets_out;
        self.octets_out += other.octets_out;
        add_all(&mut self.vectors, &other.vectors);
        add_all(&mut self.vector_octets, &other.vector_octets);
        add_all(&mut self.sizes, &other.sizes);
        add_all(&mut self.protocols, &other.protocols);
        self.records = self.records.saturating_add(other.records);
        self.records_out = self.records_out.saturating_add(other.records_out);
        self.flagged = self.flagged.saturating_add(other.flagged);
        for (sum, more) in self.flags.iter_mut().zip(other.flags) {
            *sum = sum.saturating_add(more);
        }
        self.single_packet = self.single_packet.saturating_add(other.single_packet);
        self.instant = self.instant.saturating_add(other.instant);
        self.lasting = self.lasting.saturating_add(other.lasting);
        self.from_service = self.from_service.saturating_add(other.from_service);
        self.to_service = self.to_service.saturating_add(other.to_service);
        self.with_ports = self.with_ports.saturating_add(other.with_ports);
        for (sums, more) in self.logs.iter_mut().zip(&other.logs) {
            add_all(sums, more);
        }
        self.speed += other.speed;
        self.speeds = self.speeds.saturating_add(other.speeds);
        add_counts(&mut self.sources, &other.sources);
        add_counts(&mut self.destination_ports, &other.destination_ports);
        add_counts(&mut self.source_ports, &other.source_ports);
        for (word, more) in self.source_bits.iter_mut().zip(other.source_bits) {
            *word |= more;
        }
        for (word, more) in self.port_bits.iter_mut().zip(other.port_bits) {
            *word |= more;
        }
    }

    /// How many sources there are, by linear counting: exact for few, within 10 % up to some five thousand, then a lower bound.
    pub(crate) fn source_count(&self) -> f32 {
        linear_count(&self.source_bits)
    }

    /// How many destination ports there are, likewise up to some thousand.
    pub(crate) fn port_count(&self) -> f32 {
        linear_count(&self.port_bits)
    }
}

/// What a record brings, worked out once and spread over seconds.
pub(crate) struct Traffic {
    packets: f32,
    octets: f32,
    vector: Vector,
    size: usize,
    protocol: Option<usize>,
}

impl Traffic {
    pub(crate) fn of(row: &Row, flags_known: bool) -> Self {
        let rate = row.sampling_rate.max(1) as f32;
        let flags = if flags_known { row.tcp_flags } else { 0 };
        let size = row.octets / row.packets.max(1);
        Self {
            packets: row.packets as f32 * rate,
            octets: row.octets as f32 * rate,
            vector: Vector::classify(
                row.protocol,
                row.source_port,
                row.destination_port,
                flags,
                row.fragment,
            ),
            size: [80, 200, 600, 1200]
                .iter()
                .filter(|limit| size >= **limit)
                .count(),
            protocol: match row.protocol {
                6 => Some(0),
                17 => Some(1),
                1 | 58 => Some(2),
                _ => None,
            },
        }
    }
}

fn add_all(sums: &mut [f32], more: &[f32]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

fn add_counts(sums: &mut [u16; BUCKETS], more: &[u16; BUCKETS]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

fn count<const WORDS: usize>(buckets: &mut [u16; BUCKETS], bits: &mut [u64; WORDS], hash: u64) {
    let bucket = hash as usize % BUCKETS;
    buckets[bucket] = buckets[bucket].saturating_add(1);
    let bit = (hash >> 20) as usize % (WORDS * 64);
    bits[bit / 64] |= 1 << (bit % 64);
}

fn linear_count(bits: &[u64]) -> f32 {
    let all = (bits.len() * 64) as f32;
    let set: u32 = bits.iter().map(|word| word.count_ones()).sum();
    let free = (all - set as f32).max(1.0);
    all * (all / free).ln()
}

/// An address as a well-mixed word. Fixed keys: equal data give equal features, at the price that an attacker who picks his
/// sources can make them fall together; the count then is too low, never too high.
fn spread(address: Address) -> u64 {
    let (high, low) = address.words();
    mix(high ^ mix(low))
}

fn mix(value: u64) -> u64 {
    let value = (value ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 29)
}
