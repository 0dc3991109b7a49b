use serde::{Deserialize, Serialize};

/// What a daemon of a pair is now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It looks for its peer.
    Starting,
    /// It follows the active, or waits for it to come back.
    Standby,
    /// It works.
    Active,
}

impl Role {
    /// The role in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Active => "active",
        }
    }
}

/// Whose rows they are, as kept with them.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Epoch {
    /// Raised by each takeover, and when the active has lost its standby; 0 = nobody has worked yet.
    pub(crate) number: u64,
    /// Who works, or worked last.
    pub(crate) active: String,
}

/// What one of a pair says of itself when two meet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// The epoch of its rows.
    pub epoch: u64,
    /// Whether it was the active one of that epoch: it may have rows that its standby has not.
    pub was_active: bool,
    /// The configured preference where nothing else decides; the higher works.
    pub priority: u8,
}

impl Claim {
    /// Whether this one works and `other` follows: who works already; of two who do, or of two who do not, who has the
    /// rows of the later epoch; then who worked in it; then priority, then the lower name. One of two wins, at both ends.
    pub fn wins(&self, other: &Self) -> bool {
        let rank = |claim: &Self| {
            (
                claim.role == Role::Active,
                claim.epoch,
                claim.was_active,
                claim.priority,
            )
        };
        match rank(self).cmp(&rank(other)) {
            std::cmp::Ordering::Equal => self.name < other.name,
            order => order.is_gt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, role: Role, epoch: u64, was_active: bool) -> Claim {
        Claim {
            name: name.to_owned(),
            role,
            epoch,
            was_active,
            priority: 100,
        }
    }

    #[test]
    fn exactly_one_of_two_wins() {
        let roles = [Role::Starting, Role::Standby, Role::Active];
        let mut claims = Vec::new();
        for name in ["a", "b"] {
            for role in roles {
                for epoch in 0..3 {
                    for was_active in [false, true] {
                        claims.push(claim(name, role, epoch, was_active));
                    }
                }
            }
        }
        for one in claims.iter().filter(|claim| claim.name == "a") {
            for other in claims.iter().filter(|claim| claim.name == "b") {
                assert_ne!(one.wins(other), other.wins(one), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn who_works_wins_and_of_two_who_took_over() {
        let returning = claim("a", Role::Starting, 9, true);
        let working = claim("b", Role::Active, 7, true);
        assert!(working.wins(&returning));
        let alone = claim("a", Role::Active, 6, true);
        assert!(working.wins(&alone));
        // A quick restart: its standby has not taken over yet.
        let restarted = claim("b", Role::Starting, 7, true);
        let waiting = claim("a", Role::Standby, 7, false);
        assert!(restarted.wins(&waiting));
        // A machine whose disk was replaced.
        let empty = claim("a", Role::Starting, 0, false);
        assert!(waiting.wins(&Claim {
            name: "b".into(),
            ..empty
        }));
    }
}
