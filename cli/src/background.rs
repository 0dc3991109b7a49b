//! Threads that give way to those that packets and judgements wait for.

use thread_priority::{ThreadPriority, set_current_thread_priority};

/// Of 99: nice 9, a seventh of a CPU's time beside one thread that wants all of it.
const PRIORITY: u8 = 25;

/// Makes the calling thread, and those that it starts, give way where CPUs are short: the recent window, models, evidence and the
/// Parquet files can wait, or lose something that is counted, before a datagram is lost.
pub(crate) fn give_way() {
    let priority = PRIORITY.try_into().map(ThreadPriority::Crossplatform);
    let done = priority.map(set_current_thread_priority);
    if let Ok(Err(error)) = done {
        // Somebody has made the whole process give way even more.
        tracing::debug!(?error, "a thread keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 19 of a thread's `stat`, behind its name in parentheses.
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_and_its_children_give_way_and_others_do_not() {
        let before = niceness();
        let inside = std::thread::spawn(|| {
            give_way();
            let child = std::thread::spawn(niceness).join().unwrap();
            (niceness(), child)
        });
        let after = before.max(9);
        assert_eq!(inside.join().unwrap(), (after, after));
        assert_eq!(niceness(), before);
    }
}
