//! What outlives the server's own restart: rows out as they change, rows back in.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use weir_dots_proto::Cuid;
use weir_dots_proto::body::Scope;

use super::{Server, entitled};
use crate::data::{protected, targets};
use crate::registry::Restored;
use crate::saved::{RowKey, SavedRow, ServerChange};

impl Server {
    /// Takes back the rows of an earlier run, before anything else: mitigations filter again, and go on until their lifetimes
    /// end. Rows of clients that are not served any more, and targets that are not theirs any more, are dropped.
    pub fn restore(&mut self, rows: impl IntoIterator<Item = SavedRow>) {
        let (owners, rest): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|row| matches!(row, SavedRow::Owner { .. }));
        for row in owners.into_iter().chain(rest) {
            let key = row.key();
            if !self.restore_row(row) {
                tracing::warn!(row = key.text(), "no client has a right to this any more");
                self.changed.insert(key);
            }
        }
    }

    /// False where nobody has a right to the row.
    fn restore_row(&mut self, row: SavedRow) -> bool {
        match row {
            SavedRow::Owner { cuid, client } => {
                let served = self.policy.clients.iter().find(|(name, _)| *name == client);
                if let Some((name, _)) = served {
                    self.owners.insert(cuid, Arc::clone(name));
                }
                served.is_some()
            }
            SavedRow::Mitigation {
                cuid,
                mid,
                scope,
                protected: saved,
                began,
                expires,
                terminates,
                terminating,
            } => {
                // An alias or a name that has changed meanwhile stands for what it stood for when the request was made.
                let protected = saved.map_or_else(
                    || self.protected_before(&cuid, &scope),
                    |saved| Some(*saved),
                );
                let Some(protected) = protected else {
                    return false;
                };
                if !self.is_entitled(&cuid, &protected.target_prefix) {
                    return false;
                }
                if let Some(owner) = self.owners.get(&cuid) {
                    self.presence.expect(self.epoch.instant, owner);
                }
                let saved = Restored {
                    scope: *scope,
                    protected,
                    began,
                    expires,
                    terminates,
                    terminating,
                };
                let mitigator = self.mitigator.as_mut();
                self.registry
                    .restore((cuid, mid), saved, &self.epoch, mitigator);
                true
            }
            SavedRow::Telemetry {
                cuid,
                tmid,
                telemetry,
            } => {
                let targets = telemetry
                    .pre_or_ongoing_mitigation
                    .iter()
                    .filter_map(|item| item.target.as_ref());
                let entitled = targets.fold(self.owners.contains_key(&cuid), |entitled, target| {
                    entitled && self.is_entitled(&cuid, &target.target_prefix)
                });
                if entitled {
                    self.telemetry.restore((cuid, tmid), *telemetry);
                }
                entitled
            }
            // What was said was said, also by who is not served any more.
            SavedRow::Report { report } => {
                self.reports.restore(*report);
                true
            }
            SavedRow::Setup {
                cuid,
                tsid,
                settings,
            } => {
                let mut baselines = settings.baseline.iter();
                let entitled = self.owners.contains_key(&cuid)
                    && baselines.all(|baseline| self.is_entitled(&cuid, &baseline.target_prefix));
                if entitled {
                    let setup = self.setups.entry(cuid).or_default();
                    setup.restore(tsid, *settings);
                }
                entitled
            }
        }
    }

    /// What a row of an earlier version is about, which knew prefixes alone.
    fn protected_before(&self, cuid: &Cuid, scope: &Scope) -> Option<Scope> {
        let client = self.owners.get(cuid)?;
        let targets = targets(self.data.as_ref(), (client, cuid), scope).ok()?;
        Some(protected(scope, &targets))
    }

    /// Whether the owner of a cuid may speak for these targets.
    fn is_entitled(&self, cuid: &Cuid, targets: &[IpNet]) -> bool {
        let owner = self.owners.get(cuid);
        let client = owner.and_then(|owner| {
            let mut clients = self.policy.clients.iter();
            clients.find(|(name, _)| name == owner)
        });
        client.is_some_and(|(_, prefixes)| entitled(targets, prefixes).is_ok())
    }

    /// The next row to be written or deleted. Poll until `None` after each `handle_*`, before `poll_transmit`; rows may be
    /// written in any order.
    #[must_use]
    pub fn poll_persist(&mut self) -> Option<ServerChange> {
        let key = self
            .changed
            .pop_first()
            .or_else(|| self.registry.poll_changed())
            .or_else(|| self.telemetry.poll_changed())
            .or_else(|| self.reports.poll_changed())?;
        let row = self.row(&key);
        Some(ServerChange { key, row })
    }

    /// A row as it stands; `None` where there is none.
    fn row(&self, key: &RowKey) -> Option<SavedRow> {
        match key {
            RowKey::Owner(cuid) => self.owners.get(cuid).map(|client| SavedRow::Owner {
                cuid: cuid.clone(),
                client: Arc::clone(client),
            }),
            RowKey::Mitigation(cuid, mid) => {
                self.registry.saved(&(cuid.clone(), *mid), &self.epoch)
            }
            RowKey::Telemetry(cuid, tmid) => self.telemetry.saved(&(cuid.clone(), *tmid)),
            RowKey::Report(number) => self.reports.get(*number).map(|report| SavedRow::Report {
                report: Box::new(report.clone()),
            }),
            RowKey::Setup(cuid, tsid) => self
                .setups
                .get(cuid)
                .and_then(|setup| setup.saved(cuid, *tsid)),
        }
    }

    /// All rows as they stand.
    pub(crate) fn rows(&self) -> BTreeMap<String, SavedRow> {
        let owners = self.owners.keys().cloned().map(RowKey::Owner);
        let setups = self.setups.iter().flat_map(|(cuid, setup)| {
            let key = |tsid| RowKey::Setup(cuid.clone(), tsid);
            setup.tsids().map(key)
        });
        let telemetry = self
            .telemetry
            .iter()
            .map(|(cuid, tmid, _)| RowKey::Telemetry(cuid.clone(), tmid));
        let mitigations = self
            .registry
            .keys()
            .map(|(cuid, mid)| RowKey::Mitigation(cuid.clone(), *mid));
        let reports = self.reports.iter().map(|one| RowKey::Report(one.number));
        owners
            .chain(setups)
            .chain(reports)
            .chain(telemetry)
            .chain(mitigations)
            .filter_map(|key| Some((key.text(), self.row(&key)?)))
            .collect()
    }
}
