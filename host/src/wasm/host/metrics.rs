//! `metrics`: a plugin's own series.

use super::bindings::wasmgate::plugin::{
    metrics::{self, Kind},
    types::Error,
};
use crate::{telemetry::series, wasm::store::Host};

impl metrics::Host for Host {
    fn define(&mut self, kind: Kind, name: String, labels: Vec<(String, String)>) -> Result<u32, Error> {
        if !is_metric_name(&name) || !labels.iter().all(|(label, _)| is_metric_name(label)) {
            return Err(Error::InvalidName);
        }
        let kind = match kind {
            Kind::Counter => series::Kind::Counter,
            Kind::Gauge => series::Kind::Gauge,
            Kind::Histogram => series::Kind::Histogram,
        };
        let metrics = &self.plugin.capabilities.metrics;
        let series = metrics.define(&self.plugin.scope, kind, &name, labels);
        let number = u32::try_from(self.series.len()).map_err(|_| Error::Exhausted)?;
        self.series.push(series.ok_or(Error::Exhausted)?);
        Ok(number)
    }

    fn record(&mut self, series: u32, value: f64) -> Result<(), Error> {
        let series = self.series.get(series as usize).ok_or(Error::Unknown)?;
        series.record(value).then_some(()).ok_or(Error::InvalidValue)
    }
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, at most 100 bytes (Prometheus data model).
fn is_metric_name(name: &str) -> bool {
    let word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    name.len() <= 100
        && name.bytes().all(word)
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}
