use weir_netflow::{DatagramError, message_length};

/// Room for the longest message (65,535 octets) of one session.
const ROOM: usize = 64 << 10;

/// Cuts a session's octets into messages by the Length of their headers (RFC 7011 §3.1).
///
/// Once every whole message is consumed there is always room to read into, however the peer splits what it writes.
pub(crate) struct Framer {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Framer {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; ROOM].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Where to read to. Call [`handle_filled`](Self::handle_filled) with what was read.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.buffer.len() - self.end < ROOM / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes note that the first `octets` of the room were filled.
    pub(crate) fn handle_filled(&mut self, octets: usize) {
        self.end = self.end.saturating_add(octets).min(self.buffer.len());
    }

    /// The message at the front, once it is whole.
    ///
    /// # Errors
    ///
    /// The header is none, so nobody knows where the next message begins: the session must end.
    pub(crate) fn message(&self) -> Result<Option<&[u8]>, DatagramError> {
        let octets = self.octets();
        let length = message_length(octets)?;
        Ok(length.and_then(|length| octets.get(..length)))
    }

    /// Lets go of the message at the front.
    pub(crate) fn consume(&mut self) {
        if let Ok(Some(message)) = self.message() {
            self.start += message.len();
        }
    }

    /// Whether a message has begun and is not whole.
    pub(crate) fn is_partial(&self) -> bool {
        self.start != self.end
    }

    fn octets(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u16, fill: u8) -> Vec<u8> {
        let mut message = vec![fill; usize::from(length)];
        message[..2].copy_from_slice(&10_u16.to_be_bytes());
        message[2..4].copy_from_slice(&length.to_be_bytes());
        message
    }

    fn put(framer: &mut Framer, octets: &[u8]) -> usize {
        let room = framer.room();
        let count = octets.len().min(room.len());
        room[..count].copy_from_slice(&octets[..count]);
        framer.handle_filled(count);
        count
    }

    #[test]
    fn messages_of_any_length_come_out_however_they_are_split() {
        let lengths = [16, 65_535, 17, 40_000, 65_535, 16, 30_000, 65_535];
        let messages: Vec<_> = (0..).zip(lengths).map(|(f, l)| message(l, f)).collect();
        let stream = messages.concat();
        for step in [1, 3, 1_460, 32_768, 65_536, 1 << 20] {
            let (mut framer, mut seen, mut at) = (Framer::new(), Vec::new(), 0);
            while at < stream.len() {
                let end = stream.len().min(at + step);
                let count = put(&mut framer, &stream[at..end]);
                assert!(count > 0, "no room at {at} by steps of {step}");
                at += count;
                while let Some(message) = framer.message().unwrap() {
                    seen.push(message.to_vec());
                    framer.consume();
                }
            }
            assert!(seen == messages, "by steps of {step}");
            assert!(!framer.is_partial());
        }
    }

    #[test]
    fn a_header_that_is_none_is_a_fault_as_soon_as_it_is_seen() {
        for octets in [[0, 9, 0, 16], [0, 10, 0, 15], [0, 10, 0, 0], *b"GET "] {
            let mut framer = Framer::new();
            put(&mut framer, &octets[..3]);
            assert_eq!(framer.message(), Ok(None));
            put(&mut framer, &octets[3..]);
            assert!(framer.message().is_err(), "{octets:?}");
        }
    }
}
