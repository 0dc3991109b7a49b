//! Says what is known of an address, an exporter or an interface: the autonomous system and country of MaxMind databases,
//! name, site, role and tenant of a table of networks, and the names of exporters and interfaces, configured or learned
//! from options data.
//!
//! What the files say is read whole into an immutable [`Snapshot`]; an [`Enricher`] holds the current one and changes it
//! only for one that is good ([`Enricher::reload`]). Each thread that looks addresses up has [`Lookups`] of its own, with a
//! small cache. Names are in a [`NameTable`].
//!
//! It receives nothing, watches no file, and knows no clock; it stores nothing but what a [`NameTable`] is told.
//!
//! ```
//! use std::sync::Arc;
//! use weir_enrichment::{EnrichmentConfig, Enricher, Lookups};
//! use weir_flow_record::Address;
//!
//! let folder = tempfile::tempdir()?;
//! let networks = folder.path().join("networks.csv");
//! std::fs::write(&networks, "prefix,name,site,role,tenant\n192.0.2.0/24,web,fra1,servers,acme\n")?;
//! let config = EnrichmentConfig { networks, ..EnrichmentConfig::default() };
//! let enricher = Arc::new(Enricher::load(&config).map_err(|faults| format!("{faults:?}"))?);
//! let lookups = Lookups::new(Arc::clone(&enricher));
//! assert_eq!(lookups.lookup(Address::from_v4([192, 0, 2, 7])).site, "fra1");
//! enricher.reload(&config).map_err(|faults| format!("{faults:?}"))?; // on SIGHUP
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod country;
mod database;
mod enricher;
mod findings;
pub mod fuzzing;
mod lookups;
mod names;
mod networks;
mod ranges;
mod row;
mod snapshot;
mod soundness;

pub use config::{EnrichmentConfig, Fault, InterfaceConfig, Interfaces};
pub use country::CountryCode;
pub use database::DatabaseError;
pub use enricher::{Changes, Enricher};
pub use findings::{annotate, origin_of};
pub use lookups::Lookups;
pub use names::{
    ApplicationName, DomainName, ExporterNames, InterfaceName, InterfaceView, LearnedName,
    NameCounters, NameLimits, NameTable, Subject,
};
pub use row::{DatagramEnricher, FIELDS, RowEnricher, RowFields};
pub use snapshot::{NetworkInfo, Snapshot};
