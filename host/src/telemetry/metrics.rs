//! The metrics of the gateway: what workers count in sheets of their own, what happens seldom, and
//! what plugins define. A request only writes to the sheets of its worker.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    numbers::{EndpointNumbers, ListenerNumbers, PluginNumbers, RedisNumbers, RouteNumbers, UpstreamNumbers},
    series::{Kind, Labels, OwnSeries, Series},
    tally::Sheets,
};

/// How the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, which Prometheus asks for.
    OpenMetrics,
    /// The older text format (0.0.4), for whoever does not ask.
    Prometheus,
}

pub struct Metrics {
    registry: Mutex<Registry>,
    sheaf: Arc<Sheaf>,
    own: OwnSeries,
    pub spans: Spans,
    pub access_log_dropped: Counter,
    pub audit_dropped: Counter,
    log_dropped: Family<PluginLabels, Counter>,
    pub reloads: Reloads,
    pub rollouts: Rollouts,
    upstreams: Upstreams,
    certificates: Family<CertificateLabels, Gauge>,
}

/// All sheets of all workers.
#[derive(Debug)]
pub struct Sheaf {
    pub routes: Sheets<Arc<str>, RouteNumbers>,
    pub upstreams: Sheets<Arc<str>, UpstreamNumbers>,
    /// By upstream and address.
    pub endpoints: Sheets<(Arc<str>, Arc<str>), EndpointNumbers>,
    pub listeners: Sheets<Arc<str>, ListenerNumbers>,
    pub plugins: Sheets<Arc<str>, PluginNumbers>,
    pub redis: Sheets<Arc<str>, RedisNumbers>,
    /// Of the histograms of requests.
    pub bounds: Arc<[Duration]>,
}

