use crate::coap::{Code, Token, option};

/// More options than any DOTS message has; a bound for hostile ones.
pub const MAX_OPTIONS: usize = 64;
/// Longest option value (RFC 7252 §5.10: Uri-Path and others have at most 255 octets; If-Match 8; Request-Tag 8).
const MAX_OPTION_LENGTH: usize = 1024;

/// The message type (RFC 7252 §4.2, §4.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// CON: to be acknowledged.
    Confirmable,
    /// NON: not to be acknowledged.
    NonConfirmable,
    /// ACK.
    Acknowledgement,
    /// RST.
    Reset,
}

/// Why octets are no CoAP message. Such datagrams are dropped, and a Confirmable one is answered with
/// [`Message::reset_of_malformed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoapError {
    /// Shorter than its parts.
    #[error("the message ends too early at octet {0}")]
    Truncated(usize),
    /// Not version 1.
    #[error("version {0} is not 1")]
    Version(u8),
    /// A token length of 9 to 15.
    #[error("token length {0} is reserved")]
    TokenLength(u8),
    /// An option delta or length of 15 without the payload marker, or a number beyond 65535.
    #[error("malformed option at octet {0}")]
    Option(usize),
    /// Too many or too long options.
    #[error("options beyond the bounds of this receiver")]
    TooManyOptions,
    /// A payload marker without payload (RFC 7252 §3).
    #[error("payload marker without payload")]
    EmptyPayload,
    /// An empty message with more than its header (RFC 7252 §4.1).
    #[error("empty message with content")]
    NotEmpty,
    /// A code of a reserved class (RFC 7252 §3: 1, 6 and 7).
    #[error("code of a reserved class")]
    Class,
}

/// A CoAP message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// CON, NON, ACK or RST.
    pub kind: Kind,
    /// Method or response code.
    pub code: Code,
    /// Matches ACK and RST, and tells duplicates.
    pub message_id: u16,
    /// Matches responses.
    pub token: Token,
    /// Options by number, in the order of their numbers; repeated ones in the order of the message.
    pub options: Vec<(u16, Vec<u8>)>,
    /// What follows the payload marker; empty = no payload.
    pub payload: Vec<u8>,
}

