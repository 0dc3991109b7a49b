use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use weir_attack_event::{AttackEvent, AttackId, EventKind};
use weir_flow_record::{FlowBatch, Timestamp};

use super::folder::{self, BundleInfo};
use super::{EvidenceSettings, Selected};
use crate::ParquetEncoder;

/// Rows of a row group: what an attack takes in memory (about 100 octets each), times the attacks written at once.
const GROUP_ROWS: usize = 8_192;
/// Octets that a row in work may take in the file: more than rows of random IPv6 sources do.
const ROW_OCTETS: u64 = 64;
/// After a failure nothing is tried for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// The capture of sampled packet headers in a bundle.
const HEADERS: &str = "headers.pcap";

/// What an evidence store did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EvidenceCounters {
    /// Rows in finished files.
    pub rows: u64,
    /// Rows of attacks that are in no file.
    pub left_out_rows: u64,
    /// Files that were finished.
    pub files: u64,
    /// Files that were given up because of an error.
    pub abandoned_files: u64,
    /// Unfinished files of an earlier run, removed at the start.
    pub leftover_files: u64,
    /// Event lines that could not be written.
    pub lost_events: u64,
    /// Bundles that were deleted, by age or for want of room.
    pub expired_bundles: u64,
    /// Bundles that are there now.
    pub bundles: u64,
    /// Their octets.
    pub octets: u64,
    /// Attacks whose rows nobody took in because too many others were open.
    pub refused_attacks: u64,
}

/// Writes a folder of files for each attack. It owns no thread and no clock; `now` is wall time, in a replay the data's.
///
/// Files have a name of their own until they are whole and on disk: what is closed survives a crash, and leftovers are removed
/// at the next start. An error of the file system costs the file in work, whose rows are counted; then nothing is tried for
/// 10 s.
pub struct EvidenceStore {
    settings: EvidenceSettings,
    /// All there are.
    bundles: BTreeMap<AttackId, Bundle>,
    /// Attacks whose bundles take no more rows; not told yet.
    full: VecDeque<AttackId>,
    paused_until: Option<Timestamp>,
    counters: EvidenceCounters,
}

struct Bundle {
    folder: PathBuf,
    info: Option<BundleInfo>,
    /// Octets of finished files and event lines.
    octets: u64,
    changed: Timestamp,
    next: u32,
    is_full: bool,
    open: Option<OpenFile>,
}

/// A file in work.
struct OpenFile {
    path: PathBuf,
    file: File,
    encoder: ParquetEncoder,
    octets: u64,
    /// Rows of row groups that are written.
    due: Timestamp,
}

impl Bundle {
    fn write_headers(&mut self, capture: &[u8], limit: u64) -> io::Result<()> {
        let path = self.folder.join(HEADERS);
        let before = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let octets = self.octets.saturating_sub(before) + capture.len() as u64;
        if octets > limit || (capture.len() as u64) < before {
            return Ok(());
        }
        let mut file = folder::create(&folder::part_of(&path))?;
        file.write_all(capture)?;
        folder::publish(&file, &path)?;
        self.octets = octets;
        Ok(())
    }
}

impl EvidenceStore {
    /// Looks at what is there, and removes what an earlier run left unfinished. No other process may be writing there.
    pub fn open(settings: EvidenceSettings) -> io::Result<Self> {
        folder::make(&settings.folder)?;
        let mut store = Self {
            bundles: BTreeMap::new(),
            full: VecDeque::new(),
            paused_until: None,
            counters: EvidenceCounters::default(),
            settings,
        };
        for (attack, path) in folder::folders(&store.settings.folder)? {
            let contents = folder::contents(&path)?;
            folder::mend_events(&path)?;
            store.counters.leftover_files += contents.leftovers;
            let bundle = Bundle {
                info: folder::read_info(&path),
                folder: path,
                octets: contents.octets,
                changed: contents.changed,
                next: contents.next,
                is_full: false,
                open: None,
            };
            store.bundles.insert(attack, bundle);
        }
        store.note_stored();
        Ok(store)
    }

