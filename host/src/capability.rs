//! Services behind the interfaces that plugins import: plain Rust, no WebAssembly. One of each for
//! the whole process, shared by all workers; they survive a reload.

pub mod consumers;
pub mod counters;
pub mod http_call;
pub mod kept;
pub mod key_value;
pub mod networks;
pub mod passwords;
pub mod random;
pub mod rate_limits;
pub mod redis;
pub mod shared;
pub mod store;

use std::sync::Arc;

use crate::telemetry::metrics::Metrics;

pub struct Capabilities {
    pub metrics: Arc<Metrics>,
    pub counters: counters::Counters,
    pub key_value: key_value::KeyValue,
    pub rate_limits: rate_limits::RateLimits,
    /// Of plugins' calls.
    pub answers: kept::Kept<http_call::Answer, http_call::Failure>,
    pub shared: Arc<shared::Shared>,
    pub stores: store::Stores,
    pub passwords: passwords::Passwords,
    pub networks: networks::Networks,
    pub consumers: consumers::Book,
}

impl Capabilities {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Capabilities {
            stores: store::Stores::new(metrics.clone()),
            metrics,
            counters: counters::Counters::default(),
            key_value: key_value::KeyValue::default(),
            rate_limits: rate_limits::RateLimits::default(),
            answers: kept::Kept::new(http_call::Answer::weight),
            shared: Arc::default(),
            passwords: passwords::Passwords::default(),
            networks: networks::Networks::default(),
            consumers: consumers::Book::default(),
        }
    }
}

/// Longest key of a plugin, in bytes.
pub const MAX_KEY: usize = 1024;

/// A plugin's keys are its own: no plugin name holds a NUL.
fn scoped(plugin: &str, key: &str) -> Option<Box<str>> {
    if key.len() > MAX_KEY {
        return None;
    }
    Some([plugin, "\0", key].concat().into())
}
