//! What holds for each IPv4 address, worked out when the files are read: the databases and the table of networks cut the
//! address space into ranges, and a look-up is a short binary search instead of a walk through three trees.

use weir_flow_record::Address;

use crate::snapshot::Resolved;

const BUCKETS: u32 = 1 << 16;

/// Ranges of IPv4 addresses, sorted.
pub(crate) struct Ranges {
    /// For each /16, and one beyond, the first range that begins in it or later.
    index: Vec<u32>,
    /// First addresses; the very first is 0.
    starts: Vec<u32>,
    contents: Vec<Resolved>,
}

impl Ranges {
    /// Ranges that begin at `starts` at most, each with what holds for its first address.
    pub(crate) fn new(mut starts: Vec<u32>, resolve: impl Fn(Address) -> Resolved) -> Self {
        starts.push(0);
        starts.sort_unstable();
        starts.dedup();
        let mut contents = Vec::<Resolved>::new();
        starts.retain(|start| {
            let found = resolve(Address::from_v4(start.to_be_bytes()));
            let differs = contents.last() != Some(&found);
            if differs {
                contents.push(found);
            }
            differs
        });
        Self {
            index: index(&starts),
            starts,
            contents,
        }
    }

    /// What holds for an address.
    pub(crate) fn find(&self, address: u32) -> Option<Resolved> {
        let bucket = (address >> 16) as usize;
        let first = *self.index.get(bucket)? as usize;
        let end = *self.index.get(bucket + 1)? as usize;
        let within = self.starts.get(first..end)?;
        let begun = within.partition_point(|start| *start <= address);
        self.contents.get((first + begun).checked_sub(1)?).copied()
    }
}

fn index(starts: &[u32]) -> Vec<u32> {
    let mut place = 0u32;
    let mut rest = starts.iter().peekable();
    (0..=BUCKETS)
        .map(|bucket| {
            while rest.next_if(|start| **start >> 16 < bucket).is_some() {
                place += 1;
            }
            place
        })
        .collect()
}
