//! Atomic numbers: token buckets and counters with a time to live. Time is an argument. Reading
//! and changing an existing number takes no lock.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use papaya::{HashMap, Operation};

use super::scoped;
use crate::bucket::{Bucket, Rate, Taken};

/// Numbers of all plugins together.
const MAX_KEYS: usize = 1_000_000;

pub struct Counters {
    start: Instant,
    buckets: HashMap<Box<str>, Bucket>,
    numbers: HashMap<Box<str>, Number>,
}

struct Number {
    value: AtomicI64,
    expires: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    KeyTooLong,
    TooManyKeys,
    /// The same limit and key, in one call.
    SameTwice,
}

impl Default for Counters {
    fn default() -> Self {
        Counters { start: Instant::now(), buckets: HashMap::new(), numbers: HashMap::new() }
    }
}

impl Counters {
    /// Takes `cost` tokens, all or none.
    pub fn take(
        &self,
        plugin: &str,
        key: &str,
        rate: Rate,
        cost: u32,
        now: Instant,
    ) -> Result<Taken, Refused> {
        let key = scoped(plugin, key).ok_or(Refused::KeyTooLong)?;
        let now = self.nanos(now);
        let buckets = self.buckets.pin();
        let bucket = match buckets.get(&*key) {
            Some(bucket) => bucket,
            None if self.buckets.len() >= MAX_KEYS => return Err(Refused::TooManyKeys),
            None => buckets.get_or_insert_with(key, Bucket::default),
        };
        Ok(bucket.take(rate, cost, now))
    }

    /// Adds to a number that starts at 0 and ends `ttl` after it was made.
    pub fn increment(
        &self,
        plugin: &str,
        key: &str,
        by: i64,
        ttl: Duration,
        now: Instant,
    ) -> Result<i64, Refused> {
        let key = scoped(plugin, key).ok_or(Refused::KeyTooLong)?;
        let now = self.nanos(now);
        let numbers = self.numbers.pin();
        loop {
            if let Some(number) = numbers.get(&*key).filter(|number| number.expires > now) {
                return Ok(number.value.fetch_add(by, Relaxed).wrapping_add(by));
            }
            if self.numbers.len() >= MAX_KEYS {
                return Err(Refused::TooManyKeys);
            }
            // Whoever comes first makes the number anew; the others add to it.
            let expires = now.saturating_add(ttl.as_nanos() as u64).max(now + 1);
            numbers.compute(key.clone(), |old| match old {
                Some((_, number)) if number.expires > now => Operation::Abort(()),
                _ => Operation::Insert(Number { value: AtomicI64::new(0), expires }),
            });
        }
    }

    /// Forgets full buckets and ended numbers, which are as good as new ones. To be called now and then.
    pub fn sweep(&self, now: Instant) {
        let now = self.nanos(now);
        self.buckets.pin().retain(|_, bucket| !bucket.is_full(now));
        self.numbers.pin().retain(|_, number| number.expires > now);
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_gives_its_capacity_and_refills() {
        let counters = Counters::default();
        let t = Instant::now();
        let rate = Rate::new(3, 1, S).unwrap();
        let take = |cost, now| counters.take("p", "k", rate, cost, now).unwrap();
        assert_eq!(take(1, t).remaining, 2);
        assert_eq!(take(2, t).remaining, 0);
        let full = take(1, t);
        assert!(!full.allowed);
        assert_eq!((full.retry_after, full.reset), (S, 3 * S));
        assert!(take(1, t + S).allowed);
        assert!(!take(2, t + 2 * S).allowed, "all or none");
        assert!(take(1, t + 2 * S).allowed);
        assert_eq!(take(3, t + 60 * S).remaining, 0);
        assert_eq!(take(4, t + 90 * S).retry_after, Duration::MAX);
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let counters = Counters::default();
        let t = Instant::now();
        let rate = Rate::new(1000, 1, Duration::from_secs(3600)).unwrap();
        let take = || (0..1000).filter(|_| counters.take("p", "k", rate, 1, t).unwrap().allowed).count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 1000);
    }

    #[test]
    fn numbers_end() {
        let counters = Counters::default();
        let t = Instant::now();
        let add = |by, now| counters.increment("p", "k", by, S, now).unwrap();
        assert_eq!((add(2, t), add(-5, t), add(1, t + S / 2)), (2, -3, -2));
        assert_eq!(add(7, t + S), 7);
    }

    #[test]
    fn a_sweep_forgets_only_what_is_over() {
        let counters = Counters::default();
        let t = Instant::now();
        let rate = Rate::new(1, 1, S).unwrap();
        counters.take("p", "k", rate, 1, t).unwrap();
        counters.increment("p", "k", 1, S, t).unwrap();
        counters.sweep(t + S / 2);
        assert!(!counters.take("p", "k", rate, 1, t + S / 2).unwrap().allowed);
        counters.sweep(t + 2 * S);
        assert_eq!((counters.buckets.len(), counters.numbers.len()), (0, 0));
    }

    #[test]
    fn rates_without_meaning_are_refused() {
        assert!(Rate::new(0, 1, S).is_none() && Rate::new(1, 0, S).is_none());
        assert!(Rate::new(1, 1, Duration::ZERO).is_none());
    }
}