    /// Attacks that were open when an earlier run stopped, and are open no more, have ended.
    pub fn keep_open(&mut self, now: Timestamp, attacks: &BTreeSet<AttackId>) {
        for (attack, bundle) in &mut self.bundles {
            let Some(info) = bundle.info.as_mut().filter(|info| info.ended.is_none()) else {
                continue;
            };
            if !attacks.contains(attack) {
                info.ended = Some(now);
                // Of what cannot be written the next start says the same.
                let _ = folder::write_info(&bundle.folder, info);
            }
        }
    }

    /// Takes in an event of an attack, after the rows that came before it.
    pub fn handle_event(&mut self, now: Timestamp, event: &AttackEvent) {
        if event.kind == EventKind::AttackStart {
            // What another run wrote under this name was another run's.
            self.remove(&event.id);
        }
        if let Err(error) = self.write_event(now, event) {
            self.counters.lost_events += 1;
            tracing::error!(attack = %event.id, %error, "an event is not in the evidence");
        }
        self.keep_within_size();
        self.note_stored();
    }

    /// Takes in rows of an attack.
    pub fn handle_rows(&mut self, now: Timestamp, selected: &Selected) {
        let rows = selected.rows.len() as u64;
        self.leave_out(&selected.attack, selected.left_out);
        if rows == 0 {
            return;
        }
        let paused = self.paused_until.is_some_and(|until| until > now);
        let is_full = self
            .bundles
            .get(&selected.attack)
            .is_none_or(|bundle| bundle.is_full);
        if paused || is_full {
            return self.leave_out(&selected.attack, rows);
        }
        self.paused_until = None;
        let interval = self.settings.interval;
        let limit = self.settings.max_size_per_attack;
        let Some(bundle) = self.bundles.get_mut(&selected.attack) else {
            return;
        };
        match bundle.push(now.plus(interval), &selected.rows) {
            Ok(octets) if octets < limit => {}
            Ok(_) => {
                bundle.is_full = true;
                self.full.push_back(selected.attack.clone());
                self.finish(now, &selected.attack);
            }
            Err(error) => {
                // Rows that it did not come to are lost like those in the file.
                let known = bundle.open.as_ref().map_or(0, |open| open.encoder.rows());
                if known == 0 {
                    self.leave_out(&selected.attack, rows);
                }
                self.abandon(now, &selected.attack, &error);
            }
        }
    }

    /// Puts a capture of sampled packet headers beside an attack's flows, in place of an earlier one that holds no more, where
    /// there is room.
    pub fn handle_headers(&mut self, attack: &AttackId, capture: &[u8]) {
        let limit = self.settings.max_size_per_attack;
        let Some(bundle) = self.bundles.get_mut(attack) else {
            return;
        };
        if let Err(error) = bundle.write_headers(capture, limit) {
            tracing::error!(%attack, %error, "sampled headers are not in the evidence");
        }
        self.keep_within_size();
        self.note_stored();
    }

    /// Counts rows of an attack that found no room on the way here.
    pub fn leave_out(&mut self, attack: &AttackId, rows: u64) {
        self.counters.left_out_rows += rows;
        let info = self
            .bundles
            .get_mut(attack)
            .and_then(|bundle| bundle.info.as_mut());
        if let Some(info) = info {
            info.left_out_rows += rows;
        }
    }

    /// An attack whose bundle takes no more rows. Poll until `None` after each `handle_rows`.
    #[must_use]
    pub fn poll_full(&mut self) -> Option<AttackId> {
        self.full.pop_front()
    }

