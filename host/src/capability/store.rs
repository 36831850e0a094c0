//! Where a plugin keeps its counters, values and rate limits besides the memory of the process.

use std::sync::{Arc, Mutex, PoisonError};

use super::redis::Redis;
use crate::{
    config::{self, OnError},
    telemetry::metrics::Metrics,
};

#[derive(Clone)]
pub struct Store {
    pub redis: Arc<Redis>,
    /// What holds where it gives no answer.
    pub on_error: OnError,
}

impl Store {
    /// Another one where it is reached in another way.
    pub fn identity(&self) -> (usize, OnError) {
        (Arc::as_ptr(&self.redis).addr(), self.on_error)
    }
}

/// Those of the config. One goes on with its connections as long as it is reached in the same way.
pub struct Stores {
    metrics: Arc<Metrics>,
    all: Mutex<Vec<Arc<Redis>>>,
}

impl Stores {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Stores { metrics, all: Mutex::default() }
    }

    pub fn get(&self, settings: &config::Redis) -> Arc<Redis> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that no plugin has any more.
        all.retain(|redis| Arc::strong_count(redis) > 1 || redis.has(settings));
        if let Some(redis) = all.iter().find(|redis| redis.has(settings)) {
            return redis.clone();
        }
        let redis = Redis::new(settings.clone(), self.metrics.clone());
        all.push(redis.clone());
        redis
    }
}
