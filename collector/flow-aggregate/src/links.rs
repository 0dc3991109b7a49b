//! Links: what passes some interfaces of an exporter, or all that it tells (RFC 9387 §3.1.3: total traffic per forwarding node
//! and link), whatever zone it is for.

use weir_flow_record::{DatagramInfo, Direction, ExporterId, FlowBatch, TargetKey, Vector, ZoneId};

use crate::addition::{self, Record, Whole};
use crate::ring::{Clock, Rings};
use crate::{LinkInterfaces, Series, TargetScope};

/// Exporters whose links are remembered.
const MAX_EXPORTERS: usize = 1 << 16;

/// Sums of links. Without links it costs nothing.
#[derive(Debug)]
pub(crate) struct Links {
    links: Vec<Link>,
    /// The links of each exporter, by its dense number, once it was looked up.
    of_exporter: Vec<Option<Vec<usize>>>,
    /// Those of exporters beyond that.
    others: Vec<usize>,
}

#[derive(Debug)]
struct Link {
    interfaces: LinkInterfaces,
    sides: [Rings; 2],
}

impl Links {
    pub(crate) fn new(links: Vec<LinkInterfaces>) -> Self {
        let link = |interfaces| Link {
            interfaces,
            sides: [Rings::new(), Rings::new()],
        };
        Self {
            links: links.into_iter().map(link).collect(),
            of_exporter: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Adds a datagram's rows to the links that they pass. `clip` is the longest duration of a record.
    pub(crate) fn add(
        &mut self,
        batch: &FlowBatch,
        datagram: &DatagramInfo,
        rows: std::ops::Range<u32>,
        (clock, clip): (&Clock, i64),
    ) {
        let index = datagram.exporter.0 as usize;
        self.look_up(datagram.exporter, datagram);
        let known = self.of_exporter.get(index).and_then(Option::as_ref);
        let of_exporter = known.unwrap_or(&self.others);
        if of_exporter.is_empty() {
            return;
        }
        for row in rows {
            let at = row as usize;
            for link in of_exporter {
                let Some(Link { interfaces, sides }) = self.links.get_mut(*link) else {
                    continue;
                };
                let passes = [
                    interfaces.holds(batch.input_interface[at]),
                    !interfaces.is_all() && interfaces.holds(batch.output_interface[at]),
                ];
                for (rings, _) in sides.iter_mut().zip(passes).filter(|(_, passes)| *passes) {
                    let rate = batch.sampling_rate[at];
                    let (whole, _) = Whole::new((batch.octets[at], batch.packets[at], rate));
                    let span = addition::span(batch, datagram, at, clip);
                    let vector: Vector = batch.vector(at);
                    match Record::new(span, whole) {
                        Record::Point(point) => rings.add(clock, vector, &point, rate),
                        Record::Long(long) => rings.add(clock, vector, &long, rate),
                    };
                }
            }
        }
    }

    /// The series of links that changed.
    pub(crate) fn summarise(&mut self, clock: &Clock, out: &mut Vec<Series>) {
        for link in &mut self.links {
            for (direction, rings) in [Direction::In, Direction::Out]
                .into_iter()
                .zip(&mut link.sides)
            {
                let target = TargetKey {
                    prefix: link.interfaces.exporter.host(),
                    direction,
                    zone: link.interfaces.id,
                };
                let reading = rings.read(clock);
                out.extend(reading.map(|reading| reading.series(target, TargetScope::Link)));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Octets of memory.
    pub(crate) fn octets(&self) -> usize {
        let sides = self.links.iter().flat_map(|link| &link.sides);
        sides.map(Rings::octets).sum()
    }

    fn look_up(&mut self, exporter: ExporterId, datagram: &DatagramInfo) {
        let index = exporter.0 as usize;
        if index >= MAX_EXPORTERS {
            self.others = self.links_of(datagram);
            return;
        }
        if self.of_exporter.len() <= index {
            self.of_exporter.resize(index + 1, None);
        }
        if self.of_exporter[index].is_none() {
            self.of_exporter[index] = Some(self.links_of(datagram));
        }
    }

    fn links_of(&self, datagram: &DatagramInfo) -> Vec<usize> {
        let links = self.links.iter().enumerate();
        links
            .filter(|(_, link)| link.interfaces.exporter == datagram.exporter_address)
            .map(|(index, _)| index)
            .collect()
    }
}

impl LinkInterfaces {
    fn is_all(&self) -> bool {
        self.interfaces.is_empty()
    }

    fn holds(&self, interface: u32) -> bool {
        self.is_all() || self.interfaces.contains(&interface)
    }

    /// The number that stands for a link where targets have that of their zone: they count from the other end.
    #[must_use]
    pub fn number(index: usize) -> ZoneId {
        ZoneId(u16::MAX - u16::try_from(index).unwrap_or(u16::MAX))
    }
}
