//! Bodies of fuzz targets: plain functions that take any octets and must return.

use crate::stream::framing::Framer;

/// Frames `data` as a session's octets, read in pieces whose lengths the first octets give; checks that messages come whole and
/// in order, and that there is always room while none waits. Panics only if the framing is wrong.
pub fn fuzz_framing(data: &[u8]) {
    let (steps, mut rest) = data.split_at(data.len().min(8));
    let mut steps = steps.iter().cycle();
    let mut framer = Framer::new();
    let mut framed = 0;
    let stream = rest;
    while !rest.is_empty() {
        let room = framer.room();
        assert!(!room.is_empty());
        let step = steps.next().map_or(1, |step| usize::from(*step) * 97 + 1);
        let count = step.min(rest.len()).min(room.len());
        let (now, later) = rest.split_at(count);
        room.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        framer.handle_filled(count);
        rest = later;
        loop {
            match framer.message() {
                Ok(Some(message)) => {
                    assert!((16..=65_535).contains(&message.len()));
                    assert_eq!(stream.get(framed..framed + message.len()), Some(message));
                    framed += message.len();
                    framer.consume();
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert_eq!(framer.is_partial(), framed < stream.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_octets_can_be_framed() {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..200 {
            let mut data: Vec<u8> = (0..8).map(|_| next() as u8).collect();
            for _ in 0..next() % 12 {
                let length = (next() as u16).max(16) >> (next() % 12);
                data.extend([0, 10]);
                data.extend(length.to_be_bytes());
                // Now and then it is cut.
                let body = usize::from(length).saturating_sub(4 + (next() % 7 / 6) as usize);
                data.extend(std::iter::repeat_n(7, body));
            }
            fuzz_framing(&data);
        }
    }
}
