//! Counters and key-value of the fake host. Time comes as an argument, in milliseconds.

use std::collections::HashMap;

use wasmgate_rate_limit::{Limit, Standing, State};

use crate::bindings::plugin::wasmgate::plugin::counters::Bucket;
use crate::host::types::Error;

/// Bytes of a key and of a value.
const MAX_KEY: usize = 1024;
const MAX_VALUE: usize = 1024 * 1024;

#[derive(Debug)]
pub struct Store {
    /// Most buckets, and most sums.
    pub max_keys: usize,
    buckets: HashMap<String, Level>,
    sums: HashMap<String, Mortal<i64>>,
    values: HashMap<String, Mortal<Vec<u8>>>,
    limits: HashMap<(Limit, String), State>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            max_keys: 1_000_000,
            buckets: HashMap::new(),
            sums: HashMap::new(),
            values: HashMap::new(),
            limits: HashMap::new(),
        }
    }
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
        check_key(key)?;
        let [cost, capacity, refill, period] = [cost, capacity, refill, period_ms].map(u64::from);
        if self.buckets.len() >= self.max_keys && !self.buckets.contains_key(key) {
            return Err(Error::Exhausted);
        }
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
            retry_after_ms: match allowed {
                true => 0,
                false if cost > capacity => u64::MAX,
                false => until(cost * period),
            },
        })
    }

    pub fn increment(&mut self, now_ms: u64, key: &str, by: i64, ttl_ms: u32) -> Result<i64, Error> {
        check_ttl(ttl_ms)?;
        check_key(key)?;
        if self.sums.len() >= self.max_keys && !self.sums.contains_key(key) {
            return Err(Error::Exhausted);
        }
        let fresh = || Mortal { value: 0, ends_ms: now_ms + u64::from(ttl_ms) };
        let sum = self.sums.entry(key.to_string()).or_insert_with(fresh);
        if sum.ends_ms <= now_ms {
            *sum = fresh();
        }
        sum.value = sum.value.saturating_add(by);
        Ok(sum.value)
    }

    /// Takes from all, or from none where one does not allow it. The time is in nanoseconds since 1970.
    pub fn take_all(&mut self, now: u64, asked: &[(&str, Limit, u32)]) -> Result<Vec<Standing>, Error> {
        let mut keys = Vec::new();
        for (key, limit, _) in asked {
            check_key(key)?;
            let key = (*limit, key.to_string());
            if keys.contains(&key) {
                return Err(Error::InvalidValue);
            }
            if self.limits.len() >= self.max_keys && !self.limits.contains_key(&key) {
                return Err(Error::Exhausted);
            }
            self.limits.entry(key.clone()).or_default();
            keys.push(key);
        }
        let mut ask = |take| -> Vec<Standing> {
            let limits = keys.iter().zip(asked);
            let asked = limits.filter_map(|(key, (_, limit, cost))| {
                Some(self.limits.get_mut(key)?.ask(limit, *cost, now, take))
            });
            asked.collect()
        };
        let standings = ask(false);
        Ok(if standings.iter().all(|standing| standing.allowed) { ask(true) } else { standings })
    }

    pub fn get(&self, now_ms: u64, key: &str) -> Option<Vec<u8>> {
        self.values.get(key).filter(|value| value.ends_ms > now_ms).map(|value| value.value.clone())
    }

    pub fn set(&mut self, now_ms: u64, key: &str, value: &[u8], ttl_ms: u32) -> Result<(), Error> {
        check_ttl(ttl_ms)?;
        check_key(key)?;
        if value.len() > MAX_VALUE {
            return Err(Error::TooLarge);
        }
        let value = Mortal { value: value.to_vec(), ends_ms: now_ms + u64::from(ttl_ms) };
        self.values.insert(key.to_string(), value);
        Ok(())
    }

    pub fn delete(&mut self, key: &str) {
        self.values.remove(key);
    }

    pub fn add(&mut self, now_ms: u64, key: &str, value: &[u8], ttl_ms: u32) -> Result<bool, Error> {
        let is_there = self.get(now_ms, key).is_some();
        if !is_there {
            self.set(now_ms, key, value, ttl_ms)?;
        }
        Ok(!is_there)
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    match key.len() > MAX_KEY {
        true => Err(Error::TooLarge),
        false => Ok(()),
    }
}

fn check_ttl(ttl_ms: u32) -> Result<(), Error> {
    match ttl_ms {
        0 => Err(Error::InvalidValue),
        _ => Ok(()),
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
        assert_eq!(take(9000, 4), (false, 2, 500, u64::MAX));
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
        store.set(0, "k", b"v", 100).unwrap();
        assert_eq!(store.get(99, "k").as_deref(), Some(&b"v"[..]));
        assert_eq!(store.get(100, "k"), None);
        store.set(0, "k", b"v", 100).unwrap();
        store.delete("k");
        assert_eq!(store.get(0, "k"), None);
        assert_eq!(store.increment(0, "k", 1, 0), Err(Error::InvalidValue));
        assert_eq!(store.set(0, "k", b"v", 0), Err(Error::InvalidValue));
    }

    #[test]
    fn keys_and_values_are_bounded() {
        let mut store = Store::default();
        let (longest, longer) = ("k".repeat(MAX_KEY), "k".repeat(MAX_KEY + 1));
        assert_eq!(store.increment(0, &longest, 1, 1), Ok(1));
        assert_eq!(store.increment(0, &longer, 1, 1), Err(Error::TooLarge));
        assert_eq!(store.take(0, &longer, 1, 1, 1, 1), Err(Error::TooLarge));
        assert_eq!(store.set(0, &longer, b"v", 1), Err(Error::TooLarge));
        assert_eq!(store.set(0, &longest, &[0; MAX_VALUE], 1), Ok(()));
        assert_eq!(store.set(0, "k", &[0; MAX_VALUE + 1], 1), Err(Error::TooLarge));
        store.max_keys = 1;
        assert_eq!(store.increment(0, "another", 1, 1), Err(Error::Exhausted));
        assert_eq!(store.increment(0, &longest, 1, 1), Ok(2));
        assert!(store.take(0, "one", 1, 1, 1, 1).is_ok());
        assert_eq!(store.take(0, "another", 1, 1, 1, 1), Err(Error::Exhausted));
    }
}
