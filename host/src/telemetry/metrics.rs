//! The metrics page. Handles are made when a snapshot is built; a request only adds to atomics.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::SystemTime,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Series that one plugin may define.
const MAX_SERIES: usize = 1_000;

pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    pub plugin_failures: PluginFailures,
    pub access_log_dropped: Counter,
    pub reloads: Reloads,
    plugins: Mutex<HashMap<String, PluginSeries>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: &'static str,
}

/// What became of attempts to put the files in force.
pub struct Reloads {
    attempts: Family<ReloadLabels, Counter>,
    succeeded: Gauge,
    last_success: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

/// Counters of one route by class of status.
#[derive(Clone)]
pub struct RouteCounters([Counter; 5]);

/// Failures of plugins; a failing request may look its counter up.
#[derive(Clone)]
pub struct PluginFailures(Family<FailureLabels, Counter>);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabels {
    plugin: String,
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("wasmgate");
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("requests", "Requests by route and class of status", requests.clone());
        let failures = Family::<FailureLabels, Counter>::default();
        registry.register("plugin_failures", "Failures of plugins by reason", failures.clone());
        let dropped = Counter::default();
        let help = "Access log lines lost because the queue was full";
        registry.register("access_log_dropped", help, dropped.clone());
        let reloads = Reloads::new(&mut registry);
        Metrics {
            reloads,
            registry: Mutex::new(registry),
            requests,
            plugin_failures: PluginFailures(failures),
            access_log_dropped: dropped,
            plugins: Mutex::default(),
        }
    }
}

impl Metrics {
    pub fn route(&self, route: &str) -> RouteCounters {
        RouteCounters(["1xx", "2xx", "3xx", "4xx", "5xx"].map(|status| {
            let labels = RequestLabels { route: route.to_owned(), status };
            self.requests.get_or_create(&labels).clone()
        }))
    }

    /// The page in the Prometheus text format.
    pub fn page(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &lock(&self.registry))?;
        Ok(text)
    }

    /// A plugin's own series: the one it defined before with the same name and labels, or a new one.
    pub fn define(&self, plugin: &str, kind: Kind, name: &str, labels: Labels) -> Option<Series> {
        let mut plugins = lock(&self.plugins);
        let own = plugins.entry(plugin.to_owned()).or_default();
        let family = own.families.entry(name.to_owned()).or_insert_with(|| {
            let family = SeriesFamily::new(kind);
            self.register(plugin, name, &family);
            family
        });
        if own.series.insert((name.to_owned(), labels.clone())) && own.series.len() > MAX_SERIES {
            own.series.remove(&(name.to_owned(), labels));
            return None;
        }
        family.series(kind, &labels)
    }

    fn register(&self, plugin: &str, name: &str, family: &SeriesFamily) {
        let name = format!("plugin_{}_{name}", plugin.replace('-', "_"));
        let help = format!("Defined by plugin {plugin}");
        let mut registry = lock(&self.registry);
        match family {
            SeriesFamily::Counter(family) => registry.register(name, help, family.clone()),
            SeriesFamily::Gauge(family) => registry.register(name, help, family.clone()),
            SeriesFamily::Histogram(family) => registry.register(name, help, family.clone()),
        }
    }
}

impl Reloads {
    fn new(registry: &mut Registry) -> Self {
        let reloads = Reloads {
            attempts: Family::default(),
            succeeded: Gauge::default(),
            last_success: Gauge::default(),
        };
        registry.register("reloads", "Attempts to put the files in force", reloads.attempts.clone());
        let help = "Whether the last reload succeeded";
        registry.register("last_reload_successful", help, reloads.succeeded.clone());
        let help = "When the running config was put in force";
        let (unit, since) = (Unit::Seconds, reloads.last_success.clone());
        registry.register_with_unit("last_reload_success_timestamp", help, unit, since);
        reloads.succeeded();
        reloads
    }

    pub fn count(&self, success: bool) {
        let result = if success { "applied" } else { "refused" };
        self.attempts.get_or_create(&ReloadLabels { result }).inc();
        match success {
            true => self.succeeded(),
            false => _ = self.succeeded.set(0),
        }
    }

    fn succeeded(&self) {
        self.succeeded.set(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.last_success.set(now.unwrap_or_default().as_secs_f64());
    }
}

impl RouteCounters {
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.0[class].inc();
    }
}

impl PluginFailures {
    pub fn count(&self, plugin: &str, reason: &'static str) {
        let labels = FailureLabels { plugin: plugin.to_owned(), reason };
        self.0.get_or_create(&labels).inc();
    }
}

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

impl SeriesFamily {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => SeriesFamily::Counter(Family::default()),
            Kind::Gauge => SeriesFamily::Gauge(Family::default()),
            Kind::Histogram => SeriesFamily::Histogram(Family::new_with_constructor(histogram)),
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

/// One line of numbers.
#[derive(Clone)]
pub enum Series {
    Counter(Counter<f64, AtomicU64>),
    Gauge(Gauge<f64, AtomicU64>),
    Histogram(Histogram),
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

/// Powers of four from 0.0001 up: fits seconds as well as sizes in KiB.
fn histogram() -> Histogram {
    Histogram::new((0..12).map(|n| 0.0001 * 4f64.powi(n)))
}

/// Nothing panics while it holds one of these locks, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_defined_once_and_keeps_its_kind() {
        let metrics = Metrics::default();
        let labels = vec![("plan".to_owned(), "free".to_owned())];
        let first = metrics.define("key-auth", Kind::Counter, "hits", labels.clone()).unwrap();
        let again = metrics.define("key-auth", Kind::Counter, "hits", labels.clone()).unwrap();
        assert!(first.record(2.0) && again.record(1.5));
        assert!(!first.record(-1.0) && !first.record(f64::NAN));
        assert!(metrics.define("key-auth", Kind::Gauge, "hits", labels).is_none());
        assert!(metrics.define("key-auth", Kind::Gauge, "hits", vec![]).is_none());
        let page = metrics.page().unwrap();
        assert!(page.contains("plugin_key_auth_hits_total{plan=\"free\"} 3.5"), "{page}");
    }

    #[test]
    fn requests_are_counted_by_class() {
        let metrics = Metrics::default();
        let route = metrics.route("users");
        route.count(204);
        route.count(999);
        let page = metrics.page().unwrap();
        assert!(page.contains(r#"wasmgate_requests_total{route="users",status="2xx"} 1"#), "{page}");
        assert!(page.contains(r#"wasmgate_requests_total{route="users",status="5xx"} 1"#), "{page}");
    }
}
