//! `application/missing-blocks+cbor-seq` (RFC 9177 §5): block numbers one behind the other.

/// More numbers than fit a datagram; what a peer lists beyond is left for its next list.
const MAX_LISTED: usize = 512;
/// Block numbers have 20 bits.
const MAX_NUMBER: u32 = 1 << 20;

/// Writes block numbers.
pub(crate) fn octets_of_missing(numbers: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    for number in numbers {
        let octets = number.to_be_bytes();
        match *number {
            0..24 => out.push(octets[3]),
            24..0x100 => out.extend([0x18, octets[3]]),
            0x100..0x1_0000 => out.extend([0x19, octets[2], octets[3]]),
            _ => {
                out.push(0x1a);
                out.extend(octets);
            }
        }
    }
    out
}

/// Reads block numbers; `None` for anything else than unsigned integers in ascending order. Duplicates are ignored.
pub(crate) fn missing_blocks(mut octets: &[u8]) -> Option<Vec<u32>> {
    let mut numbers: Vec<u32> = Vec::new();
    while let Some((head, rest)) = octets.split_first() {
        let length = match head {
            0..24 => 0,
            0x18 => 1,
            0x19 => 2,
            0x1a => 4,
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        octets = rest;
        let number = match length {
            0 => u32::from(*head),
            _ => value
                .iter()
                .fold(0, |sum, octet| sum << 8 | u32::from(*octet)),
        };
        if number >= MAX_NUMBER || numbers.last().is_some_and(|last| *last > number) {
            return None;
        }
        if numbers.last() != Some(&number) && numbers.len() < MAX_LISTED {
            numbers.push(number);
        }
    }
    (!numbers.is_empty()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_were_written() {
        let numbers = [0, 1, 23, 24, 255, 256, 65_535, 65_536, MAX_NUMBER - 1];
        let octets = octets_of_missing(&numbers);
        assert_eq!(missing_blocks(&octets).as_deref(), Some(&numbers[..]));
        assert_eq!(octets_of_missing(&[1, 9]), [1, 9]);
        assert_eq!(octets_of_missing(&[24]), [0x18, 24]);
    }

    #[test]
    fn what_is_no_ascending_list_is_none() {
        assert_eq!(missing_blocks(&[1, 1, 2]), Some(vec![1, 2]));
        for octets in [
            &[][..],
            &[2, 1],
            &[0x20],
            &[0x18],
            &[0x19, 1],
            &[0x1a, 0, 0x10, 0, 0],
            &[0x1b, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0x82, 1, 2],
        ] {
            assert_eq!(missing_blocks(octets), None, "{octets:?}");
        }
    }
}
