//! Counters and key-value of the fake host. Time comes as an argument, in milliseconds.

use std::collections::HashMap;

use crate::bindings::plugin::wasmgate::plugin::counters::Bucket;
use crate::host::types::Error;

#[derive(Debug, Default)]
pub struct Store {
    buckets: HashMap<String, Level>,
    sums: HashMap<String, Mortal<i64>>,
    values: HashMap<String, Mortal<Vec<u8>>>,
}

/// What is in a bucket, counted in tokens times the period: refills of any fraction stay exact.
#[derive(Debug)]
struct Level {
    amount: u64,
    at_ms: u64,
}

#[derive(Debug)]
struct Mortal<T> {
    value: T,
    ends_ms: u64,
}

impl Store {
    pub fn take(
        &mut self,
        now_ms: u64,
        key: &str,
        cost: u32,
        capacity: u32,
        refill: u32,
        period_ms: u32,
    ) -> Result<Bucket, Error> {
        if capacity == 0 || refill == 0 || period_ms == 0 {
            return Err(Error::InvalidValue);
        }
        let [cost, capacity, refill, period] = [cost, capacity, refill, period_ms].map(u64::from);
        let full = capacity * period;
        let level = self.buckets.entry(key.to_string()).or_insert(Level { amount: full, at_ms: now_ms });
        let gained = (now_ms - level.at_ms).saturating_mul(refill);
        level.amount = level.amount.saturating_add(gained).min(full);
        level.at_ms = now_ms;
        let allowed = level.amount >= cost * period;
        if allowed {
            level.amount -= cost * period;
        }
        let until = |amount: u64| amount.saturating_sub(level.amount).div_ceil(refill);
        Ok(Bucket {
            allowed,
            remaining: level.amount / period,
            reset_ms: until(full),
            retry_after_ms: if allowed { 0 } else { until(cost * period) },
        })
    }

    pub fn increment(&mut self, now_ms: u64, key: &str, by: i64, ttl_ms: u32) -> Result<i64, Error> {
        let fresh = || Mortal { value: 0, ends_ms: now_ms + u64::from(ttl_ms) };
        let sum = self.sums.entry(key.to_string()).or_insert_with(fresh);
        if sum.ends_ms <= now_ms {
            *sum = fresh();
        }
        sum.value = sum.value.saturating_add(by);
        Ok(sum.value)
    }

    pub fn get(&self, now_ms: u64, key: &str) -> Option<Vec<u8>> {
        self.values.get(key).filter(|value| value.ends_ms > now_ms).map(|value| value.value.clone())
    }

    pub fn set(&mut self, now_ms: u64, key: &str, value: &[u8], ttl_ms: u32) {
        let value = Mortal { value: value.to_vec(), ends_ms: now_ms + u64::from(ttl_ms) };
        self.values.insert(key.to_string(), value);
    }

    pub fn delete(&mut self, key: &str) {
        self.values.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_refills_evenly() {
        let mut store = Store::default();
        let mut take = |now, cost| {
            let bucket = store.take(now, "k", cost, 3, 2, 1000).unwrap();
            (bucket.allowed, bucket.remaining, bucket.reset_ms, bucket.retry_after_ms)
        };
        assert_eq!(take(0, 3), (true, 0, 1500, 0));
        assert_eq!(take(0, 1), (false, 0, 1500, 500));
        assert_eq!(take(499, 1), (false, 0, 1001, 1));
        assert_eq!(take(500, 1), (true, 0, 1500, 0));
        assert_eq!(take(9000, 1), (true, 2, 500, 0));
        assert_eq!(take(9000, 3), (false, 2, 500, 500));
    }

    #[test]
    fn a_bucket_without_size_or_refill_is_refused() {
        let mut store = Store::default();
        for (capacity, refill, period) in [(0, 1, 1), (1, 0, 1), (1, 1, 0)] {
            assert_eq!(store.take(0, "k", 1, capacity, refill, period), Err(Error::InvalidValue));
        }
    }

    #[test]
    fn sums_and_values_end() {
        let mut store = Store::default();
        assert_eq!(store.increment(0, "k", 2, 100), Ok(2));
        assert_eq!(store.increment(99, "k", 1, 100), Ok(3));
        assert_eq!(store.increment(100, "k", 1, 100), Ok(1));
        store.set(0, "k", b"v", 100);
        assert_eq!(store.get(99, "k").as_deref(), Some(&b"v"[..]));
        assert_eq!(store.get(100, "k"), None);
        store.set(0, "k", b"v", 100);
        store.delete("k");
        assert_eq!(store.get(0, "k"), None);
    }
}
