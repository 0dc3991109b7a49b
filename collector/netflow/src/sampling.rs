//! Sampling rates that exporters state in options data, per domain and sampler.

use weir_flow_record::ReceivedAt;

use crate::change::FieldSpecifier;
use crate::cursor::{Cursor, unsigned};
use crate::element as ie;
use crate::plan::VARIABLE;

/// Marks a sampler that stands for a scope other than a sampler's id (an interface, a line card), so that two of them with
/// different rates are not taken for one.
const BY_SCOPE: u64 = 1 << 63;

/// The samplers of a domain.
#[derive(Default, Debug)]
pub(crate) struct Samplers {
    /// By id.
    known: Vec<Sampler>,
    /// The rate that holds for the whole domain.
    whole: Option<u32>,
    of_domain: RateOfDomain,
}

#[derive(Clone, Copy, Debug)]
struct Sampler {
    id: u64,
    rate: u32,
    stated_at: ReceivedAt,
}

/// The rate of a record that names no sampler.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum RateOfDomain {
    #[default]
    Unknown,
    One(u32),
    Several,
}

impl Samplers {
    /// No samplers.
    pub(crate) const NONE: Self = Self {
        known: Vec::new(),
        whole: None,
        of_domain: RateOfDomain::Unknown,
    };

    pub(crate) fn of_domain(&self) -> RateOfDomain {
        self.of_domain
    }

    /// The rate of a record that names this sampler.
    pub(crate) fn rate(&self, sampler: u64) -> Option<u32> {
        let place = self.place(sampler).ok();
        place
            .and_then(|place| self.known.get(place))
            .map(|known| known.rate)
            .or(self.whole)
    }

    /// Samplers that take room.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether a statement about this one needs no room.
    pub(crate) fn knows(&self, sampler: Option<u64>) -> bool {
        sampler.is_none_or(|id| self.place(id).is_ok())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Option<u64>, u32)> + '_ {
        let whole = self.whole.map(|rate| (None, rate));
        let known = self.known.iter().map(|known| (Some(known.id), known.rate));
        whole.into_iter().chain(known)
    }

    /// Takes in a statement; `None` if there was no room, else whether it was news.
    pub(crate) fn set(
        &mut self,
        sampler: Option<u64>,
        rate: u32,
        room: bool,
        at: ReceivedAt,
    ) -> Option<bool> {
        let news = match sampler {
            None => self.whole.replace(rate) != Some(rate),
            Some(id) => match self.place(id) {
                Ok(place) => self.known.get_mut(place).is_some_and(|known| {
                    known.stated_at = known.stated_at.max(at);
                    std::mem::replace(&mut known.rate, rate) != rate
                }),
                Err(_) if !room => return None,
                Err(place) => {
                    let stated_at = at;
                    self.known.insert(
                        place,
                        Sampler {
                            id,
                            rate,
                            stated_at,
                        },
                    );
                    true
                }
            },
        };
        if news {
            self.of_domain = self.judge();
        }
        Some(news)
    }

    /// The sampler stated longest ago, and when.
    pub(crate) fn oldest(&self) -> Option<(ReceivedAt, u64)> {
        let samplers = self.known.iter();
        samplers.map(|known| (known.stated_at, known.id)).min()
    }

    /// Forgets a sampler.
    pub(crate) fn forget(&mut self, sampler: u64) {
        self.known.retain(|known| known.id != sampler);
        self.of_domain = self.judge();
    }

    /// What several domains say together: a sampler, or all of a domain, to which they give different rates has none.
    pub(crate) fn merged<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let (mut known, mut wholes) = (Vec::new(), Vec::new());
        for samplers in all {
            wholes.extend(samplers.whole);
            known.extend_from_slice(&samplers.known);
        }
        known.sort_unstable_by_key(|sampler| (sampler.id, sampler.rate));
        known.dedup_by_key(|sampler| (sampler.id, sampler.rate));
        wholes.sort_unstable();
        wholes.dedup();
        let mut merged = Self {
            whole: wholes.first().copied().filter(|_| wholes.len() == 1),
            ..Self::NONE
        };
        for same in known.chunk_by(|one, other| one.id == other.id) {
            if let &[sampler] = same {
                merged.known.push(sampler);
            }
        }
        let contradicted = merged.known.len() < known.len();
        merged.of_domain = match merged.judge() {
            RateOfDomain::One(_) if contradicted => RateOfDomain::Several,
            rate => rate,
        };
        merged
    }

    fn place(&self, sampler: u64) -> Result<usize, usize> {
        self.known.binary_search_by_key(&sampler, |known| known.id)
    }

    fn judge(&self) -> RateOfDomain {
        if let Some(rate) = self.whole {
            return RateOfDomain::One(rate);
        }
        match self.known.split_first() {
            None => RateOfDomain::Unknown,
            Some((first, rest)) if rest.iter().all(|other| other.rate == first.rate) => {
                RateOfDomain::One(first.rate)
            }
            Some(_) => RateOfDomain::Several,
        }
    }
}