/// What is known of upstreams, beside what workers count.
struct Upstreams {
    available: Family<EndpointLabels, Gauge>,
    ejections: Family<EndpointLabels, Counter>,
    breaker: Family<UpstreamLabels, Gauge>,
    opened: Family<UpstreamLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointLabels {
    upstream: String,
    endpoint: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CertificateLabels {
    listener: String,
    /// The first of its names.
    certificate: String,
}

/// What happens to plugins that are rolled out.
#[derive(Clone)]
pub struct Rollouts {
    rolled_back: Family<PluginLabels, Counter>,
    compared: Family<PluginLabels, Counter>,
    differences: Family<DifferenceLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DifferenceLabels {
    plugin: String,
    what: &'static str,
}

/// What became of spans.
#[derive(Clone)]
pub struct Spans {
    pub exported: Counter,
    pub failed: Counter,
    pub dropped: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SpanLabels {
    result: &'static str,
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

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new(&crate::config::Metrics::default())
    }
}

impl Metrics {
    pub fn new(config: &crate::config::Metrics) -> Self {
        let mut registry = Registry::with_prefix("wasmgate");
        let sheaf = Arc::new(Sheaf {
            routes: Sheets::default(),
            upstreams: Sheets::default(),
            endpoints: Sheets::default(),
            listeners: Sheets::default(),
            plugins: Sheets::default(),
            redis: Sheets::default(),
            bounds: config.buckets.iter().copied().collect(),
        });
        registry.register_collector(Box::new(sheaf.clone()));
        let [access_log_dropped, audit_dropped] = <[Counter; 2]>::default();
        let help = "Access log lines lost because the queue was full, or because they could not be written";
        registry.register("access_log_dropped", help, access_log_dropped.clone());
        let help = "Audit lines lost because the queue was full, or because they could not be written";
        registry.register("audit_dropped", help, audit_dropped.clone());
        let reloads = Reloads::new(&mut registry);
        let log_dropped = Family::default();
        let help = "Log lines of a plugin that exceeded its rate";
        registry.register("plugin_log_dropped", help, log_dropped.clone());
        let rollouts = Rollouts::new(&mut registry);
        let spans = Spans::new(&mut registry);
        let upstreams = Upstreams::new(&mut registry);
        let certificates = Family::default();
        let help =
            "Until when a certificate of a listener is good, by the first of its names: seconds since 1970";
        registry.register("listener_certificate_end_seconds", help, certificates.clone());
        let registry = Mutex::new(registry);
        Metrics {
            rollouts,
            upstreams,
            certificates,
            spans,
            log_dropped,
            registry,
            sheaf,
            own: OwnSeries::default(),
            access_log_dropped,
            audit_dropped,
            reloads,
        }
    }

    pub fn route(&self, name: &Arc<str>, worker: usize) -> Arc<RouteNumbers> {
        self.sheaf.routes.of(name, worker, || RouteNumbers::new(self.sheaf.bounds.clone()))
    }

    pub fn upstream(&self, name: &Arc<str>, worker: usize) -> Arc<UpstreamNumbers> {
        self.sheaf.upstreams.of(name, worker, || UpstreamNumbers::new(self.sheaf.bounds.clone()))
    }

    pub fn endpoint(&self, upstream: &Arc<str>, address: &Arc<str>, worker: usize) -> Arc<EndpointNumbers> {
        self.sheaf.endpoints.of(&(upstream.clone(), address.clone()), worker, EndpointNumbers::default)
    }

    pub fn listener(&self, name: &Arc<str>, worker: usize) -> Arc<ListenerNumbers> {
        self.sheaf.listeners.of(name, worker, ListenerNumbers::default)
    }

    pub fn plugin(&self, name: &Arc<str>, worker: usize) -> Arc<PluginNumbers> {
        self.sheaf.plugins.of(name, worker, PluginNumbers::default)
    }

    /// By the thread that asks it.
    pub fn redis(&self, name: &Arc<str>, thread: usize) -> Arc<RedisNumbers> {
        self.sheaf.redis.of(name, thread, RedisNumbers::default)
    }

    pub fn endpoint_available(&self, upstream: &str, endpoint: &str, available: bool) {
        let labels = EndpointLabels::new(upstream, endpoint);
        self.upstreams.available.get_or_create(&labels).set(available.into());
    }

    pub fn endpoint_ejected(&self, upstream: &str, endpoint: &str) {
        let labels = EndpointLabels::new(upstream, endpoint);
        self.upstreams.ejections.get_or_create(&labels).inc();
    }

    pub fn endpoint_gone(&self, upstream: &str, endpoint: &str) {
        let labels = EndpointLabels::new(upstream, endpoint);
        self.upstreams.available.remove(&labels);
        self.upstreams.ejections.remove(&labels);
    }

    /// `state` as its gauge has it.
    pub fn breaker_changed(&self, upstream: &str, state: u8, opened: bool) {
        let labels = UpstreamLabels::new(upstream);
        self.upstreams.breaker.get_or_create(&labels).set(state.into());
        if opened {
            self.upstreams.opened.get_or_create(&labels).inc();
        }
    }

    pub fn upstream_gone(&self, upstream: &str) {
        let labels = UpstreamLabels::new(upstream);
        self.upstreams.breaker.remove(&labels);
        self.upstreams.opened.remove(&labels);
    }

    /// What listeners show from now on: listener, name and end of each certificate.
    pub fn certificates<'a>(&self, all: impl Iterator<Item = (&'a str, &'a str, SystemTime)>) {
        self.certificates.clear();
        for (listener, certificate, end) in all {
            let labels =
                CertificateLabels { listener: listener.to_owned(), certificate: certificate.to_owned() };
            let seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            self.certificates.get_or_create(&labels).set(seconds.try_into().unwrap_or(i64::MAX));
        }
    }

    pub fn plugin_log_dropped(&self, plugin: &str) {
        self.log_dropped.get_or_create(&PluginLabels { plugin: plugin.to_owned() }).inc();
    }

    pub fn sheaf(&self) -> &Sheaf {
        &self.sheaf
    }

    /// The page. Afterwards it forgets what the config has no more.
    pub fn page(&self, format: Format) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &lock(&self.registry))?;
        self.sheaf.prune();
        Ok(match format {
            Format::OpenMetrics => text,
            Format::Prometheus => prometheus(&text),
        })
    }

    /// A plugin's own series: the one it defined before with the same name and labels, or a new one.
    pub fn define(&self, plugin: &str, kind: Kind, name: &str, labels: Labels) -> Option<Series> {
        self.own.define(&mut lock(&self.registry), plugin, kind, name, labels)
    }
}

impl Sheaf {
    fn prune(&self) {
        self.routes.prune();
        self.upstreams.prune();
        self.endpoints.prune();
        self.listeners.prune();
        self.plugins.prune();
        self.redis.prune();
    }
}

impl Spans {
    fn new(registry: &mut Registry) -> Self {
        let spans = Family::<SpanLabels, Counter>::default();
        let help = "Spans by what became of them: exported, failed (not taken) or dropped (too many waited)";
        registry.register("trace_spans", help, spans.clone());
        let of = |result| spans.get_or_create(&SpanLabels { result }).clone();
        Spans { exported: of("exported"), failed: of("failed"), dropped: of("dropped") }
    }
}

impl EndpointLabels {
    fn new(upstream: &str, endpoint: &str) -> Self {
        EndpointLabels { upstream: upstream.to_owned(), endpoint: endpoint.to_owned() }
    }
}

impl UpstreamLabels {
    fn new(upstream: &str) -> Self {
        UpstreamLabels { upstream: upstream.to_owned() }
    }
}