    /// Finishes files that are due, and deletes bundles that are too old.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for attack in self.attacks_where(|open| open.due <= now) {
            self.finish(now, &attack);
        }
        let retain = self.settings.retain;
        if !retain.is_zero() {
            let old = self
                .bundles
                .iter()
                .filter(|(_, bundle)| bundle.has_ended() && bundle.changed.plus(retain) <= now);
            let old: Vec<AttackId> = old.map(|(attack, _)| attack.clone()).collect();
            for attack in old {
                self.expire(&attack);
            }
        }
        self.keep_within_size();
        self.note_stored();
    }

    /// When `handle_timeout` is due; poll after every `handle_*`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let due = self
            .bundles
            .values()
            .filter_map(|bundle| bundle.open.as_ref())
            .map(|open| open.due);
        let retain = self.settings.retain;
        let old = self
            .bundles
            .values()
            .filter(|bundle| !retain.is_zero() && bundle.has_ended())
            .map(|bundle| bundle.changed.plus(retain));
        due.chain(old).min()
    }

    /// Finishes all files.
    pub fn finish_all(&mut self, now: Timestamp) {
        for attack in self.attacks_where(|_| true) {
            self.finish(now, &attack);
        }
    }

    /// What was done so far.
    pub fn counters(&self) -> EvidenceCounters {
        self.counters
    }

    fn attacks_where(&self, is_wanted: impl Fn(&OpenFile) -> bool) -> Vec<AttackId> {
        self.bundles
            .iter()
            .filter(|(_, bundle)| bundle.open.as_ref().is_some_and(&is_wanted))
            .map(|(attack, _)| attack.clone())
            .collect()
    }

    fn write_event(&mut self, now: Timestamp, event: &AttackEvent) -> io::Result<()> {
        let limit = self.settings.max_size_per_attack;
        let bundle = match self.bundles.get_mut(&event.id) {
            Some(bundle) => bundle,
            None => {
                let path = folder::folder_of(&self.settings.folder, &event.id)
                    .ok_or_else(|| io::Error::other("the attack's name is no file name"))?;
                folder::make(&path)?;
                self.bundles.entry(event.id.clone()).or_insert(Bundle {
                    folder: path,
                    info: None,
                    octets: 0,
                    changed: now,
                    next: 1,
                    is_full: false,
                    open: None,
                })
            }
        };
        bundle.changed = bundle.changed.max(now);
        let info = bundle.info.get_or_insert_with(|| BundleInfo {
            attack: event.id.clone(),
            target: event.target.prefix,
            direction: event.target.direction,
            rows: 0,
            left_out_rows: 0,
            ended: None,
        });
        info.target = event.target.prefix;
        info.ended = None;
        // Of a very long attack updates are left out at last, its end never is.
        if bundle.octets < limit || event.kind != EventKind::AttackUpdate {
            bundle.octets += folder::add_event(&bundle.folder, event)?;
        }
        if event.kind == EventKind::AttackEnd {
            info.ended = Some(now);
            self.finish(now, &event.id);
        }
        Ok(())
    }

    fn finish(&mut self, now: Timestamp, attack: &AttackId) {
        let Some(bundle) = self.bundles.get_mut(attack) else {
            return;
        };
        let rows = bundle.open.as_ref().map(|open| open.encoder.rows());
        match bundle.finish(now) {
            Ok(()) => {
                self.counters.files += u64::from(rows.is_some());
                self.counters.rows += rows.unwrap_or(0);
            }
            Err(error) => self.fail(now, attack, rows.unwrap_or(0), &error),
        }
        self.keep_within_size();
        self.note_stored();
    }

    fn abandon(&mut self, now: Timestamp, attack: &AttackId, error: &io::Error) {
        let open = self
            .bundles
            .get_mut(attack)
            .and_then(|bundle| bundle.open.take());
        let rows = open.as_ref().map_or(0, |open| open.encoder.rows());
        if let Some(open) = open {
            // What stays behind is swept at the next start.
            let _ = fs::remove_file(folder::part_of(&open.path));
        }
        self.fail(now, attack, rows, error);
    }

    fn fail(&mut self, now: Timestamp, attack: &AttackId, rows: u64, error: &io::Error) {
        self.counters.abandoned_files += 1;
        self.leave_out(attack, rows);
        self.paused_until = Some(now.plus(PAUSE));
        tracing::error!(%attack, %error, "flows of attacks are not kept for 10 s");
    }

    /// Deletes ended bundles, the oldest first, until the others fit. The last one stays.
    fn keep_within_size(&mut self) {
        let limit = self.settings.max_size;
        if limit == 0 {
            return;
        }
        while self.octets() > limit && self.bundles.len() > 1 {
            let ended = self.bundles.iter().filter(|(_, bundle)| bundle.has_ended());
            let oldest = ended.min_by_key(|(_, bundle)| bundle.changed);
            let Some(attack) = oldest.map(|(attack, _)| attack.clone()) else {
                break;
            };
            self.expire(&attack);
        }
        if self.octets() > limit {
            // All are open: none grows any more.
            for (attack, bundle) in &mut self.bundles {
                if !bundle.is_full {
                    bundle.is_full = true;
                    self.full.push_back(attack.clone());
                }
            }
        }
    }

    fn expire(&mut self, attack: &AttackId) {
        if self.remove(attack) {
            self.counters.expired_bundles += 1;
        }
    }

    fn remove(&mut self, attack: &AttackId) -> bool {
        let Some(bundle) = self.bundles.remove(attack) else {
            return false;
        };
        if let Err(error) = folder::remove(&bundle.folder) {
            tracing::warn!(folder = %bundle.folder.display(), %error, "an old bundle cannot be deleted");
        }
        true
    }

    fn octets(&self) -> u64 {
        self.bundles.values().map(Bundle::octets).sum()
    }

    fn note_stored(&mut self) {
        self.counters.bundles = self.bundles.len() as u64;
        self.counters.octets = self.octets();
    }
}

