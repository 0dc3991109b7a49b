//! CoAP over streams (RFC 8323 §3.2): frames out of octets as they come, and octets out of messages.
//!
//! Messages have no type and no id here: [`Message::kind`] is [`Kind::NonConfirmable`] and its id 0, and neither is written.

use crate::coap::{CoapError, Code, Kind, Message, Token};

/// Octets of the largest message, its header included, that we take, and say so by Max-Message-Size (RFC 8323 §5.3.1).
pub const MAX_MESSAGE: usize = 32_768;
/// What a peer takes that has said nothing (RFC 8323 §5.3.1).
pub const BASE_MAX_MESSAGE: usize = 1152;

/// Lengths from which on the length has an extension of 1, 2 and 4 octets.
const ONE: usize = 13;
const TWO: usize = 269;
const FOUR: usize = 65_805;

/// Why a stream cannot be read on: the connection is aborted (RFC 8323 §5.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Larger than the receiver has said it takes.
    #[error("a message of {0} octets is too large")]
    TooLarge(u64),
    /// A token length of 9 to 15.
    #[error("token length {0} is reserved")]
    TokenLength(u8),
    /// Options or payload that are none.
    #[error(transparent)]
    Content(#[from] CoapError),
}

/// The message as a frame of its own.
#[must_use]
pub fn frame(message: &Message) -> Vec<u8> {
    let mut content = Vec::with_capacity(64 + message.payload.len());
    message.encode_content(&mut content);
    let token = message.token.octets();
    let (nibble, extension) = match content.len() {
        length @ 0..ONE => (length as u8, Vec::new()),
        length @ ONE..TWO => (13, vec![(length - ONE) as u8]),
        length @ TWO..FOUR => (14, ((length - TWO) as u16).to_be_bytes().to_vec()),
        length => {
            let rest = u32::try_from(length - FOUR).unwrap_or(u32::MAX);
            (15, rest.to_be_bytes().to_vec())
        }
    };
    let mut out = Vec::with_capacity(6 + token.len() + content.len());
    out.push(nibble << 4 | token.len() as u8);
    out.extend(extension);
    out.push(message.code.0);
    out.extend_from_slice(token);
    out.append(&mut content);
    out
}

/// Frames of one direction of a stream. After each [`handle_octets`](Self::handle_octets) poll until there is none.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: Vec<u8>,
    /// Octets of the buffer that were read.
    read: usize,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder that takes messages of so many octets, headers included.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: Vec::new(),
            read: 0,
            failed: None,
        }
    }

    /// Takes octets in the order of the stream. What comes after a fault is dropped.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// The next whole message; `None` where more octets are needed. A fault stands: nothing can be read behind it.
    pub fn poll_message(&mut self) -> Result<Option<Message>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.next();
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => self.forget_read(),
            Err(error) => {
                self.failed = Some(*error);
                self.read = self.buffer.len();
                self.forget_read();
            }
        }
        result
    }

    /// Octets that wait for the rest of their message.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.read
    }

    fn next(&mut self) -> Result<Option<Message>, FrameError> {
        let octets = self.buffer.get(self.read..).unwrap_or_default();
        let Some(header) = Header::read(octets)? else {
            return Ok(None);
        };
        let whole = header.size();
        if whole > self.limit as u64 {
            return Err(FrameError::TooLarge(whole));
        }
        // Within the limit, so it fits.
        let Some(octets) = octets.get(..whole as usize) else {
            return Ok(None);
        };
        self.read += octets.len();
        header.message(octets).map(Some)
    }

    fn forget_read(&mut self) {
        self.buffer.drain(..self.read);
        self.read = 0;
    }
}

/// What the first octets of a frame say.
struct Header {
    /// Octets before the code.
    prefix: usize,
    token: usize,
    content: u64,
}

impl Header {
    /// `None` where octets are missing.
    fn read(octets: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((first, rest)) = octets.split_first() else {
            return Ok(None);
        };
        let token = first & 0x0f;
        if token > 8 {
            return Err(FrameError::TokenLength(token));
        }
        let (extension, base) = match first >> 4 {
            13 => (1, ONE),
            14 => (2, TWO),
            15 => (4, FOUR),
            length => (0, usize::from(length)),
        };
        let Some(extension_octets) = rest.get(..extension) else {
            return Ok(None);
        };
        let extended = extension_octets
            .iter()
            .fold(0, |sum: u64, octet| sum << 8 | u64::from(*octet));
        Ok(Some(Self {
            prefix: 1 + extension,
            token: usize::from(token),
            content: extended + base as u64,
        }))
    }