impl Message {
    /// A message without options and payload.
    #[must_use]
    pub fn new(kind: Kind, code: Code, message_id: u16, token: Token) -> Self {
        Self {
            kind,
            code,
            message_id,
            token,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// An empty ACK or RST (RFC 7252 §4.1).
    #[must_use]
    pub fn empty(kind: Kind, message_id: u16) -> Self {
        Self::new(kind, Code::EMPTY, message_id, Token::default())
    }

    /// Adds an option behind those of the same number.
    pub fn push_option(&mut self, number: u16, value: impl Into<Vec<u8>>) {
        let at = self.options.partition_point(|(other, _)| *other <= number);
        self.options.insert(at, (number, value.into()));
    }

    /// The first option of that number.
    #[must_use]
    pub fn option(&self, number: u16) -> Option<&[u8]> {
        self.values(number).next()
    }

    /// The first option of that number as an unsigned value; `None` where it is missing or too long for that option.
    #[must_use]
    pub fn number(&self, number: u16) -> Option<u32> {
        self.option(number)
            .filter(|value| option::is_length_of(number, value.len()))
            .and_then(option::number)
    }

    /// All options of that number.
    pub fn values(&self, number: u16) -> impl Iterator<Item = &[u8]> {
        self.options
            .iter()
            .filter(move |(other, _)| *other == number)
            .map(|(_, value)| value.as_slice())
    }

    /// The Reset that answers a Confirmable datagram which [`Message::decode`] refused (RFC 7252 §4.2); `None` where the
    /// datagram is none, or of an unknown version (RFC 7252 §3).
    #[must_use]
    pub fn reset_of_malformed(octets: &[u8]) -> Option<Self> {
        let &[first, _, id0, id1, ..] = octets else {
            return None;
        };
        // Version 1, type 0.
        (first >> 4 == 0b0100).then(|| Self::empty(Kind::Reset, u16::from_be_bytes([id0, id1])))
    }

    /// Reads one datagram.
    pub fn decode(octets: &[u8]) -> Result<Self, CoapError> {
        let &[first, code, id0, id1, ..] = octets else {
            return Err(CoapError::Truncated(octets.len()));
        };
        if first >> 6 != 1 {
            return Err(CoapError::Version(first >> 6));
        }
        let kind = match first >> 4 & 3 {
            0 => Kind::Confirmable,
            1 => Kind::NonConfirmable,
            2 => Kind::Acknowledgement,
            _ => Kind::Reset,
        };
        let length = first & 0x0f;
        if length > 8 {
            return Err(CoapError::TokenLength(length));
        }
        let code = Code(code);
        if matches!(code.class(), 1 | 6 | 7) {
            return Err(CoapError::Class);
        }
        if code == Code::EMPTY && (length != 0 || octets.len() != 4) {
            return Err(CoapError::NotEmpty);
        }
        let mut reader = Reader { octets, at: 4 };
        let token = Token::new(reader.take(usize::from(length))?).unwrap_or_default();
        let mut message = Self::new(kind, code, u16::from_be_bytes([id0, id1]), token);
        reader.options(&mut message)?;
        Ok(message)
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self.kind {
            Kind::Confirmable => 0,
            Kind::NonConfirmable => 1,
            Kind::Acknowledgement => 2,
            Kind::Reset => 3,
        };
        let token = self.token.octets();
        out.push(1 << 6 | kind << 4 | token.len() as u8);
        out.push(self.code.0);
        out.extend_from_slice(&self.message_id.to_be_bytes());
        out.extend_from_slice(token);
        self.encode_content(out);
    }

    /// Appends options and payload, which have the same form over datagrams and streams (RFC 8323 §3.2).
    pub(super) fn encode_content(&self, out: &mut Vec<u8>) {
        let mut last = 0;
        for (number, value) in &self.options {
            let (delta, delta_octets) = nibble(usize::from(number - last));
            let (length, length_octets) = nibble(value.len());
            out.push(delta << 4 | length);
            out.extend(delta_octets);
            out.extend(length_octets);
            out.extend_from_slice(value);
            last = *number;
        }
        if !self.payload.is_empty() {
            out.push(0xff);
            out.extend_from_slice(&self.payload);
        }
    }

    /// Reads options and payload.
    pub(super) fn decode_content(&mut self, octets: &[u8]) -> Result<(), CoapError> {
        Reader { octets, at: 0 }.options(self)
    }

    /// The message as octets of its own.
    #[must_use]
    pub fn to_octets(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.payload.len());
        self.encode(&mut out);
        out
    }
}

/// A delta or length in its nibble and extension (RFC 7252 §3.1).
fn nibble(value: usize) -> (u8, Vec<u8>) {
    match value {
        0..13 => (value as u8, Vec::new()),
        13..269 => (13, vec![(value - 13) as u8]),
        _ => (
            14,
            ((value - 269).min(usize::from(u16::MAX)) as u16)
                .to_be_bytes()
                .to_vec(),
        ),
    }
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CoapError> {
        let end = self
            .at
            .checked_add(length)
            .ok_or(CoapError::Truncated(self.at))?;
        let taken = self
            .octets
            .get(self.at..end)
            .ok_or(CoapError::Truncated(self.octets.len()))?;
        self.at = end;
        Ok(taken)
    }

    fn octet(&mut self) -> Result<u8, CoapError> {
        self.take(1)
            .map(|octets| octets.first().copied().unwrap_or_default())
    }

    fn extended(&mut self, nibble: u8) -> Result<usize, CoapError> {
        match nibble {
            13 => Ok(usize::from(self.octet()?) + 13),
            14 => Ok((usize::from(self.octet()?) << 8 | usize::from(self.octet()?)) + 269),
            15 => Err(CoapError::Option(self.at)),
            value => Ok(usize::from(value)),
        }
    }

    fn options(&mut self, message: &mut Message) -> Result<(), CoapError> {
        let mut number = 0_usize;
        while self.at < self.octets.len() {
            let first = self.octet()?;
            if first == 0xff {
                message.payload = self.octets.get(self.at..).unwrap_or_default().to_vec();
                return if message.payload.is_empty() {
                    Err(CoapError::EmptyPayload)
                } else {
                    Ok(())
                };
            }
            number += self.extended(first >> 4)?;
            let length = self.extended(first & 0x0f)?;
            let short = u16::try_from(number).map_err(|_| CoapError::Option(self.at))?;
            if message.options.len() >= MAX_OPTIONS || length > MAX_OPTION_LENGTH {
                return Err(CoapError::TooManyOptions);
            }
            let value = self.take(length)?;
            message.options.push((short, value.to_vec()));
        }
        Ok(())
    }
}