impl Bundle {
    /// Whether nothing more comes. What an earlier program left without saying what it is has ended too.
    fn has_ended(&self) -> bool {
        self.open.is_none() && self.info.as_ref().is_none_or(|info| info.ended.is_some())
    }

    /// Octets, with the file in work.
    fn octets(&self) -> u64 {
        self.octets + self.open.as_ref().map_or(0, |open| open.octets)
    }

    /// Appends rows; gives the octets that the bundle has, or will have at most.
    fn push(&mut self, due: Timestamp, rows: &FlowBatch) -> io::Result<u64> {
        let open = match &mut self.open {
            Some(open) => open,
            closed => {
                let path = folder::flows(&self.folder, self.next);
                let file = folder::create(&folder::part_of(&path))?;
                self.next = self.next.saturating_add(1);
                closed.insert(OpenFile {
                    path,
                    file,
                    encoder: ParquetEncoder::new(GROUP_ROWS).map_err(io::Error::other)?,
                    octets: 0,
                    due,
                })
            }
        };
        open.encoder.push(rows).map_err(io::Error::other)?;
        let octets = open.encoder.take_octets();
        open.file.write_all(&octets)?;
        open.octets += octets.len() as u64;
        let in_work = open.encoder.rows() % GROUP_ROWS as u64;
        Ok(self.octets + open.octets + in_work * ROW_OCTETS)
    }

    /// Ends the file in work, and says what the bundle holds.
    fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        if let Some(mut open) = self.open.take() {
            let rows = open.encoder.rows();
            let written = open.encoder.finish().map_err(io::Error::other);
            let written = written.and_then(|octets| {
                open.file.write_all(&octets)?;
                folder::publish(&open.file, &open.path)?;
                Ok(octets.len() as u64)
            });
            match written {
                Ok(octets) => self.octets += open.octets + octets,
                Err(error) => {
                    let _ = fs::remove_file(folder::part_of(&open.path));
                    return Err(error);
                }
            }
            if let Some(info) = &mut self.info {
                info.rows += rows;
            }
            self.changed = self.changed.max(now);
        }
        match &self.info {
            Some(info) => folder::write_info(&self.folder, info),
            None => Ok(()),
        }
    }
}
