//! Large tables: zeroed memory that is used as it is written, on large pages where the system has them. A record writes to
//! a few places that lie anywhere in such a table, and with small pages nearly each of them waits for an address translation.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::{Advice, MmapMut};

/// A table of a fixed length, zeroed.
#[derive(Debug)]
pub(crate) struct Table<T> {
    map: MmapMut,
    entries: PhantomData<T>,
}

impl<T: Pod> Table<T> {
    /// A table of `length` entries; as with any allocation, no memory is the end of the program.
    pub(crate) fn zeroed(length: usize) -> Self {
        let octets = length.max(1).checked_mul(size_of::<T>());
        #[expect(
            clippy::unwrap_used,
            reason = "an allocation that fails ends the program"
        )]
        let map = MmapMut::map_anon(octets.unwrap()).unwrap();
        // Without large pages it works as well.
        #[cfg(target_os = "linux")]
        let _ = map.advise(Advice::HugePage);
        Self {
            map,
            entries: PhantomData,
        }
    }
}

impl<T: Pod> Deref for Table<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.map)
    }
}

impl<T: Pod> DerefMut for Table<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.map)
    }
}

/// Asks for the memory of an entry that is needed soon; does nothing beyond the end.
#[inline]
pub(crate) fn expect<T>(table: &[T], at: usize) {
    if let Some(entry) = table.get(at) {
        #[cfg(target_arch = "x86_64")]
        safe_arch::prefetch_t0(entry);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = entry;
    }
}
