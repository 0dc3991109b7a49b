//! Baselines as rows of the state file: a key in words, a value in octets of a fixed order. What is read may be anything.

use std::net::IpAddr;

use ipnet::IpNet;
use weir_flow_record::{Direction, Vector, ZoneId};

use crate::cell::{Cell, Levels, METRICS};
use crate::config::BaselineSettings;
use crate::histograms::Histograms;
use crate::hours::{DAY, Hours, WEEK};
use crate::learner::{Imported, Learner};
use crate::profile::Profile;
use crate::scale::Rate;
use crate::sketch::Sketch;
use crate::{Aspect, BaselineTarget, Subject};

/// The form that this program writes.
const VERSION: u8 = 1;
/// Most buckets of a sketch: 64 doublings of 32 each.
const MAX_BUCKETS: usize = 2049;
/// Most aspects of a row.
const MAX_ASPECTS: usize = 8192;

/// A row to be kept, or where there is no value to be forgotten.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedRow {
    /// What the row is of, in words.
    pub key: Vec<u8>,
    /// What is known.
    pub value: Option<Vec<u8>>,
}

/// Why a row cannot be brought back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// It ends too early, or holds what no row holds.
    #[error("the row is damaged at octet {0}")]
    Damaged(usize),
    /// It is of a newer program.
    #[error("the row has version {0}, which this program does not know")]
    NewerVersion(u8),
    /// Its key names no target.
    #[error("the row's key names no target")]
    Key,
}

/// The row of a target; `None` for one that has no name.
pub(crate) fn row(
    settings: &BaselineSettings,
    target: &BaselineTarget,
    learner: &Learner,
) -> Option<SavedRow> {
    let key = key_of(settings, target)?;
    let mut out = Writer(vec![VERSION]);
    out.profile(&learner.total);
    out.number(learner.aspects.len() as u16);
    for (aspect, profile) in &learner.aspects {
        out.aspect(*aspect);
        out.profile(profile);
    }
    match &learner.imported {
        Some(imported) => {
            out.0.push(1);
            out.long(imported.at);
            out.number(imported.aspects.len() as u16);
            for (aspect, metrics) in &imported.aspects {
                out.aspect(*aspect);
                for levels in metrics {
                    out.levels(levels.as_ref());
                }
            }
        }
        None => out.0.push(0),
    }
    Some(SavedRow {
        key,
        value: Some(out.0),
    })
}

/// The row that forgets a target.
pub(crate) fn gone(settings: &BaselineSettings, target: &BaselineTarget) -> Option<SavedRow> {
    let key = key_of(settings, target)?;
    Some(SavedRow { key, value: None })
}

/// A target of an earlier run; `None` for a zone or link that is configured no more.
pub(crate) fn read(
    settings: &BaselineSettings,
    key: &[u8],
    value: &[u8],
) -> Result<Option<(BaselineTarget, Learner)>, RestoreError> {
    let Some(target) = target_of(settings, key)? else {
        return Ok(None);
    };
    let mut reader = Reader {
        octets: value,
        at: 0,
    };
    match reader.octet()? {
        VERSION => {}
        0 => return Err(reader.damage()),
        newer => return Err(RestoreError::NewerVersion(newer)),
    }
    let mut learner = Learner::new(false);
    learner.total = reader.profile()?;
    let aspects = usize::from(reader.number()?);
    if aspects > MAX_ASPECTS {
        return Err(reader.damage());
    }
    for _ in 0..aspects {
        let aspect = reader.aspect()?;
        learner.aspects.insert(aspect, reader.profile()?);
    }
    if reader.octet()? == 1 {
        let mut imported = Imported {
            at: reader.long()?,
            ..Imported::default()
        };
        for _ in 0..reader.number()? {
            let aspect = reader.aspect()?;
            let mut metrics = [None; METRICS];
            for levels in &mut metrics {
                *levels = reader.levels()?;
            }
            imported.aspects.insert(aspect, metrics);
        }
        learner.imported = Some(Box::new(imported));
    }
    if reader.at != value.len() {
        return Err(reader.damage());
    }
    learner.continue_after(learner.total.updated);
    Ok(Some((target, learner)))
}

/// `zone/in/customer-a`, `prefix/out/203.0.113.7/32` and the like.
fn key_of(settings: &BaselineSettings, target: &BaselineTarget) -> Option<Vec<u8>> {
    let direction = match target.direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    let (kind, name) = match target.subject {
        Subject::Zone(zone) => {
            let zone = settings.zones.get(usize::from(zone.0))?;
            ("zone", zone.name.to_string())
        }
        Subject::Prefix(prefix) => ("prefix", prefix.to_string()),
        Subject::Exporter(address) => ("exporter", address.to_string()),
        Subject::Link(link) => ("link", settings.links.get(usize::from(link))?.to_string()),
    };
    Some(format!("{kind}/{direction}/{name}").into_bytes())
}

