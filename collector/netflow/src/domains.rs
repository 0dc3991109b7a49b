//! Observation domains of an exporter: their samplers, and when the exporter started.

use weir_flow_record::{Address, ReceivedAt};

use crate::sampling::{RateOfDomain, Samplers};
use crate::tables::{Domain, Evicted, Exporter, Tables};

static NO_SAMPLERS: Samplers = Samplers::NONE;

impl Tables {
    /// The samplers of a domain, else those of domains that send options data alone (IOS XE has them so), and when the
    /// exporter started.
    pub(crate) fn domain(&self, exporter: u32, domain: u32) -> (&Samplers, Option<u64>) {
        let Some(exporter) = self.exporters.get(exporter as usize) else {
            return (&NO_SAMPLERS, None);
        };
        match exporter.domains.get(&domain) {
            Some(known) if known.samplers.of_domain() != RateOfDomain::Unknown => {
                (&known.samplers, known.system_init)
            }
            known => {
                let init = known.and_then(|known| known.system_init);
                (&exporter.elsewhere, init)
            }
        }
    }

    /// Notes that flow records came from a domain: what it says of samplers holds for itself alone.
    pub(crate) fn note_flows(&mut self, exporter: u32, domain: u32) {
        let Some(exporter) = self.exporters.get_mut(exporter as usize) else {
            return;
        };
        if let Some(known) = exporter.domains.get_mut(&domain)
            && !std::mem::replace(&mut known.flows, true)
        {
            exporter.rates_changed = true;
        }
    }

    /// Takes in a sampling rate; `None` if there was no room, else whether it was news.
    pub(crate) fn set_rate(
        &mut self,
        address: Address,
        domain: u32,
        sampler: Option<u64>,
        rate: u32,
        at: ReceivedAt,
    ) -> Option<bool> {
        let most = self.limits.max_samplers;
        let index = self.find_or_add_exporter(address, at, &mut None)?;
        self.find_or_add_domain(index, domain, at)?;
        let exporter = self.exporters.get_mut(index as usize)?;
        let known = exporter.domains.get(&domain)?;
        let full = exporter.samplers >= most;
        let gone = if full && !known.samplers.knows(sampler) && exporter.may_search(at) {
            exporter.forget_idle_sampler(at)
        } else {
            None
        };
        let room = exporter.samplers < most;
        let known = exporter.domains.get_mut(&domain)?;
        let before = known.samplers.len();
        let news = known.samplers.set(sampler, rate, room, at);
        exporter.samplers += known.samplers.len() - before;
        match news {
            Some(true) => exporter.rates_changed = true,
            Some(false) => {}
            None => exporter.figures.refused += 1,
        }
        if let Some((domain, sampler)) = gone {
            self.note_evicted(Evicted::Rate(address, domain, Some(sampler)));
        }
        news
    }

    /// Takes in when an exporter started; whether it was news.
    pub(crate) fn set_system_init(
        &mut self,
        address: Address,
        domain: u32,
        init: u64,
        at: ReceivedAt,
    ) -> bool {
        self.find_or_add_exporter(address, at, &mut None)
            .and_then(|index| {
                self.find_or_add_domain(index, domain, at)?;
                let exporter = self.exporters.get_mut(index as usize)?;
                exporter.domains.get_mut(&domain)
            })
            .is_some_and(|known| known.system_init.replace(init) != Some(init))
    }

    /// Makes room for the domain, if need be by dropping one that no session speaks for.
    pub(crate) fn find_or_add_domain(
        &mut self,
        exporter: u32,
        domain: u32,
        at: ReceivedAt,
    ) -> Option<()> {
        let owner = self.exporters.get_mut(exporter as usize)?;
        if owner.domains.contains_key(&domain) {
            return Some(());
        }
        if owner.domains.len() >= self.limits.max_domains_per_exporter {
            if !owner.may_search(at) {
                return None;
            }
            let domains: Vec<u32> = owner.domains.keys().copied().collect();
            let unused = domains
                .into_iter()
                .filter(|&domain| !self.has_session(exporter, domain))
                .min()?;
            self.remove_domain(exporter, unused);
        }
        let owner = self.exporters.get_mut(exporter as usize)?;
        owner.domains.insert(domain, Domain::default());
        Some(())
    }

    /// Whether a session speaks for the domain.
    pub(crate) fn has_session(&self, exporter: u32, domain: u32) -> bool {
        let sessions = self
            .exporters
            .get(exporter as usize)
            .map_or(&[][..], |exporter| &exporter.sessions);
        sessions
            .iter()
            .filter_map(|&slot| self.sessions.get(slot as usize))
            .any(|session| session.key.domain == domain)
    }

    pub(crate) fn remove_domain(&mut self, exporter: u32, domain: u32) {
        let Some(owner) = self.exporters.get_mut(exporter as usize) else {
            return;
        };
        let Some(gone) = owner.domains.remove(&domain) else {
            return;
        };
        let address = owner.address;
        owner.samplers -= gone.samplers.len();
        owner.figures.evicted += 1;
        owner.rates_changed = true;
        for (sampler, _) in gone.samplers.iter() {
            self.note_evicted(Evicted::Rate(address, domain, sampler));
        }
    }
}

impl Exporter {
    /// Gathers the rates of domains without flow records, if anything changed: at most once a datagram.
    pub(crate) fn gather_rates(&mut self) {
        if !std::mem::take(&mut self.rates_changed) {
            return;
        }
        let silent = self.domains.values().filter(|domain| !domain.flows);
        self.elsewhere = Samplers::merged(silent.map(|domain| &domain.samplers));
    }

    /// Forgets the sampler that was stated longest ago, if over an hour.
    fn forget_idle_sampler(&mut self, now: ReceivedAt) -> Option<(u32, u64)> {
        let oldest = self
            .domains
            .iter()
            .filter_map(|(&domain, known)| Some((known.samplers.oldest()?, domain)))
            .min()?;
        let ((at, sampler), domain) = oldest;
        if now.0.since(at.0) <= crate::tables::IDLE {
            return None;
        }
        self.domains.get_mut(&domain)?.samplers.forget(sampler);
        self.samplers -= 1;
        self.figures.evicted += 1;
        Some((domain, sampler))
    }
}
