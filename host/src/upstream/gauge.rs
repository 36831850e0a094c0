//! How many there are of something, counted by all workers, and held to a limit.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// One more, unless there are `limit` of them; whether there is.
    pub fn enter(&self, limit: u32) -> bool {
        let more = |count: u32| (count < limit).then(|| count + 1);
        self.0.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// One more, whatever the limit is.
    pub fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}