/// What one options record says that matters here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Statement {
    pub(crate) sampler: Option<u64>,
    /// 0 = none stated.
    pub(crate) rate: u32,
    /// IE 160, ms since 1970.
    pub(crate) system_init: Option<u64>,
}

/// How to read options records.
#[derive(Debug)]
pub(crate) struct OptionsPlan {
    scope_fields: usize,
    netflow_v9: bool,
    /// Octets of a record; 0 if it varies or there is none.
    stride: usize,
    shortest: usize,
    /// Whether any field matters.
    matters: bool,
}

impl OptionsPlan {
    pub(crate) fn compile(fields: &[FieldSpecifier], scope_fields: u16, netflow_v9: bool) -> Self {
        let variable = !netflow_v9 && fields.iter().any(|field| field.length == VARIABLE);
        let shortest = fields
            .iter()
            .map(|field| match field.length {
                VARIABLE if variable => 1,
                length => usize::from(length),
            })
            .sum();
        let scope_fields = usize::from(scope_fields);
        let matters = fields.iter().skip(scope_fields).any(|field| {
            field.enterprise == 0
                && matches!(
                    field.element,
                    ie::SAMPLING_INTERVAL
                        | ie::SAMPLER_RANDOM_INTERVAL
                        | ie::SAMPLING_PACKET_INTERVAL
                        | ie::SAMPLING_POPULATION
                        | ie::SAMPLING_PROBABILITY
                        | ie::SYSTEM_INIT_TIME_MILLISECONDS
                )
        });
        Self {
            scope_fields,
            netflow_v9,
            stride: if variable { 0 } else { shortest },
            shortest,
            matters,
        }
    }

    /// Reads the records of a Set; returns their number and whether all were whole.
    pub(crate) fn read(
        &self,
        fields: &[FieldSpecifier],
        set: &[u8],
        mut take: impl FnMut(Statement),
    ) -> (u32, bool) {
        if self.shortest == 0 {
            return (0, set.is_empty());
        }
        if self.stride > 0 && !self.matters {
            return ((set.len() / self.stride) as u32, true);
        }
        let mut cursor = Cursor::new(set);
        let mut count = 0;
        while cursor.remaining() >= self.shortest {
            let record = cursor.rest();
            match self.record(fields, &mut cursor) {
                Some(statement) => take(statement),
                None => return (count, record.iter().all(|&octet| octet == 0)),
            }
            count += 1;
        }
        (count, true)
    }

    fn record(&self, fields: &[FieldSpecifier], cursor: &mut Cursor<'_>) -> Option<Statement> {
        let mut parts = Parts::default();
        for (index, field) in fields.iter().enumerate() {
            let value = if field.length == VARIABLE && !self.netflow_v9 {
                cursor.variable_length()?
            } else {
                cursor.take(usize::from(field.length))?
            };
            if field.enterprise != 0 {
                continue;
            }
            if index < self.scope_fields {
                parts.scope(field.element, self.netflow_v9, value);
            } else {
                parts.field(field.element, value);
            }
        }
        Some(parts.statement())
    }
}

/// The parts of a statement as they come.
#[derive(Default)]
struct Parts {
    sampler: Option<u64>,
    scope: Option<u64>,
    interval: u64,
    packet_interval: u64,
    packet_space: Option<u64>,
    size: u64,
    population: u64,
    probability: u32,
    /// The record cannot be what its template says.
    implausible: bool,
    system_init: Option<u64>,
}

/// IE 35 has two values; some exporters add a third. FortiOS sends records that do not fit their template, which show in
/// algorithms and intervals that do not exist (nfdump issues 77 and 212).
const MOST_ALGORITHMS: u64 = 3;

impl Parts {
    /// RFC 3954 §6.1: types 1 System, 2 Interface, 3 Line Card, 4 Cache, 5 Template. IPFIX: any element; those that name
    /// the exporter, the exporting process or the domain mean the whole of it.
    fn scope(&mut self, element: u16, netflow_v9: bool, value: &[u8]) {
        let value_of = || unsigned(value) | BY_SCOPE;
        match (netflow_v9, element) {
            (true, 1) | (false, 130 | 131 | 144 | 149 | 211) => {}
            (true, 2..=5) => self.scope = Some(value_of()),
            (_, ie::SELECTOR_ID | ie::SAMPLER_ID) => self.sampler = Some(unsigned(value)),
            _ => self.scope = Some(value_of()),
        }
    }

