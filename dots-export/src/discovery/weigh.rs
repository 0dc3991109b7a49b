//! The order of SRV records (RFC 2782): by priority, and among equals by weight and lot.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hickory_resolver::proto::rr::rdata::SRV;

/// Records in the order in which they are to be tried.
pub(super) fn weighed(services: Vec<SRV>) -> Vec<SRV> {
    // Each `RandomState` has keys of its own.
    let keys = RandomState::new();
    let mut drawn = 0_u64;
    weighed_by(services, |below| {
        drawn += 1;
        keys.hash_one(drawn) % below
    })
}

/// `lot(n)` is from 0 to n-1.
fn weighed_by(mut services: Vec<SRV>, mut lot: impl FnMut(u64) -> u64) -> Vec<SRV> {
    services.sort_by(|a, b| {
        let key = |one: &SRV| (one.priority, one.weight, one.port);
        key(a).cmp(&key(b)).then_with(|| a.target.cmp(&b.target))
    });
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(first) = services.first() {
        let priority = first.priority;
        // Those without weight stand first, and are drawn when the lot is 0.
        let equal = || services.iter().take_while(|one| one.priority == priority);
        let total: u64 = equal().map(|one| u64::from(one.weight)).sum();
        let drawn = lot(total + 1);
        let mut sum = 0;
        let index = equal().position(|one| {
            sum += u64::from(one.weight);
            sum >= drawn
        });
        ordered.push(services.remove(index.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn service(priority: u16, weight: u16, host: &str) -> SRV {
        SRV::new(priority, weight, 4646, Name::from_ascii(host).unwrap())
    }

    fn hosts(services: &[SRV]) -> Vec<String> {
        services.iter().map(|one| one.target.to_ascii()).collect()
    }

    #[test]
    fn priorities_come_before_weights() {
        let services = vec![
            service(20, 65535, "c."),
            service(10, 0, "a."),
            service(10, 1, "b."),
        ];
        assert_eq!(
            hosts(&weighed_by(services.clone(), |_| 0)),
            ["a.", "b.", "c."]
        );
        let last = weighed_by(services, |below| below - 1);
        assert_eq!(hosts(&last), ["b.", "a.", "c."]);
    }

    #[test]
    fn weights_are_shares_of_the_first_place() {
        let mut first = [0_u32; 2];
        for _ in 0..4000 {
            let drawn = weighed(vec![service(0, 30, "a."), service(0, 10, "b.")]);
            first[usize::from(drawn[0].target.to_ascii() == "b.")] += 1;
        }
        let share = f64::from(first[0]) / 4000.0;
        assert!((0.70..0.80).contains(&share), "{share}");
    }
}
