//! Brings a server to what the client wants to have there, and keeps it there.

use crate::model::{Acl, Alias, VendorMapping};

use super::{ClientError, DataClient, Position};

/// What a client wants to have at a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Desired {
    /// Aliases.
    pub aliases: Vec<Alias>,
    /// Filters, in the order in which they are tried.
    pub acls: Vec<Acl>,
    /// Vendor mapping.
    pub mapping: VendorMapping,
    /// Entries whose names begin like this are ours to remove when they are no longer wanted; none where it is empty.
    pub prefix: String,
    /// Whether an attack is on: what the signal channel has switched then stays as it is (RFC 9133 §3.1). In peace each
    /// filter gets the activation that is wanted.
    pub under_attack: bool,
}

/// What had to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Synchronised {
    /// Aliases and filters that were put: new, different, or due for a refresh.
    pub put: usize,
    /// Aliases and filters that were removed.
    pub removed: usize,
    /// Whether the server takes vendor mappings.
    pub mapping: bool,
}

/// An entry is refreshed when less than half of the least lifetime is left, in minutes (RFC 8783 §7.2).
const REFRESH_BELOW: i64 = 5_040;

impl DataClient {
    /// Registers where needed, puts what is missing, different or about to expire, and removes what is no longer wanted.
    /// Entries that others have made stay. To be called in peace, after each change and about once a day: the data
    /// channel is not made for the time of an attack (RFC 8783 §3.1).
    pub async fn synchronise(&mut self, desired: &Desired) -> Result<Synchronised, ClientError> {
        self.register().await?;
        let mut done = Synchronised {
            mapping: self.share_mapping(&desired.mapping).await?,
            ..Synchronised::default()
        };
        self.synchronise_aliases(desired, &mut done).await?;
        self.synchronise_acls(desired, &mut done).await?;
        Ok(done)
    }

    async fn synchronise_aliases(
        &mut self,
        desired: &Desired,
        done: &mut Synchronised,
    ) -> Result<(), ClientError> {
        let there = self.aliases().await?;
        for alias in &desired.aliases {
            let same = there.iter().find(|entry| entry.alias == *alias);
            if same.is_none_or(|entry| is_due(entry.pending_lifetime)) {
                self.put_alias(alias).await?;
                done.put += 1;
            }
        }
        let wanted = |name: &str| desired.aliases.iter().any(|alias| alias.name == name);
        for name in there.iter().map(|entry| entry.alias.name.as_str()) {
            if desired.is_ours(name) && !wanted(name) {
                done.removed += usize::from(self.delete_alias(name).await?);
            }
        }
        Ok(())
    }

    async fn synchronise_acls(
        &mut self,
        desired: &Desired,
        done: &mut Synchronised,
    ) -> Result<(), ClientError> {
        let there = self.acls().await?;
        let wanted = |name: &str| desired.acls.iter().any(|acl| acl.name == name);
        for name in there.iter().map(|entry| entry.acl.name.as_str()) {
            if desired.is_ours(name) && !wanted(name) {
                done.removed += usize::from(self.delete_acl(name).await?);
            }
        }
        // What is behind the first filter that stands elsewhere goes to the end, one after the other.
        let mut places = there
            .iter()
            .map(|entry| &entry.acl.name)
            .filter(|name| wanted(name));
        let mut in_order = true;
        for acl in &desired.acls {
            in_order = in_order && places.next() == Some(&acl.name);
            let known = there.iter().find(|entry| entry.acl.name == acl.name);
            let wanted = match known.filter(|_| desired.under_attack) {
                Some(entry) => Acl {
                    activation: entry.acl.activation,
                    ..acl.clone()
                },
                None => acl.clone(),
            };
            let same = known.filter(|entry| in_order && entry.acl == wanted);
            if same.is_none_or(|entry| is_due(entry.state.pending_lifetime)) {
                let place = (!in_order).then_some(&Position::Last);
                self.put_acl(&wanted, place).await?;
                done.put += 1;
            }
        }
        Ok(())
    }
}

impl Desired {
    fn is_ours(&self, name: &str) -> bool {
        !self.prefix.is_empty() && name.starts_with(&self.prefix)
    }
}

fn is_due(pending: Option<i64>) -> bool {
    pending.is_some_and(|minutes| minutes < REFRESH_BELOW)
}