    fn field(&mut self, element: u16, value: &[u8]) {
        let number = unsigned(value);
        match element {
            ie::SELECTOR_ID | ie::SAMPLER_ID => self.sampler = Some(number),
            ie::SAMPLING_INTERVAL | ie::SAMPLER_RANDOM_INTERVAL => {
                self.interval = self.interval.max(number);
            }
            ie::SAMPLING_ALGORITHM => self.implausible = number > MOST_ALGORITHMS,
            ie::SAMPLING_PACKET_INTERVAL => self.packet_interval = number,
            ie::SAMPLING_PACKET_SPACE => self.packet_space = Some(number),
            ie::SAMPLING_SIZE => self.size = number,
            ie::SAMPLING_POPULATION => self.population = number,
            ie::SAMPLING_PROBABILITY => {
                self.probability = probability_rate(number, value.len() as u16);
            }
            ie::SYSTEM_INIT_TIME_MILLISECONDS => self.system_init = Some(number),
            _ => {}
        }
    }

    fn statement(&self) -> Statement {
        let rates = [
            u32::try_from(self.interval).unwrap_or(u32::MAX),
            self.packet_space.map_or(0, |space| {
                ratio(
                    self.packet_interval.saturating_add(space),
                    self.packet_interval,
                )
            }),
            ratio(self.population, self.size),
            self.probability,
        ];
        let rate = rates
            .into_iter()
            .find(|&rate| rate > 0 && !self.implausible);
        Statement {
            sampler: self.sampler.or(self.scope),
            rate: rate.unwrap_or(0),
            system_init: self.system_init.filter(|&init| init > 0),
        }
    }
}

/// `whole` ÷ `part`, rounded, at least 1; 0 where either is 0.
pub(crate) fn ratio(whole: u64, part: u64) -> u32 {
    if whole == 0 || part == 0 {
        return 0;
    }
    let rate = whole.saturating_add(part / 2) / part;
    u32::try_from(rate).unwrap_or(u32::MAX).max(1)
}

/// IE 311, a floating-point number of four or eight octets.
pub(crate) fn probability_rate(bits: u64, width: u16) -> u32 {
    let probability = match width {
        4 => f64::from(f32::from_bits(bits as u32)),
        8 => f64::from_bits(bits),
        _ => return 0,
    };
    if probability > 0.0 && probability <= 1.0 {
        // A float cast saturates.
        (1.0 / probability).round() as u32
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: ReceivedAt = ReceivedAt::from_nanos(0);

    #[test]
    fn a_record_without_sampler_gets_the_only_rate() {
        let mut samplers = Samplers::default();
        assert_eq!(samplers.of_domain(), RateOfDomain::Unknown);
        assert_eq!(samplers.set(Some(1), 100, true, AT), Some(true));
        assert_eq!(samplers.set(Some(1), 100, true, AT), Some(false));
        assert_eq!(samplers.set(Some(2), 100, true, AT), Some(true));
        assert_eq!(samplers.of_domain(), RateOfDomain::One(100));
        samplers.set(Some(2), 200, true, AT);
        assert_eq!(samplers.of_domain(), RateOfDomain::Several);
        assert_eq!((samplers.rate(2), samplers.rate(3)), (Some(200), None));
        assert_eq!(samplers.set(Some(3), 1, false, AT), None);
        samplers.set(None, 50, false, AT);
        assert_eq!(samplers.of_domain(), RateOfDomain::One(50));
        assert_eq!(samplers.rate(3), Some(50));
    }

    #[test]
    fn domains_that_contradict_each_other_state_nothing_together() {
        let domain = |rate| {
            let mut samplers = Samplers::default();
            samplers.set(Some(1), 1_000, true, AT);
            samplers.set(Some(2), rate, true, AT);
            samplers
        };
        let (a, b) = (domain(10), domain(20));
        let merged = Samplers::merged([&a, &b].into_iter());
        assert_eq!((merged.rate(1), merged.rate(2)), (Some(1_000), None));
        assert_eq!(merged.of_domain(), RateOfDomain::Several);
        let merged = Samplers::merged([&a].into_iter());
        assert_eq!((merged.rate(1), merged.rate(2)), (Some(1_000), Some(10)));
    }

    #[test]
    fn ratios_round_and_never_invent_a_rate() {
        assert_eq!(ratio(100, 1), 100);
        assert_eq!(ratio(3, 2), 2);
        assert_eq!(ratio(0, 5), 0);
        assert_eq!(ratio(u64::MAX, 1), u32::MAX);
        assert_eq!(probability_rate(0.01f64.to_bits(), 8), 100);
        assert_eq!(probability_rate(f64::NAN.to_bits(), 8), 0);
    }

    #[test]
    fn interfaces_are_samplers_of_their_own() {
        let field = |element, length| FieldSpecifier {
            element,
            length,
            enterprise: 0,
        };
        let fields = [field(2, 4), field(ie::SAMPLING_INTERVAL, 4)];
        let plan = OptionsPlan::compile(&fields, 1, true);
        let mut seen = Vec::new();
        let set = [0, 0, 0, 7, 0, 0, 0, 10, 0, 0, 0, 8, 0, 0, 0, 20, 0, 0];
        assert_eq!(plan.read(&fields, &set, |said| seen.push(said)), (2, true));
        assert_eq!(seen[0].sampler, Some(BY_SCOPE | 7));
        assert_eq!((seen[0].rate, seen[1].rate), (10, 20));
    }
}
