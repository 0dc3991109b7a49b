//! Says what is known of an address, an exporter or an interface.
