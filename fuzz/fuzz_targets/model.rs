//! A model's file, with the checksum put right: what can be read is written as the same octets, or not at all.
#![no_main]

use sha2::{Digest, Sha256};
use weir_models::Model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut octets = data.to_vec();
    octets.extend_from_slice(&Sha256::digest(data));
    if let Ok((model, _)) = Model::read(&octets)
        && let Ok(written) = model.write()
    {
        assert!(Model::read(&written).is_ok());
    }
});
