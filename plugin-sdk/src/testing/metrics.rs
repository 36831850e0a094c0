//! The metric series of the fake host.

use crate::bindings::plugin::wasmgate::plugin::metrics::Kind;
use crate::host::types::Error;

/// Series of a plugin, and bytes of a name.
const MAX_SERIES: usize = 1000;
const MAX_NAME: usize = 100;

#[derive(Debug, Default)]
pub struct Metrics(Vec<Series>);

#[derive(Debug)]
struct Series {
    kind: Kind,
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    pub fn define(&mut self, kind: Kind, name: &str, labels: &[(&str, &str)]) -> Result<u32, Error> {
        if !is_name(name) || !labels.iter().all(|(label, _)| is_name(label)) {
            return Err(Error::InvalidName);
        }
        if self.0.iter().any(|series| series.name == name && series.kind != kind) {
            return Err(Error::Exhausted);
        }
        if let Some(number) = self.find(name, labels) {
            return Ok(number as u32);
        }
        if self.0.len() >= MAX_SERIES {
            return Err(Error::Exhausted);
        }
        self.0.push(Series { kind, name: name.to_string(), labels: sorted(labels), value: 0.0 });
        Ok(self.0.len() as u32 - 1)
    }

    pub fn record(&mut self, series: u32, value: f64) -> Result<(), Error> {
        let series = self.0.get_mut(series as usize).ok_or(Error::Unknown)?;
        match series.kind {
            _ if !value.is_finite() => return Err(Error::InvalidValue),
            Kind::Counter if value < 0.0 => return Err(Error::InvalidValue),
            Kind::Gauge => series.value = value,
            Kind::Counter | Kind::Histogram => series.value += value,
        }
        Ok(())
    }

    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.find(name, labels).map(|number| self.0[number].value)
    }

    fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<usize> {
        let labels = sorted(labels);
        self.0.iter().position(|series| series.name == name && series.labels == labels)
    }
}

fn sorted(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut labels: Vec<_> = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    labels.sort();
    labels
}

/// A name of the Prometheus text format.
fn is_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_NAME
        && text.bytes().all(word)
        && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_its_name_and_labels() {
        let mut metrics = Metrics::default();
        let a = metrics.define(Kind::Counter, "hits_total", &[("x", "1"), ("y", "2")]).unwrap();
        assert_eq!(metrics.define(Kind::Counter, "hits_total", &[("y", "2"), ("x", "1")]), Ok(a));
        assert_ne!(metrics.define(Kind::Counter, "hits_total", &[]), Ok(a));
        assert_eq!(metrics.define(Kind::Gauge, "hits_total", &[]), Err(Error::Exhausted));
        assert_eq!(metrics.define(Kind::Gauge, "hits-total", &[]), Err(Error::InvalidName));
        assert_eq!(metrics.define(Kind::Gauge, &"x".repeat(101), &[]), Err(Error::InvalidName));
        assert_eq!(metrics.record(a, f64::INFINITY), Err(Error::InvalidValue));
        assert_eq!(metrics.record(a, 2.0), Ok(()));
        assert_eq!(metrics.record(a, -1.0), Err(Error::InvalidValue));
        assert_eq!(metrics.record(9, 1.0), Err(Error::Unknown));
        assert_eq!(metrics.value("hits_total", &[("x", "1"), ("y", "2")]), Some(2.0));
    }

    #[test]
    fn series_are_bounded() {
        let mut metrics = Metrics::default();
        let mut define = |n: usize| metrics.define(Kind::Counter, "hits", &[("n", &n.to_string())]);
        assert_eq!((0..MAX_SERIES).find(|&n| define(n).is_err()), None);
        assert_eq!(define(MAX_SERIES), Err(Error::Exhausted));
        assert_eq!(define(0), Ok(0));
    }
}
