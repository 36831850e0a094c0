//! Token buckets of one word each. Time is an argument.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The theoretical arrival time of the next token, in ns since a time that the owner has chosen: the whole state of a
/// token bucket (GCRA, ITU-T I.371). A new one is full.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

/// How fast a bucket fills and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds for one token.
    interval: u64,
    /// Nanoseconds for a full bucket.
    full: u64,
}

impl Rate {
    /// None where a number is 0 or the bucket takes longer than centuries to fill.
    pub fn new(capacity: u32, refill: u32, period: Duration) -> Option<Rate> {
        let period = u64::try_from(period.as_nanos()).ok()?;
        let interval = period.checked_div(refill.into())?.max(1);
        let full = interval.checked_mul(capacity.into()).filter(|&full| full < u64::MAX / 4)?;
        (capacity > 0 && period > 0).then_some(Rate { interval, full })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub allowed: bool,
    pub remaining: u64,
    /// Until the bucket is full again.
    pub reset: Duration,
    /// Until the same cost is allowed; zero where it was. For a cost above the capacity: never, `Duration::MAX`.
    pub retry_after: Duration,
}

impl Bucket {
    /// Takes `cost` tokens, all or none. Takes no lock.
    pub fn take(&self, rate: Rate, cost: u32, now: u64) -> Taken {
        let price = rate.interval.saturating_mul(cost.into());
        let taken = self.0.fetch_update(Relaxed, Relaxed, |arrival| {
            let next = arrival.max(now).saturating_add(price);
            (next - now <= rate.full).then_some(next)
        });
        let (allowed, arrival) = match taken {
            Ok(before) => (true, before.max(now).saturating_add(price)),
            Err(arrival) => (false, arrival.max(now)),
        };
        // After a change to a smaller bucket the arrival may lie beyond it.
        let owed = arrival - now;
        let wait = match allowed {
            true => Duration::ZERO,
            false if price > rate.full => Duration::MAX,
            false => Duration::from_nanos(owed.saturating_add(price).saturating_sub(rate.full)),
        };
        Taken {
            allowed,
            remaining: rate.full.saturating_sub(owed) / rate.interval,
            reset: Duration::from_nanos(owed),
            retry_after: wait,
        }
    }

    /// Whether it is as good as a new one.
    pub fn is_full(&self, now: u64) -> bool {
        self.0.load(Relaxed) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn it_is_full_again_when_all_tokens_are_back() {
        let (bucket, rate) = (Bucket::default(), Rate::new(2, 1, Duration::from_secs(1)).unwrap());
        assert!(bucket.is_full(0) && bucket.take(rate, 2, 0).allowed);
        assert!(!bucket.is_full(2 * S - 1) && bucket.is_full(2 * S));
    }

    proptest::proptest! {
        /// Whatever the times of the takings: in no span of time more than the capacity and what flows in meanwhile.
        #[test]
        fn it_never_gives_more_than_flows_in(
            capacity in 1u32..10, refill in 1u32..10, steps in proptest::collection::vec(0..S, 1..50),
        ) {
            let (bucket, rate) = (Bucket::default(), Rate::new(capacity, refill, Duration::from_secs(1)).unwrap());
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                let allowed = bucket.take(rate, 1, now);
                proptest::prop_assert_eq!(allowed.allowed, allowed.retry_after.is_zero());
                taken.extend(allowed.allowed.then_some(now));
            }
            for (place, since) in taken.iter().enumerate() {
                let most = u64::from(capacity) + (now - since) * u64::from(refill) / S + 1;
                proptest::prop_assert!((taken.len() - place) as u64 <= most);
            }
        }
    }
}