impl Upstreams {
    fn new(registry: &mut Registry) -> Self {
        let upstreams = Upstreams {
            available: Family::default(),
            ejections: Family::default(),
            breaker: Family::default(),
            opened: Family::default(),
        };
        let help =
            "Whether an endpoint is in service: 0 where it failed its checks, was taken out or is drained";
        registry.register("upstream_endpoint_available", help, upstreams.available.clone());
        let help = "How often an endpoint was taken out for what became of requests";
        registry.register("upstream_endpoint_ejections", help, upstreams.ejections.clone());
        let help = "The breaker of an upstream: 0 closed, 1 open, 2 half-open";
        registry.register("upstream_breaker", help, upstreams.breaker.clone());
        let help = "How often the breaker of an upstream opened";
        registry.register("upstream_breaker_opened", help, upstreams.opened.clone());
        upstreams
    }
}

impl Rollouts {
    fn new(registry: &mut Registry) -> Self {
        let rollouts = Rollouts {
            rolled_back: Family::default(),
            compared: Family::default(),
            differences: Family::default(),
        };
        let help = "Roll-outs of a plugin that were given up";
        registry.register("plugin_rollbacks", help, rollouts.rolled_back.clone());
        let help = "Calls of a plugin whose shadow was compared";
        registry.register("plugin_shadow_calls", help, rollouts.compared.clone());
        let help = "Differences between a plugin and its shadow, by what differed";
        registry.register("plugin_shadow_differences", help, rollouts.differences.clone());
        rollouts
    }

    pub fn rolled_back(&self, plugin: &str) {
        self.rolled_back.get_or_create(&PluginLabels { plugin: plugin.to_owned() }).inc();
    }

    pub fn compared(&self, plugin: &str) {
        self.compared.get_or_create(&PluginLabels { plugin: plugin.to_owned() }).inc();
    }

    pub fn differs(&self, plugin: &str, what: &'static str) {
        self.differences.get_or_create(&DifferenceLabels { plugin: plugin.to_owned(), what }).inc();
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

/// OpenMetrics names a counter without `_total` where it describes it; the older format calls
/// everything by the name of its samples and knows neither units nor an end.
fn prometheus(open_metrics: &str) -> String {
    let described = |line: &str, keyword: &str| -> Option<(String, String)> {
        let (name, rest) = line.strip_prefix("# ")?.strip_prefix(keyword)?.trim_start().split_once(' ')?;
        Some((name.to_owned(), rest.to_owned()))
    };
    let types = open_metrics.lines().filter_map(|line| described(line, "TYPE"));
    let counters: HashSet<_> = types.filter(|(_, kind)| kind == "counter").map(|(name, _)| name).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let description = ["HELP", "TYPE"].into_iter().find_map(|keyword| {
            let (name, rest) = described(line, keyword)?;
            counters.contains(&name).then(|| format!("# {keyword} {name}_total {rest}"))
        });
        text.push_str(description.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

/// Nothing panics while it holds the lock, so a poisoned one is still whole.
fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
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
        let page = metrics.page(Format::OpenMetrics).unwrap();
        assert!(page.contains("plugin_key_auth_hits_total{plan=\"free\"} 3.5"), "{page}");
    }

    #[test]
    fn a_plugin_with_too_many_series_leaves_no_name_behind() {
        let metrics = Metrics::default();
        let define = |number: usize| metrics.define("p", Kind::Gauge, &format!("g{number}"), vec![]);
        let defined = (0..2_000).filter(|number| define(*number).is_some()).count();
        assert!(defined < 2_000 && define(0).is_some());
        let page = metrics.page(Format::Prometheus).unwrap();
        assert_eq!(page.matches("# TYPE wasmgate_plugin_p_g").count(), defined);
    }

    #[test]
    fn requests_are_counted_over_workers_by_method_class_and_reason() {
        let metrics = Metrics::default();
        let name = Arc::from("users");
        let (first, second) = (metrics.route(&name, 0), metrics.route(&name, 1));
        first.ended(&http::Method::GET, 204, None, Duration::from_millis(1));
        second.ended(&http::Method::GET, 200, None, Duration::from_millis(2));
        second.ended(&http::Method::GET, 403, Some(&"denied".into()), Duration::from_millis(2));
        let page = metrics.page(Format::Prometheus).unwrap();
        for line in [
            "# TYPE wasmgate_requests_total counter",
            r#"wasmgate_requests_total{route="users",method="GET",status="2xx",reason=""} 2"#,
            r#"wasmgate_requests_total{route="users",method="GET",status="4xx",reason="denied"} 1"#,
            r#"wasmgate_request_duration_seconds_bucket{le="0.001",route="users"} 1"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        assert!(!page.contains("EOF") && !page.contains("# UNIT"), "{page}");
    }
}
