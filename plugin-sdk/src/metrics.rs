//! Numbers on the gateway's metrics page, named `wasmgate_plugin_PLUGIN_NAME`.
//!
//! Define a series in [`Plugin::new`](crate::Plugin::new) and keep the handle: a series with the
//! same name and labels is found, not made again, so all instances add to the same one. Keep labels
//! few and their values fewer; the gateway bounds the number of series.
//!
//! ```
//! use wasmgate_sdk::{Plugin, Request, Result, Verdict, metrics::Counter, plugin};
//!
//! struct Count {
//!     seen: Counter,
//! }
//!
//! #[plugin]
//! impl Plugin for Count {
//!     type Config = ();
//!
//!     fn new(_: ()) -> Result<Self> {
//!         Ok(Count { seen: Counter::new("requests_total", &[])? })
//!     }
//!
//!     fn on_request(&self, _: &Request) -> Result<Verdict> {
//!         self.seen.increment();
//!         Ok(Verdict::Next)
//!     }
//! }
//! # fn main() -> Result<()> {
//! # use wasmgate_sdk::testing;
//! let host = testing::Host::new();
//! host.load::<Count>("null")?.send(testing::Request::get("/"));
//! assert_eq!(host.metric("requests_total", &[]), Some(1.0));
//! # Ok(())
//! # }
//! ```

use crate::host::metrics;
use crate::{HostError, Result};

/// A number that only grows; its name ends with `_total`.
///
/// ```
/// use wasmgate_sdk::{HostError, metrics::Counter};
///
/// fn define() -> Result<Counter, HostError> {
///     Counter::new("decisions_total", &[("result", "allowed")])
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Counter(u32);

impl Counter {
    /// Makes or finds the series.
    ///
    /// Errors: `InvalidName` (the name or a label's is not `[a-zA-Z_][a-zA-Z0-9_]*` of at most 100
    /// bytes), `Exhausted` (more than 1000 series, or the name is in use for another kind).
    ///
    /// ```
    /// # use wasmgate_sdk::{HostError, metrics::Counter};
    /// fn define() -> Result<Counter, HostError> {
    ///     Counter::new("hits_total", &[])
    /// }
    /// ```
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self, HostError> {
        Ok(Counter(metrics::define(metrics::Kind::Counter, name, labels)?))
    }

    /// Adds 1.
    ///
    /// ```
    /// fn hit(hits: &wasmgate_sdk::metrics::Counter) {
    ///     hits.increment();
    /// }
    /// ```
    pub fn increment(&self) {
        self.add(1.0);
    }

    /// Adds a number; a negative one or NaN is dropped.
    ///
    /// ```
    /// fn sent(bytes: &wasmgate_sdk::metrics::Counter, body: &[u8]) {
    ///     bytes.add(body.len() as f64);
    /// }
    /// ```
    pub fn add(&self, by: f64) {
        record(self.0, by);
    }
}

/// A number that goes up and down.
///
/// ```
/// use wasmgate_sdk::{HostError, metrics::Gauge};
///
/// fn define() -> Result<Gauge, HostError> {
///     Gauge::new("keys", &[])
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Gauge(u32);

impl Gauge {
    /// Makes or finds the series. Errors as for [`Counter::new`].
    ///
    /// ```
    /// # use wasmgate_sdk::{HostError, metrics::Gauge};
    /// fn define() -> Result<Gauge, HostError> {
    ///     Gauge::new("keys", &[("set", "default")])
    /// }
    /// ```
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self, HostError> {
        Ok(Gauge(metrics::define(metrics::Kind::Gauge, name, labels)?))
    }

    /// Sets the number.
    ///
    /// ```
    /// fn loaded(keys: &wasmgate_sdk::metrics::Gauge, count: usize) {
    ///     keys.set(count as f64);
    /// }
    /// ```
    pub fn set(&self, value: f64) {
        record(self.0, value);
    }
}

/// A distribution of numbers, in the base unit of what they measure: seconds, bytes.
///
/// ```
/// use wasmgate_sdk::{HostError, metrics::Histogram};
///
/// fn define() -> Result<Histogram, HostError> {
///     Histogram::new("body_bytes", &[])
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Histogram(u32);

impl Histogram {
    /// Makes or finds the series. Errors as for [`Counter::new`].
    ///
    /// ```
    /// # use wasmgate_sdk::{HostError, metrics::Histogram};
    /// fn define() -> Result<Histogram, HostError> {
    ///     Histogram::new("check_seconds", &[])
    /// }
    /// ```
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self, HostError> {
        Ok(Histogram(metrics::define(metrics::Kind::Histogram, name, labels)?))
    }

    /// Takes a number into the distribution.
    ///
    /// ```
    /// fn measure(seconds: &wasmgate_sdk::metrics::Histogram, took: std::time::Duration) {
    ///     seconds.observe(took.as_secs_f64());
    /// }
    /// ```
    pub fn observe(&self, value: f64) {
        record(self.0, value);
    }
}

/// A number that the host refuses is not worth failing a request for.
fn record(series: u32, value: f64) {
    let _ = metrics::record(series, value);
}