fn target_of(
    settings: &BaselineSettings,
    key: &[u8],
) -> Result<Option<BaselineTarget>, RestoreError> {
    let text = std::str::from_utf8(key).map_err(|_| RestoreError::Key)?;
    let mut parts = text.splitn(3, '/');
    let (Some(kind), Some(direction), Some(name)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(RestoreError::Key);
    };
    let direction = match direction {
        "in" => Direction::In,
        "out" => Direction::Out,
        _ => return Err(RestoreError::Key),
    };
    let place = |found: Option<usize>| found.and_then(|index| u16::try_from(index).ok());
    let subject = match kind {
        "zone" => place(settings.zones.iter().position(|zone| *zone.name == *name))
            .map(|zone| Subject::Zone(ZoneId(zone))),
        "link" => place(settings.links.iter().position(|link| **link == *name)).map(Subject::Link),
        "prefix" => {
            let prefix: IpNet = name.parse().map_err(|_| RestoreError::Key)?;
            Some(Subject::Prefix(prefix))
        }
        "exporter" => {
            let address: IpAddr = name.parse().map_err(|_| RestoreError::Key)?;
            Some(Subject::Exporter(address))
        }
        _ => return Err(RestoreError::Key),
    };
    Ok(subject.map(|subject| BaselineTarget { subject, direction }))
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, value: u16) {
        self.0.extend(value.to_be_bytes());
    }

    fn word(&mut self, value: u32) {
        self.0.extend(value.to_be_bytes());
    }

    fn long(&mut self, value: i64) {
        self.0.extend(value.to_be_bytes());
    }

    fn real(&mut self, value: f64) {
        self.0.extend(value.to_be_bytes());
    }

    fn aspect(&mut self, aspect: Aspect) {
        let (kind, small, large) = match aspect {
            Aspect::Total => (0, 0, 0),
            Aspect::Vector(vector) => (1, 0, vector as u16),
            Aspect::Protocol(protocol) => (2, protocol, 0),
            Aspect::Port { protocol, port } => (3, protocol, port),
        };
        self.0.extend([kind, small]);
        self.number(large);
    }

    fn levels(&mut self, levels: Option<&Levels>) {
        self.0.push(u8::from(levels.is_some()));
        levels
            .into_iter()
            .flatten()
            .for_each(|level| self.real(*level));
    }

    fn profile(&mut self, profile: &Profile) {
        self.0.push(u8::from(profile.histograms.is_some()));
        self.long(profile.hour);
        self.word(profile.seconds);
        self.0.extend(profile.learned.to_be_bytes());
        self.long(profile.since);
        self.long(profile.updated);
        for sketch in &profile.sketches {
            self.real(sketch.sum);
            self.word(sketch.peak.to_bits());
            self.number(sketch.buckets.len() as u16);
            for (bucket, count) in &sketch.buckets {
                self.number(*bucket);
                self.number(*count);
            }
        }
        self.cell(&profile.hours.all);
        self.cells(profile.hours.day.as_slice());
        match &profile.hours.week {
            Some(week) => self.cells(week.as_slice()),
            None => self.0.push(0),
        }
        if let Some(histograms) = &profile.histograms {
            for metric in 0..METRICS {
                let counts: Vec<(u64, u32)> = histograms.counts(metric).collect();
                self.number(counts.len() as u16);
                for (value, count) in counts {
                    self.0.extend(value.to_be_bytes());
                    self.word(count);
                }
            }
        }
    }

    /// Cells that know something, each behind its place.
    fn cells(&mut self, cells: &[Cell]) {
        let known = || cells.iter().enumerate().filter(|(_, cell)| cell.known != 0);
        self.0.push(known().count() as u8);
        for (place, cell) in known() {
            self.0.push(place as u8);
            self.cell(cell);
        }
    }

    fn cell(&mut self, cell: &Cell) {
        for level in cell.levels.iter().flatten().chain(&cell.ceilings) {
            self.number(level.0);
        }
        self.number(cell.minutes);
        self.0.push(cell.known);
        self.word(cell.updated);
    }
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn damage(&self) -> RestoreError {
        RestoreError::Damaged(self.at)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let rest = self.octets.get(self.at..).unwrap_or_default();
        let taken = rest.first_chunk::<N>().ok_or_else(|| self.damage())?;
        self.at += N;
        Ok(*taken)
    }

    fn octet(&mut self) -> Result<u8, RestoreError> {
        self.take::<1>().map(|[octet]| octet)
    }

    fn number(&mut self) -> Result<u16, RestoreError> {
        self.take().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Result<u32, RestoreError> {
        self.take().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Result<i64, RestoreError> {
        self.take().map(i64::from_be_bytes)
    }

    /// A finite number, not negative.
    fn real(&mut self) -> Result<f64, RestoreError> {
        let value = f64::from_be_bytes(self.take()?);
        let sound = value.is_finite() && value >= 0.0;
        sound.then_some(value).ok_or_else(|| self.damage())
    }

    fn aspect(&mut self) -> Result<Aspect, RestoreError> {
        let (kind, small, large) = (self.octet()?, self.octet()?, self.number()?);
        let vector = || {
            Vector::ALL
                .into_iter()
                .find(|vector| *vector as u16 == large)
        };
        match kind {
            0 => Ok(Aspect::Total),
            1 => vector().map(Aspect::Vector).ok_or_else(|| self.damage()),
            2 => Ok(Aspect::Protocol(small)),
            3 => Ok(Aspect::Port {
                protocol: small,
                port: large,
            }),
            _ => Err(self.damage()),
        }
    }

    fn levels(&mut self) -> Result<Option<Levels>, RestoreError> {
        if self.octet()? == 0 {
            return Ok(None);
        }
        let mut levels = Levels::default();
        for level in &mut levels {
            *level = self.real()?;
        }
        Ok(Some(levels))
    }

    fn profile(&mut self) -> Result<Profile, RestoreError> {
        let full = self.octet()? == 1;
        let mut profile = Profile::new(full);
        profile.hour = self.long()?;
        // Hours since the epoch fit 32 bits for half a million years.
        if u32::try_from(profile.hour).is_err() {
            return Err(self.damage());
        }
        profile.seconds = self.word()?;
        profile.learned = u64::from_be_bytes(self.take()?);
        profile.since = self.long()?;
        profile.updated = self.long()?;
        for place in 0..METRICS {
            let sketch = self.sketch()?;
            if let Some(target) = profile.sketches.get_mut(place) {
                *target = sketch;
            }
        }
        profile.hours = self.hours(full)?;
        if let Some(histograms) = &mut profile.histograms {
            self.histograms(histograms)?;
        }
        Ok(profile)
    }

    fn sketch(&mut self) -> Result<Sketch, RestoreError> {
        let mut sketch = Sketch {
            sum: self.real()?,
            peak: f32::from_bits(self.word()?),
            ..Sketch::default()
        };
        let buckets = usize::from(self.number()?);
        if buckets > MAX_BUCKETS || !(sketch.peak >= 0.0 && sketch.peak.is_finite()) {
            return Err(self.damage());
        }
        for _ in 0..buckets {
            let (bucket, count) = (self.number()?, self.number()?);
            let ascends = sketch.buckets.last().is_none_or(|(last, _)| *last < bucket);
            if !ascends || count == 0 {
                return Err(self.damage());
            }
            sketch.count += u32::from(count);
            sketch.buckets.push((bucket, count));
        }
        Ok(sketch)
    }

    fn hours(&mut self, full: bool) -> Result<Hours, RestoreError> {
        let mut hours = Hours::new(full);
        hours.all = self.cell()?;
        self.cells(&mut hours.day[..DAY])?;
        match &mut hours.week {
            Some(week) => self.cells(&mut week[..WEEK])?,
            None => self.cells(&mut [])?,
        }
        Ok(hours)
    }

    fn cells(&mut self, cells: &mut [Cell]) -> Result<(), RestoreError> {
        for _ in 0..self.octet()? {
            let place = usize::from(self.octet()?);
            let cell = self.cell()?;
            let damage = self.damage();
            *cells.get_mut(place).ok_or(damage)? = cell;
        }
        Ok(())
    }

    fn cell(&mut self) -> Result<Cell, RestoreError> {
        let mut cell = Cell::default();
        for level in cell.levels.iter_mut().flatten() {
            *level = Rate(self.number()?);
        }
        for level in &mut cell.ceilings {
            *level = Rate(self.number()?);
        }
        cell.minutes = self.number()?;
        cell.known = self.octet()?;
        cell.updated = self.word()?;
        Ok(cell)
    }

    fn histograms(&mut self, histograms: &mut Histograms) -> Result<(), RestoreError> {
        for metric in 0..METRICS {
            for _ in 0..self.number()? {
                let value = u64::from_be_bytes(self.take()?);
                histograms.restore(metric, value, self.word()?);
            }
        }
        Ok(())
    }
}
