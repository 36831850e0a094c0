//! Series that plugins define.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError, atomic::AtomicU64},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Series that one plugin may define.
const MAX_SERIES: usize = 1_000;

/// By plugin.
#[derive(Default)]
pub struct OwnSeries(Mutex<HashMap<String, PluginSeries>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

pub type Labels = Vec<(String, String)>;

/// What one plugin has defined.
#[derive(Default)]
struct PluginSeries {
    families: HashMap<String, SeriesFamily>,
    series: HashSet<(String, Labels)>,
}

enum SeriesFamily {
    Counter(Family<Labels, Counter<f64, AtomicU64>>),
    Gauge(Family<Labels, Gauge<f64, AtomicU64>>),
    Histogram(Family<Labels, Histogram, fn() -> Histogram>),
}

/// One line of numbers.
#[derive(Clone)]
pub enum Series {
    Counter(Counter<f64, AtomicU64>),
    Gauge(Gauge<f64, AtomicU64>),
    Histogram(Histogram),
}

impl OwnSeries {
    /// None where the plugin has too many, or the name was defined as another kind.
    pub fn define(
        &self,
        registry: &mut Registry,
        plugin: &str,
        kind: Kind,
        name: &str,
        labels: Labels,
    ) -> Option<Series> {
        // Nothing panics while it is held, so a poisoned lock is still whole.
        let mut plugins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = plugins.entry(plugin.to_owned()).or_default();
        let series = (name.to_owned(), labels.clone());
        if !own.series.contains(&series) && own.series.len() >= MAX_SERIES {
            return None;
        }
        own.series.insert(series);
        let family = own.families.entry(name.to_owned()).or_insert_with(|| {
            let family = SeriesFamily::new(kind);
            family.register(registry, plugin, name);
            family
        });
        family.series(kind, &labels)
    }
}

impl SeriesFamily {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => SeriesFamily::Counter(Family::default()),
            Kind::Gauge => SeriesFamily::Gauge(Family::default()),
            Kind::Histogram => SeriesFamily::Histogram(Family::new_with_constructor(histogram)),
        }
    }

    fn register(&self, registry: &mut Registry, plugin: &str, name: &str) {
        let name = format!("plugin_{}_{name}", plugin.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        let help = format!("Defined by plugin {plugin}");
        match self {
            SeriesFamily::Counter(family) => registry.register(name, help, family.clone()),
            SeriesFamily::Gauge(family) => registry.register(name, help, family.clone()),
            SeriesFamily::Histogram(family) => registry.register(name, help, family.clone()),
        }
    }

    /// None where the name was defined as another kind.
    fn series(&self, kind: Kind, labels: &Labels) -> Option<Series> {
        Some(match (self, kind) {
            (SeriesFamily::Counter(family), Kind::Counter) => {
                Series::Counter(family.get_or_create(labels).clone())
            }
            (SeriesFamily::Gauge(family), Kind::Gauge) => Series::Gauge(family.get_or_create(labels).clone()),
            (SeriesFamily::Histogram(family), Kind::Histogram) => {
                Series::Histogram(family.get_or_create(labels).clone())
            }
            _ => return None,
        })
    }
}

impl Series {
    /// Adds to a counter, sets a gauge, observes into a histogram. A counter never goes down and
    /// nothing takes what is not a number.
    pub fn record(&self, value: f64) -> bool {
        let fits = value.is_finite() && (value >= 0.0 || !matches!(self, Series::Counter(_)));
        if fits {
            match self {
                Series::Counter(counter) => _ = counter.inc_by(value),
                Series::Gauge(gauge) => _ = gauge.set(value),
                Series::Histogram(histogram) => histogram.observe(value),
            }
        }
        fits
    }
}

impl Series {
    /// Adds to a counter or a gauge.
    pub fn add(&self, delta: f64) {
        match self {
            Series::Counter(counter) => _ = counter.inc_by(delta),
            Series::Gauge(gauge) => _ = gauge.inc_by(delta),
            Series::Histogram(_) => {}
        }
    }

    /// A histogram has no one value.
    pub fn value(&self) -> Option<f64> {
        match self {
            Series::Counter(counter) => Some(counter.get()),
            Series::Gauge(gauge) => Some(gauge.get()),
            Series::Histogram(_) => None,
        }
    }
}

/// Powers of four from 0.0001 up: fits seconds as well as sizes in KiB.
fn histogram() -> Histogram {
    Histogram::new((0..12).map(|n| 0.0001 * 4f64.powi(n)))
}
