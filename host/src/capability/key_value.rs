//! Values with a time to live, in memory. Bounded by bytes: an old value may go before its time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::{Expiry, policy::EvictionPolicy, sync::Cache};

use super::scoped;

/// Bytes of all keys and values together.
const CAPACITY: u64 = 64 << 20;
/// Longest value.
pub const MAX_VALUE: usize = 1 << 20;

pub struct KeyValue(Cache<Box<str>, Entry>);

#[derive(Clone)]
struct Entry {
    value: Bytes,
    ttl: Duration,
}

impl Default for KeyValue {
    fn default() -> Self {
        let cache = Cache::<Box<str>, Entry>::builder()
            .max_capacity(CAPACITY)
            .weigher(|key, entry: &Entry| {
                // The cache's own book-keeping is about as large as a small entry.
                u32::try_from(key.len() + entry.value.len() + 100).unwrap_or(u32::MAX)
            })
            .expire_after(TimeToLive)
            // What has just come stays: whoever adds relies on it.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        KeyValue(cache)
    }
}

impl KeyValue {
    pub fn get(&self, plugin: &str, key: &str) -> Option<Bytes> {
        self.0.get(&scoped(plugin, key)?).map(|entry| entry.value)
    }

    /// False where the key or the value is too long.
    pub fn set(&self, plugin: &str, key: &str, value: Bytes, ttl: Duration) -> bool {
        let Some(key) = scoped(plugin, key).filter(|_| value.len() <= MAX_VALUE) else {
            return false;
        };
        self.0.insert(key, Entry { value, ttl });
        true
    }

    /// Sets what is not there yet; whether it did. None where the key or the value is too long.
    pub fn add(&self, plugin: &str, key: &str, value: Bytes, ttl: Duration) -> Option<bool> {
        let key = scoped(plugin, key).filter(|_| value.len() <= MAX_VALUE)?;
        // Its `or_insert` looks first and inserts then, and lets several do so at a time; this one does not.
        Some(self.0.entry(key).or_insert_with(|| Entry { value, ttl }).is_fresh())
    }

    pub fn delete(&self, plugin: &str, key: &str) {
        if let Some(key) = scoped(plugin, key) {
            self.0.invalidate(&key);
        }
    }
}

struct TimeToLive;

impl Expiry<Box<str>, Entry> for TimeToLive {
    fn expire_after_create(&self, _: &Box<str>, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Box<str>,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn values_belong_to_one_plugin_and_expire() {
        let store = KeyValue::default();
        let hour = Duration::from_secs(3600);
        assert!(store.set("a", "k", Bytes::from_static(b"v"), hour));
        assert_eq!(store.get("a", "k").unwrap(), "v");
        assert!(store.get("b", "k").is_none());
        store.delete("b", "k");
        assert!(store.get("a", "k").is_some());
        store.delete("a", "k");
        assert!(store.get("a", "k").is_none());
        assert!(store.set("a", "k", Bytes::new(), Duration::ZERO));
        assert!(store.get("a", "k").is_none());
    }

    #[test]
    fn one_of_many_adds() {
        let store = KeyValue::default();
        let hour = Duration::from_secs(3600);
        let add = |ttl| store.add("a", "k", Bytes::new(), ttl);
        assert_eq!(add(Duration::from_millis(1)), Some(true));
        while store.get("a", "k").is_some() {
            std::thread::yield_now();
        }
        assert_eq!(add(hour), Some(true), "what has ended is not there");
        let together = Barrier::new(8);
        let race = || {
            let add = |key: usize| {
                together.wait();
                store.add("a", &key.to_string(), Bytes::new(), hour) == Some(true)
            };
            (0..2000).filter(|&key| add(key)).count()
        };
        let added: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(race)).collect();
            workers.into_iter().map(|worker| worker.join().expect("it ends")).sum()
        });
        assert_eq!(added, 2000, "each of them once");
        assert_eq!(store.add("b", "k", Bytes::new(), hour), Some(true), "another plugin's");
        store.delete("a", "k");
        assert_eq!(add(hour), Some(true));
        assert_eq!(store.add("a", "l", vec![0; MAX_VALUE + 1].into(), hour), None);
        assert_eq!(store.add("a", &"k".repeat(2000), Bytes::new(), hour), None);
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let store = KeyValue::default();
        let hour = Duration::from_secs(3600);
        assert!(!store.set("a", "k", vec![0; MAX_VALUE + 1].into(), hour));
        assert!(!store.set("a", &"k".repeat(2000), Bytes::new(), hour));
    }
}
