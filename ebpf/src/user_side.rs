use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::layout::{Flow, FlowKey, HEADERS, Sample, Totals};
use crate::parser::parse;
use crate::settings::SamplerSettings;

/// What the kernel program does, in user space: for the methods that bring whole frames here.
pub(crate) struct UserSide {
    one_in: u32,
    headers: bool,
    max_flows: usize,
    flows: Option<HashMap<FlowKey, Flow>>,
    random: u64,
    pub(crate) totals: Totals,
}

impl UserSide {
    pub(crate) fn new(settings: &SamplerSettings, seed: u64) -> Self {
        Self {
            one_in: settings.sample_one_in,
            headers: settings.headers,
            max_flows: settings.max_flows as usize,
            flows: settings.exact.then(HashMap::new),
            random: seed | 1,
            totals: Totals::default(),
        }
    }

    /// Counts a frame of `frame_octets`, of which `octets` are here; hands it on if its turn has come, and says so.
    pub(crate) fn handle_frame(
        &mut self,
        time: u64,
        frame_octets: u32,
        octets: &[u8],
        each: &mut impl FnMut(&Sample, &[u8]),
    ) -> bool {
        self.totals.packets += 1;
        self.totals.octets += u64::from(frame_octets);
        let due = self.is_due();
        if !due && self.flows.is_none() {
            return false;
        }
        self.totals.samples += u64::from(due);
        let octets = octets.get(..HEADERS).unwrap_or(octets);
        let Some(mut sample) = parse(octets, frame_octets) else {
            self.totals.without_ip += 1;
            return false;
        };
        sample.time = time;
        self.count_flow(&sample);
        if due {
            let headers = if self.headers { octets } else { &[] };
            // At most 128.
            sample.headers = headers.len() as u8;
            each(&sample, headers);
        }
        due
    }

    /// Hands over all flows and forgets them.
    pub(crate) fn take_flows(&mut self, mut each: impl FnMut(&FlowKey, &Flow)) {
        if let Some(flows) = &mut self.flows {
            for (key, flow) in flows.drain() {
                each(&key, &flow);
            }
        }
    }

    /// Gaps are even between 1 and 2N − 1, as in the kernel.
    fn is_due(&mut self) -> bool {
        if self.one_in <= 1 {
            return self.one_in == 1;
        }
        if self.totals.until_next > 1 {
            self.totals.until_next -= 1;
            return false;
        }
        // xorshift64 (Marsaglia 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.totals.until_next = (self.random >> 16) % (2 * u64::from(self.one_in) - 1) + 1;
        true
    }

    fn count_flow(&mut self, sample: &Sample) {
        let Some(flows) = &mut self.flows else { return };
        let flow = Flow {
            packets: 1,
            octets: u64::from(sample.octets),
            first: sample.time,
            last: sample.time,
            tcp_flags: sample.tcp_flags,
            ttl: sample.ttl,
            ..Flow::default()
        };
        let has_room = flows.len() < self.max_flows;
        match flows.entry(FlowKey::of(sample)) {
            Entry::Occupied(mut known) => known.get_mut().add(&flow),
            Entry::Vacant(place) if has_room => {
                place.insert(flow);
            }
            Entry::Vacant(_) => {
                self.totals.refused_packets += 1;
                self.totals.refused_octets += flow.octets;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{Address, ExtraRow, Row};

    use super::*;

    fn frame(port: u16) -> Vec<u8> {
        let row = Row {
            source_address: Address::from_v4([192, 0, 2, 1]),
            destination_address: Address::from_v4([203, 0, 113, 9]),
            source_port: port,
            protocol: 17,
            octets: 100,
            ..Row::default()
        };
        let mut octets = Vec::new();
        weir_packet::encode::ethernet(&row, &ExtraRow::default(), &mut octets);
        octets
    }

    #[test]
    fn one_in_n_is_n_in_the_mean() {
        let settings = SamplerSettings::default();
        let mut side = UserSide::new(&settings, 7);
        let (octets, mut sampled) = (frame(1), 0);
        for time in 0..1_000_000 {
            side.handle_frame(time, 100, &octets, &mut |_, headers| {
                sampled += 1;
                assert_eq!(headers, octets);
            });
        }
        assert_eq!(side.totals.packets, 1_000_000);
        // Gaps have a standard deviation of 57: the count's is 58 at most.
        assert!((9_700..10_300).contains(&sampled), "{sampled}");
    }

    #[test]
    fn a_full_flow_table_counts_what_it_refuses() {
        let settings = SamplerSettings {
            exact: true,
            max_flows: 10,
            ..SamplerSettings::default()
        };
        let mut side = UserSide::new(&settings, 7);
        for port in 0..25 {
            side.handle_frame(u64::from(port), 100, &frame(port % 15), &mut |_, _| {});
        }
        let mut packets = 0;
        let mut flows = 0;
        side.take_flows(|_, flow| (packets, flows) = (packets + flow.packets, flows + 1));
        assert_eq!((flows, packets + side.totals.refused_packets), (10, 25));
        assert_eq!(side.totals.refused_packets, 5);
        side.take_flows(|_, _| panic!("a flow is told once"));
    }
}
