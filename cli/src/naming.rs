//! What the running daemon knows of names and networks: files of `[enrichment]`, configured names, names learned from options
//! data, for all threads.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use weir_enrichment::{
    ApplicationName, DomainName, Enricher, EnrichmentConfig, ExporterNames, Fault, InterfaceName,
    LearnedName, NameLimits, NameTable, Snapshot, Subject,
};
use weir_flow_record::{Address, ObservationDomainId};
use weir_netflow::NameStatement;

/// Files and names. A reload makes a new one.
pub(crate) struct Naming {
    enricher: Enricher,
    names: Mutex<NameTable>,
}

/// An interface as `/api/v1/exporters` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct InterfaceRow {
    index: u32,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

impl Naming {
    /// Reads the files, and takes names of an earlier run.
    pub(crate) fn load(
        config: &EnrichmentConfig,
        exporters: Vec<ExporterNames>,
        learned: &[LearnedName],
    ) -> Result<Self, Vec<Fault>> {
        let mut names = NameTable::new(exporters, NameLimits::default());
        for name in learned {
            names.restore(name);
        }
        Ok(Self {
            enricher: Enricher::load(config)?,
            names: Mutex::new(names),
        })
    }

    /// What the files say now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.enricher.snapshot()
    }

    /// Takes in what an exporter says; what is news is to be kept over a restart.
    pub(crate) fn handle_statement(&self, statement: &NameStatement) -> Option<LearnedName> {
        handle_statement(&mut self.lock(), statement)
    }

    /// The interfaces of an exporter that have names, by ifIndex.
    pub(crate) fn interfaces(&self, exporter: Address) -> Vec<InterfaceRow> {
        let names = self.lock();
        let row = |index| {
            let view = names.interface(exporter, index);
            InterfaceRow {
                index,
                name: view.name.to_owned(),
                description: view.description.to_owned(),
            }
        };
        names.interfaces(exporter).into_iter().map(row).collect()
    }

    /// What a panic elsewhere leaves is whole: each change is one entry.
    fn lock(&self) -> std::sync::MutexGuard<'_, NameTable> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in what an exporter says; what is news is to be kept over a restart.
pub(crate) fn handle_statement(
    names: &mut NameTable,
    statement: &NameStatement,
) -> Option<LearnedName> {
    let (exporter, subject, name, description, is_news) = match statement {
        NameStatement::Interface {
            exporter,
            index,
            name,
            description,
        } => {
            let said = InterfaceName {
                exporter: Address::from(*exporter),
                index: *index,
                name,
                description,
            };
            let subject = Subject::Interface(*index);
            let is_news = names.handle_interface(&said);
            (exporter, subject, name, description.as_str(), is_news)
        }
        NameStatement::Domain {
            exporter,
            domain,
            name,
        } => {
            let said = DomainName {
                exporter: Address::from(*exporter),
                domain: ObservationDomainId(*domain),
                name,
            };
            let subject = Subject::Domain(*domain);
            (exporter, subject, name, "", names.handle_domain(&said))
        }
        NameStatement::Application {
            exporter,
            application,
            name,
            description,
        } => {
            let said = ApplicationName {
                exporter: Address::from(*exporter),
                application: *application,
                name,
                description,
            };
            let subject = Subject::Application(*application);
            let is_news = names.handle_application(&said);
            (exporter, subject, name, description.as_str(), is_news)
        }
    };
    is_news.then(|| LearnedName {
        exporter: *exporter,
        subject,
        name: name.clone(),
        description: description.to_owned(),
    })
}

/// All mistakes in one line.
pub(crate) fn listed(faults: &[Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}
