//! Until when what is known of something elsewhere is good.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

pub struct Contact {
    begun: Instant,
    /// When all was last known, in milliseconds since it has begun; `NEVER` before.
    last: AtomicU64,
    /// How long it is good then, in milliseconds.
    stale: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Contact {
    pub fn new(now: Instant) -> Self {
        Contact { begun: now, last: AtomicU64::new(NEVER), stale: AtomicU64::new(0) }
    }

    /// Counts from the last time that all was known.
    pub fn keep_for(&self, time: Duration) {
        self.stale.store(millis(time), Relaxed);
    }

    /// All was known at this time.
    pub fn renew(&self, at: Instant) {
        self.last.store(self.since_begin(at), Relaxed);
    }

    pub fn holds(&self, now: Instant) -> bool {
        let last = self.last.load(Relaxed);
        last != NEVER && self.since_begin(now).saturating_sub(last) <= self.stale.load(Relaxed)
    }

    pub fn kept_for(&self) -> Duration {
        Duration::from_millis(self.stale.load(Relaxed))
    }

    fn since_begin(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.begun))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_good_for_a_while() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let contact = Contact::new(begin);
        contact.keep_for(Duration::from_secs(60));
        assert!(!contact.holds(at(0)), "nothing was known ever");
        contact.renew(at(10));
        for (seconds, good) in [(10, true), (70, true), (71, false), (1_000_000, false)] {
            assert_eq!(contact.holds(at(seconds)), good, "{seconds}");
        }
        contact.keep_for(Duration::from_secs(600));
        assert!(contact.holds(at(71)), "at once for longer");
        contact.renew(at(1000));
        assert!(contact.holds(at(1600)) && !contact.holds(at(1601)));
    }
}
