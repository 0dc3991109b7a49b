//! Whether filters let a source through.

use ipnet::IpNet;

use super::{Acl, Forwarding};

/// Names of those filters, in the order in which they are tried, that accept what any of `sources` sends to any of `targets`: their
/// entry for it is the first that matches. Entries for anywhere are no accept-lists of sources, and those for a part of the traffic
/// do not let all of it through.
pub(crate) fn accepting<'a>(
    acls: impl Iterator<Item = &'a Acl> + Clone + 'a,
    sources: &[IpNet],
    targets: &[IpNet],
) -> Vec<String> {
    let mut names = Vec::new();
    for source in sources {
        let entries = acls
            .clone()
            .flat_map(|acl| acl.aces.iter().map(move |ace| (acl, ace)));
        let mut matching = entries.filter(|(_, ace)| {
            let destination = ace.matches.destination();
            let concerns = |target: &IpNet| {
                destination.is_none_or(|own| own.contains(target) || target.contains(&own))
            };
            let from = ace.matches.source();
            from.is_some_and(|own| own.contains(source))
                && targets.iter().any(concerns)
                && ace.matches.is_of_all_traffic()
        });
        if let Some((acl, ace)) = matching.next()
            && ace.actions.forwarding == Forwarding::Accept
            && !names.contains(&acl.name)
        {
            names.push(acl.name.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{Plan, Traffic};
    use crate::model::Actions;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_entry_that_matches_counts() {
        let own = networks(&["198.51.100.0/24"]);
        let good = networks(&["192.0.2.0/24"]);
        let accept = Plan::accept("good", &good, &own).acls(9).unwrap();
        let drop = Plan::drop_sources("bad", &networks(&["192.0.2.7/32"]), &own);
        let drop = drop.acls(9).unwrap();
        let names = |acls: &[&Acl], source: &str, target: &str| {
            let acls = acls.iter().copied();
            accepting(acls, &networks(&[source]), &networks(&[target]))
        };
        let (target, elsewhere) = ("198.51.100.9/32", "203.0.113.9/32");
        let both = [&accept[0], &drop[0]];
        assert_eq!(names(&both, "192.0.2.7/32", target), ["good-v4"]);
        let other_way = [&drop[0], &accept[0]];
        assert!(names(&other_way, "192.0.2.7/32", target).is_empty());
        assert_eq!(names(&other_way, "192.0.2.8/32", target), ["good-v4"]);
        assert!(names(&both, "192.0.2.7/32", elsewhere).is_empty());
        assert!(names(&both, "203.0.113.1/32", target).is_empty());
        // What a list holds in part says nothing of the rest.
        assert!(names(&both, "192.0.0.0/16", target).is_empty());
    }

    #[test]
    fn a_rule_for_a_part_of_the_traffic_is_no_accept_list() {
        let own = networks(&["198.51.100.0/24"]);
        let mut plan = Plan::traffic("dns", Traffic::Protocol(17), &own, Actions::ACCEPT);
        plan.sources = networks(&["192.0.2.0/24"]);
        let acls = plan.acls(9).unwrap();
        let sources = networks(&["192.0.2.7/32"]);
        assert!(accepting(acls.iter(), &sources, &own).is_empty());
    }
}
