//! What the two say to each other: frames of a length (four octets, the highest first), a kind and a body.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use weir_state::{Batch, BatchError};

use crate::Claim;

/// Version of the protocol.
pub(crate) const VERSION: u32 = 1;
/// Octets of a frame after its length.
const MAX_FRAME: u32 = 64 << 20;

/// The first frame of both sides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    /// Milliseconds.
    pub(crate) lease: u64,
    #[serde(flatten)]
    pub(crate) claim: Claim,
}

/// A frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    Hello(Hello),
    /// Some rows of the snapshot.
    Part(Batch),
    /// The snapshot is whole; it holds commits up to this one.
    Whole(u64),
    /// A commit and its number.
    Commit(u64, Batch),
    /// All up to this commit is on disk.
    Acknowledged(u64),
    /// The sender lives.
    Beat,
    /// The active ends in order: its lease is over.
    Bye,
}

/// Why a frame cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a frame of kind {0} is unknown, or cut")]
    Kind(u8),
    #[error("a greeting cannot be read: {0}")]
    Hello(#[from] serde_json::Error),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl Message {
    /// The frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            // A struct of numbers and text always has a JSON form.
            Self::Hello(hello) => frame(1, &[&serde_json::to_vec(hello).unwrap_or_default()]),
            Self::Part(batch) => frame(2, &[&batch.encode()]),
            Self::Whole(number) => frame(3, &[&number.to_be_bytes()]),
            Self::Commit(number, batch) => commit(*number, &batch.encode()),
            Self::Acknowledged(number) => frame(5, &[&number.to_be_bytes()]),
            Self::Beat => frame(6, &[]),
            Self::Bye => frame(7, &[]),
        }
    }

    /// Reads a frame without its length.
    pub(crate) fn decode(octets: &[u8]) -> Result<Self, MessageError> {
        let (kind, body) = octets.split_first().ok_or(MessageError::Kind(0))?;
        let number = || {
            let number = body.first_chunk().filter(|_| body.len() == 8);
            number
                .map(|octets| u64::from_be_bytes(*octets))
                .ok_or(MessageError::Kind(*kind))
        };
        match kind {
            1 => Ok(Self::Hello(serde_json::from_slice(body)?)),
            2 => Ok(Self::Part(Batch::decode(body)?)),
            3 => Ok(Self::Whole(number()?)),
            4 => {
                let (number, batch) = body.split_first_chunk().ok_or(MessageError::Kind(4))?;
                Ok(Self::Commit(
                    u64::from_be_bytes(*number),
                    Batch::decode(batch)?,
                ))
            }
            5 => Ok(Self::Acknowledged(number()?)),
            6 if body.is_empty() => Ok(Self::Beat),
            7 if body.is_empty() => Ok(Self::Bye),
            kind => Err(MessageError::Kind(*kind)),
        }
    }
}

/// The frame of a commit that is encoded already.
pub(crate) fn commit(number: u64, batch: &[u8]) -> Vec<u8> {
    frame(4, &[&number.to_be_bytes(), batch])
}

fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut octets = Vec::with_capacity(4 + length);
    // One that is longer than its length can say is refused by the other side's bound.
    octets.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    octets.push(kind);
    for part in parts {
        octets.extend_from_slice(part);
    }
    octets
}

/// Reads the next frame. Memory grows with what comes, not with what is announced.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
    let length = stream.read_u32().await?;
    if length > MAX_FRAME {
        let text = format!("a frame of {length} octets");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut octets = Vec::new();
    let read = stream.take(length.into()).read_to_end(&mut octets).await?;
    if read < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Message::decode(&octets).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_state::Stage;

    use super::*;
    use crate::Role;

    #[test]
    fn messages_come_back() {
        let mut batch = Batch::new();
        batch.put(Stage::Attacks, b"a", b"1");
        let claim = Claim {
            name: "a".into(),
            role: Role::Standby,
            epoch: 7,
            was_active: true,
            priority: 1,
        };
        let hello = Hello {
            version: VERSION,
            lease: 3000,
            claim,
        };
        let messages = [
            Message::Hello(hello),
            Message::Part(batch.clone()),
            Message::Whole(u64::MAX),
            Message::Commit(5, batch),
            Message::Acknowledged(0),
            Message::Beat,
            Message::Bye,
        ];
        let octets: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut stream = octets.as_slice();
            for message in &messages {
                assert_eq!(&read(&mut stream).await.unwrap(), message);
            }
            assert!(read(&mut stream).await.is_err());
            let mut huge: &[u8] = &[0xff; 64];
            let refusal = read(&mut huge).await.unwrap_err();
            assert_eq!(refusal.kind(), io::ErrorKind::InvalidData);
        });
        assert_eq!(Message::Bye.encode(), [0, 0, 0, 1, 7]);
    }

    proptest! {
        #[test]
        fn hostile_frames_never_panic(octets: Vec<u8>, kind in 0..9_u8) {
            let _ = Message::decode(&octets);
            let framed: Vec<u8> = std::iter::once(kind).chain(octets).collect();
            let _ = Message::decode(&framed);
        }
    }
}