    /// Octets of the whole frame.
    fn size(&self) -> u64 {
        (self.prefix + 1 + self.token) as u64 + self.content
    }

    fn message(&self, octets: &[u8]) -> Result<Message, FrameError> {
        let rest = octets.get(self.prefix..).unwrap_or_default();
        let (code, rest) = rest.split_first().unwrap_or((&0, &[]));
        let (token, content) = rest.split_at_checked(self.token).unwrap_or_default();
        let token = Token::new(token).unwrap_or_default();
        let mut message = Message::new(Kind::NonConfirmable, Code(*code), 0, token);
        message.decode_content(content)?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coap::option;

    fn message(payload: usize) -> Message {
        let token = Token::new(&[0x7f, 1]).unwrap();
        let mut message = Message::new(Kind::NonConfirmable, Code::PUT, 0, token);
        message.push_option(option::URI_PATH, *b"hb");
        message.payload = vec![7; payload];
        message
    }

    fn all(decoder: &mut Decoder) -> Vec<Message> {
        std::iter::from_fn(|| decoder.poll_message().unwrap()).collect()
    }

    #[test]
    fn frames_are_read_as_rfc_8323_prints_them() {
        // RFC 8323 §3.2, Figure 5: an empty 7.01 of two octets; then a 2.05 with a token and a payload.
        let mut decoder = Decoder::new(MAX_MESSAGE);
        decoder.handle_octets(&[0x00, 0xe1, 0x31, 0x45, 0x7f, 0xff, b'h', b'i']);
        let [first, second] = all(&mut decoder).try_into().unwrap();
        assert_eq!(first.code, Code::CSM);
        assert_eq!(second.code, Code::CONTENT);
        assert_eq!(second.token.octets(), [0x7f]);
        assert_eq!(second.payload, b"hi");
        assert_eq!(decoder.waiting(), 0);
    }

    #[test]
    fn lengths_of_every_form_come_back_from_any_pieces() {
        // Three octets of options and one of the marker before the payload.
        for (payload, header) in [
            (0, &[0x32][..]),
            (8, &[0xc2]),
            (9, &[0xd2, 0]),
            (264, &[0xd2, 255]),
            (265, &[0xe2, 0, 0]),
            (65_800, &[0xe2, 255, 255]),
            (65_801, &[0xf2, 0, 0, 0, 0]),
            (70_000, &[0xf2, 0, 0, 0x10, 0x67]),
        ] {
            let message = message(payload);
            let octets = frame(&message);
            assert!(octets.starts_with(header), "{payload}");
            for piece in [1, 7, 1000, octets.len()] {
                let mut decoder = Decoder::new(100_000);
                let mut found = Vec::new();
                for chunk in [&octets[..], &octets].concat().chunks(piece) {
                    decoder.handle_octets(chunk);
                    found.extend(all(&mut decoder));
                }
                assert_eq!(found, [message.clone(), message.clone()]);
                assert_eq!(decoder.waiting(), 0);
            }
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_comes() {
        let mut decoder = Decoder::new(1152);
        decoder.handle_octets(&[0xf0, 0xff, 0xff, 0xff, 0xff]);
        let error = Err(FrameError::TooLarge(6 + 65_805 + u64::from(u32::MAX)));
        assert_eq!(decoder.poll_message(), error);
        decoder.handle_octets(&[0; 4000]);
        assert_eq!(decoder.poll_message(), error);
        assert_eq!(decoder.waiting(), 0);
    }

    #[test]
    fn malformed_frames_end_the_stream() {
        for octets in [
            &[0x09, 0x01][..],
            &[0x10, 0x01, 0xff],
            &[0x20, 0x01, 0xf0, 0x00],
        ] {
            let mut decoder = Decoder::new(1152);
            decoder.handle_octets(octets);
            assert!(decoder.poll_message().is_err(), "{octets:?}");
        }
    }
}
