//! A model as one file: magic, card as JSON, body, SHA-256 over all of it.

mod body;
mod card;
mod octets;

use sha2::{Digest, Sha256};

use crate::features::{FEATURES, SCHEMA_VERSION, schema_hash};
use crate::forest::ForestError;
use crate::model::Model;

pub use card::{Card, Checks, Data};

/// The first octets of every artefact, the last is the layout's version.
const MAGIC: &[u8; 8] = b"WEIRMDL\x01";

/// An artefact at most: no model needs more, and a hostile file shall not take all memory.
const MOST: usize = 512 << 20;

const DIGEST: usize = 32;

/// An artefact's name: the first 12 hexadecimal digits of its SHA-256.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ModelId(pub String);

impl std::fmt::Display for ModelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a file is no model for this program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtefactError {
    /// It does not begin as one.
    #[error("no model, or of a layout that this version does not know")]
    NoModel,
    /// It ends early, or holds a length that cannot be.
    #[error("cut short or garbled at octet {0}")]
    Garbled(usize),
    /// Its checksum is wrong.
    #[error("damaged: its checksum is wrong")]
    Checksum,
    /// Its card is not what it should be.
    #[error("bad model card: {0}")]
    Card(#[from] serde_json::Error),
    /// It was trained on other features.
    #[error(
        "it was trained on features of version {version} ({hash}), this program has version {SCHEMA_VERSION}"
    )]
    Schema {
        /// The artefact's version.
        version: u32,
        /// The beginning of its hash.
        hash: String,
    },
    /// Its forest is broken.
    #[error(transparent)]
    Forest(#[from] ForestError),
}

impl Model {
    /// The artefact's octets: equal for equal models.
    pub fn write(&self) -> Result<Vec<u8>, ArtefactError> {
        let card = serde_json::to_vec_pretty(&self.card)?;
        let mut octets = MAGIC.to_vec();
        octets::put_bytes(&mut octets, &card);
        body::write(self, &mut octets)?;
        let digest = Sha256::digest(&octets);
        octets.extend_from_slice(&digest);
        Ok(octets)
    }

    /// Reads an artefact; checks it wholly, so that judging needs no more checks.
    pub fn read(octets: &[u8]) -> Result<(Self, ModelId), ArtefactError> {
        if octets.len() > MOST || !octets.starts_with(MAGIC) {
            return Err(ArtefactError::NoModel);
        }
        let at = octets.len().saturating_sub(DIGEST);
        let (content, digest) = octets
            .split_at_checked(at)
            .ok_or(ArtefactError::Garbled(0))?;
        if Sha256::digest(content).as_slice() != digest {
            return Err(ArtefactError::Checksum);
        }
        let mut reader = octets::Reader::new(content, MAGIC.len());
        let card: Card = serde_json::from_slice(reader.bytes()?)?;
        if card.schema_version != SCHEMA_VERSION || card.schema_hash != schema_hash() {
            return Err(ArtefactError::Schema {
                version: card.schema_version,
                hash: card.schema_hash.chars().take(12).collect(),
            });
        }
        let model = body::read(card, &mut reader)?;
        model.forest.check(FEATURES)?;
        Ok((model, id(octets)))
    }
}

/// The name of an artefact.
fn id(octets: &[u8]) -> ModelId {
    let digest = Sha256::digest(octets);
    ModelId(crate::hex(digest.get(..6).unwrap_or(&digest)))
}
