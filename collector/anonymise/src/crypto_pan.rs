//! Crypto-PAn: bit `n` of an address is flipped by one bit that AES makes of the `n` bits before it.

use openssl::error::ErrorStack;
use openssl::symm::{Cipher, Crypter, Mode};
use weir_flow_record::Address;

use crate::Key;

/// Octets of an AES block.
const BLOCK: usize = 16;
/// Bits of an IPv6 address.
const BITS: usize = 128;

/// The key's two halves at work. It allocates nothing once it is made.
pub(crate) struct CryptoPan {
    cipher: Crypter,
    /// What follows the bits that are known, encrypted as the paper asks.
    pad: u128,
    /// One block for each bit.
    plain: Box<[u8; BITS * BLOCK]>,
    /// The same encrypted; OpenSSL asks for room for one block more.
    secret: Box<[u8; (BITS + 1) * BLOCK]>,
}

impl CryptoPan {
    /// The first half is the AES-128 key, the second the pad.
    pub(crate) fn new(key: &Key) -> Result<Self, ErrorStack> {
        let (first, second) = key.0.split_at(BLOCK);
        let mut cipher = Crypter::new(Cipher::aes_128_ecb(), Mode::Encrypt, first, None)?;
        cipher.pad(false);
        let mut pad = [0; 2 * BLOCK];
        cipher.update(second, &mut pad)?;
        let pad = pad
            .first_chunk()
            .map_or(0, |octets| u128::from_be_bytes(*octets));
        Ok(Self {
            cipher,
            pad,
            plain: Box::new([0; BITS * BLOCK]),
            secret: Box::new([0; (BITS + 1) * BLOCK]),
        })
    }

    /// The other address; `None` where OpenSSL fails, which it has no reason to.
    pub(crate) fn address(&mut self, address: Address) -> Option<Address> {
        let number = u128::from_be_bytes(address.octets());
        if address.is_v4() {
            // As in the paper: 32 bits at the beginning of a block, and the pad behind them.
            let flips = self.flips(number << 96, 32)? >> 96;
            Some(Address::from_octets((number ^ flips).to_be_bytes()))
        } else {
            let flips = self.flips(number, BITS)?;
            Some(Address::from_octets((number ^ flips).to_be_bytes()))
        }
    }

    /// The bits to flip in the first `bits` of `number`.
    fn flips(&mut self, number: u128, bits: usize) -> Option<u128> {
        for (known, block) in (0..bits).zip(self.plain.chunks_exact_mut(BLOCK)) {
            // The bits before this one; none at first.
            let mask = u128::MAX.checked_shl(128 - known as u32).unwrap_or(0);
            let text = (number & mask) | (self.pad & !mask);
            block.copy_from_slice(&text.to_be_bytes());
        }
        let length = bits * BLOCK;
        let plain = self.plain.get(..length)?;
        let written = self.cipher.update(plain, self.secret.as_mut_slice()).ok()?;
        if written != length {
            return None;
        }
        let firsts = self.secret.iter().step_by(BLOCK).take(bits);
        let flips = firsts
            .zip((0..128).rev())
            .map(|(octet, place)| u128::from(octet >> 7) << place);
        Some(flips.fold(0, |all, flip| all | flip))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    /// Of the authors' implementation, as its sample trace was made.
    const KEY: Key = Key([
        21, 34, 23, 141, 51, 164, 207, 128, 19, 10, 91, 22, 73, 144, 125, 16, 216, 152, 143, 131,
        121, 121, 101, 39, 98, 87, 76, 45, 42, 132, 34, 2,
    ]);

    fn anonymous(address: &str) -> String {
        let mut cryptopan = CryptoPan::new(&KEY).unwrap();
        let address = Address::from(address.parse::<IpAddr>().unwrap());
        cryptopan.address(address).unwrap().to_string()
    }

    #[test]
    fn the_authors_sample_trace_comes_out_as_theirs() {
        let sample = [
            ("128.11.68.132", "135.242.180.132"),
            ("129.118.74.4", "134.136.186.123"),
            ("130.132.252.244", "133.68.164.234"),
            ("141.223.7.43", "141.167.8.160"),
            ("141.233.145.108", "141.129.237.235"),
            ("152.163.225.39", "151.140.114.167"),
            ("156.29.3.236", "147.225.12.42"),
            ("216.157.30.252", "235.89.31.26"),
            ("216.254.18.172", "235.7.16.162"),
            ("24.0.250.221", "100.15.198.226"),
            ("24.5.0.80", "100.9.15.210"),
            ("38.15.67.68", "64.3.66.187"),
            ("4.3.88.225", "124.60.155.63"),
            ("63.14.55.111", "95.9.215.7"),
            ("63.195.241.44", "95.179.238.44"),
            ("64.14.118.196", "0.255.183.58"),
            ("64.34.154.117", "0.221.154.117"),
            ("10.185.25.118", "117.161.29.118"),
        ];
        for (address, expected) in sample {
            assert_eq!(anonymous(address), expected, "{address}");
        }
    }

    #[test]
    fn ipv6_as_other_implementations_do_it() {
        let sample = [
            ("::1", "78ff:f001:9fc0:20df:8380:b1f1:704:ed"),
            ("::2", "78ff:f001:9fc0:20df:8380:b1f1:704:ef"),
            ("2001:db8::1", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1e"),
            ("2001:db8::2", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1c"),
        ];
        for (address, expected) in sample {
            assert_eq!(anonymous(address), expected, "{address}");
        }
    }

    proptest! {
        #[test]
        fn common_prefixes_stay_as_long(one: u32, other: u32, shift in 0..32_u32) {
            // Most pairs of random addresses differ at once: the second takes bits of the first.
            let other = one ^ (other >> shift);
            let mut cryptopan = CryptoPan::new(&KEY).unwrap();
            let mut of = |number: u32| {
                let address = cryptopan.address(Address::from_v4(number.to_be_bytes())).unwrap();
                prop_assert!(address.is_v4());
                let [.., a, b, c, d] = address.octets();
                Ok(u32::from_be_bytes([a, b, c, d]))
            };
            let (left, right) = (of(one)?, of(other)?);
            prop_assert_eq!((one ^ other).leading_zeros(), (left ^ right).leading_zeros());
        }

        #[test]
        fn common_prefixes_of_ipv6_stay_as_long(one: u128, other: u128, shift in 0..128_u32) {
            let other = one ^ (other >> shift);
            let mut cryptopan = CryptoPan::new(&KEY).unwrap();
            let mut of = |number: u128| {
                let address = Address::from_octets(number.to_be_bytes());
                u128::from_be_bytes(cryptopan.address(address).unwrap().octets())
            };
            let (left, right) = (of(one), of(other));
            prop_assert_eq!((one ^ other).leading_zeros(), (left ^ right).leading_zeros());
        }
    }
}
