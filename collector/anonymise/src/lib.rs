//! Addresses of flow records made anonymous before they are stored or published, in place and a batch at a time.
//!
//! *Crypto-PAn* (Xu, Fan, Ammar, Moon 2002) maps addresses one to one, and two that share a prefix of so many bits to two that
//! share so many: networks stay networks, and whoever has the key can compare traces. *Truncation* keeps the network alone.
//! Both leave ports, times, AS numbers and exporters' addresses as they are, and blank MAC addresses, of which IPv6 addresses are
//! made. Records are not made safe against one who sends traffic of a known pattern and looks for it (no such scheme is).
//!
//! ```
//! use weir_anonymise::{Anonymiser, AnonymiseSettings, Method};
//! use weir_flow_record::{Address, FlowBatch};
//!
//! let settings = AnonymiseSettings {
//!     method: Method::Truncate { v4: 24, v6: 48 },
//!     keep: vec!["203.0.113.0/24".parse().unwrap()],
//! };
//! let mut anonymiser = Anonymiser::new(&settings).unwrap();
//! let source = Address::from_v4([198, 51, 100, 7]);
//! assert_eq!(anonymiser.address(source), Address::from_v4([198, 51, 100, 0]));
//! anonymiser.handle_batch(&mut FlowBatch::default());
//! ```

mod anonymiser;
mod config;
mod crypto_pan;

pub use anonymiser::Anonymiser;
pub use config::{AnonymiseConfig, AnonymiseSettings, Fault, Key, KeyError, Method, read_key};
