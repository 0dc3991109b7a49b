//! Pre-shared keys with ECDHE (RFC 8442, RFC 8446 §2.2): peers without certificates.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::sha::sha256;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslRef};

use crate::{DtlsError, PeerIdentity};

/// Octets of a key: less can be guessed, and OpenSSL takes no more.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=64;
/// Octets of an identity (OpenSSL's bound is 256 with the zero at its end; older peers stop at 128).
const MAX_IDENTITY: usize = 128;

/// A key that both peers have.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey(Vec<u8>);

impl std::fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresharedKey").finish_non_exhaustive()
    }
}

impl PresharedKey {
    /// Reads a file that holds a key of 16 to 64 octets in hexadecimal, and nothing else.
    pub fn from_file(path: &Path) -> Result<Self, DtlsError> {
        let text = fs::read_to_string(path).map_err(|source| DtlsError::File {
            path: path.to_owned(),
            source,
        })?;
        octets(text.trim())
            .filter(|octets| LENGTHS.contains(&octets.len()))
            .map(Self)
            .ok_or_else(|| DtlsError::Credentials {
                path: path.to_owned(),
                what: "no key of 16 to 64 octets in hexadecimal".to_owned(),
            })
    }
}

/// A client that proves itself by a key.
#[derive(Clone, Debug)]
pub struct PskClient {
    /// What its sessions are told to be, as the name of a certificate would.
    pub name: String,
    /// What it calls its key.
    pub identity: String,
    /// The key.
    pub key: PresharedKey,
}

/// A client's own identity and key.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    identity: Vec<u8>,
    key: PresharedKey,
}

impl Own {
    /// An error where the identity cannot be sent.
    pub(crate) fn new(identity: &str, key: PresharedKey) -> Result<Self, DtlsError> {
        Ok(Self {
            identity: checked(identity)?,
            key,
        })
    }

    pub(crate) fn identity_sha256(&self) -> [u8; 32] {
        sha256(&self.identity)
    }
}

/// A server's clients, by identity.
pub(crate) type Table = BTreeMap<Vec<u8>, PskClient>;

/// An error where an identity cannot be sent, or is of two clients.
pub(crate) fn table(clients: Vec<PskClient>) -> Result<Table, DtlsError> {
    let mut table = Table::new();
    for client in clients {
        let identity = checked(&client.identity)?;
        if table.insert(identity, client).is_some() {
            return Err(DtlsError::Identity("two clients have the same one"));
        }
    }
    Ok(table)
}

fn checked(identity: &str) -> Result<Vec<u8>, DtlsError> {
    if identity.is_empty() || identity.len() > MAX_IDENTITY {
        return Err(DtlsError::Identity("it has 1 to 128 octets"));
    }
    if identity.contains('\0') {
        return Err(DtlsError::Identity("it ends at a zero"));
    }
    Ok(identity.as_bytes().to_vec())
}

/// Lets a client present its key.
pub(crate) fn set_client(builder: &mut SslContextBuilder, own: &Own) -> Result<(), DtlsError> {
    builder.set_ex_data(indices()?.own, own.clone());
    let own = own.clone();
    builder.set_psk_client_callback(move |_, _, identity, key| {
        let mut text = own.identity.clone();
        text.push(0);
        let written = write(identity, &text).and_then(|()| write(key, &own.key.0));
        Ok(written.map_or(0, |()| own.key.0.len()))
    });
    Ok(())
}

/// Lets a server know its clients by their keys.
pub(crate) fn set_server(
    builder: &mut SslContextBuilder,
    table: &Arc<Table>,
) -> Result<(), DtlsError> {
    let indices = indices()?;
    builder.set_ex_data(indices.table, Arc::clone(table));
    let table = Arc::clone(table);
    builder.set_psk_server_callback(move |ssl, identity, key| {
        let identity = identity.unwrap_or_default();
        let Some(client) = table.get(identity) else {
            return Ok(0);
        };
        if write(key, &client.key.0).is_none() {
            return Ok(0);
        }
        // TLS 1.3 does not note the identity, neither in the session nor in its tickets: so there are none.
        ssl.set_ex_data(indices.identity, identity.to_vec());
        if ssl.version2() == Some(openssl::ssl::SslVersion::TLS1_3) {
            ssl.set_num_tickets(0)?;
        }
        Ok(client.key.0.len())
    });
    Ok(())
}

/// The peer of a session that a key has made.
pub(crate) fn peer(ssl: &SslRef) -> Option<PeerIdentity> {
    let indices = indices().ok()?;
    let context = ssl.ssl_context();
    if let Some(own) = context.ex_data(indices.own) {
        // The server has shown that it has the key, and no name.
        return Some(PeerIdentity {
            names: Vec::new(),
            spki_sha256: own.identity_sha256(),
        });
    }
    let table = context.ex_data(indices.table)?;
    // A session that a ticket has resumed asks for no key; it remembers the identity.
    let noted = ssl.ex_data(indices.identity).map(Vec::as_slice);
    let identity = noted.or_else(|| ssl.psk_identity())?;
    table.get(identity).map(|client| PeerIdentity {
        names: vec![client.name.clone()],
        spki_sha256: sha256(identity),
    })
}

/// Where contexts and sessions keep what is above.
#[derive(Clone, Copy)]
struct Indices {
    own: Index<SslContext, Own>,
    table: Index<SslContext, Arc<Table>>,
    identity: Index<Ssl, Vec<u8>>,
}

fn indices() -> Result<Indices, ErrorStack> {
    static INDICES: OnceLock<Indices> = OnceLock::new();
    match INDICES.get() {
        Some(indices) => Ok(*indices),
        None => {
            let indices = Indices {
                own: SslContext::new_ex_index()?,
                table: SslContext::new_ex_index()?,
                identity: Ssl::new_ex_index()?,
            };
            Ok(*INDICES.get_or_init(|| indices))
        }
    }
}

/// `None` where there is no room.
fn write(room: &mut [u8], octets: &[u8]) -> Option<()> {
    room.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(())
}

/// Octets in hexadecimal.
fn octets(text: &str) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let octets = pairs.iter().map(|[high, low]| {
        let octet = digit(*high)? << 4 | digit(*low)?;
        u8::try_from(octet).ok()
    });
    octets.collect::<Option<_>>().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PresharedKey, DtlsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("psk");
        fs::write(&path, text).unwrap();
        PresharedKey::from_file(&path)
    }

    #[test]
    fn keys_are_hexadecimal_and_long_enough() {
        let key = read("00112233445566778899aAbBcCdDeEfF\n").unwrap();
        assert_eq!(key.0.len(), 16);
        assert_eq!(key.0[10], 0xaa);
        for text in [
            "",
            "0011",
            "001122334455667788990011223344556",
            "0x112233445566778899001122334455",
            "secretPSK16bytessecretPSK16bytes",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn identities_are_unique_and_can_be_sent() {
        let client = |identity: &str| PskClient {
            name: "a".to_owned(),
            identity: identity.to_owned(),
            key: PresharedKey(vec![0; 16]),
        };
        assert!(table(vec![client("a"), client("b")]).is_ok());
        assert!(table(vec![client("a"), client("a")]).is_err());
        for identity in ["", "a\0b", &"x".repeat(129)] {
            assert!(table(vec![client(identity)]).is_err());
        }
    }
}
