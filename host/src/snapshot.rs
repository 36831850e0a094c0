//! Everything that a request needs, built whole and swapped whole: routes, chains, upstreams,
//! limits. [`Snapshot`] is shared and immutable; [`View`] is one worker's live side of it.

mod reach;
mod split;

use std::{cell::Cell, collections::HashMap, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use http::HeaderValue;
use ipnet::IpNet;

use crate::{
    config::{FailurePolicy, Forwarded, Limits, ListenerTls, Mirror, Rewrite, Template},
    limiter::Limiter,
    plugin::{
        Factory, Filter, Stock,
        chain::{Chain, Use},
        services::{Services, Tasks},
    },
    router::Table,
    telemetry::{
        access_log::AccessLog,
        audit::Audit,
        metrics::Metrics,
        numbers::{PluginNumbers, RouteNumbers},
        otlp::Tracer,
    },
    upstream::{Cluster, Upstream},
};
use reach::{Clusters, Reach};

pub use split::Traffic;

pub struct Snapshot {
    /// The listeners in the order in which rules name them.
    pub entrances: Vec<Entrance>,
    pub table: Arc<Table>,
    /// In the order of the table's rules.
    pub routes: Vec<RouteSpec>,
    pub upstreams: Vec<Arc<Upstream>>,
    /// Plugins that run without a route.
    pub services: Vec<Service>,
    pub limits: Limits,
    /// How long requests on this snapshot keep instances warm once there is another.
    pub drain_timeout: Duration,
    pub forwarding: Forwarding,
    pub access_log: Option<AccessLog>,
    pub audit: Option<Audit>,
    pub tracer: Option<Tracer>,
    pub metrics: Arc<Metrics>,
}

impl Snapshot {
    /// The listener's place among those of the config; one that no rule names where it is gone.
    pub fn listener(&self, door: u32) -> u16 {
        let place = self.entrances.iter().position(|entrance| entrance.door == door);
        place.and_then(|place| u16::try_from(place).ok()).unwrap_or(u16::MAX)
    }

    /// None for a listener that is gone.
    pub fn entrance(&self, door: u32) -> Option<&Entrance> {
        self.entrances.iter().find(|entrance| entrance.door == door)
    }

    pub fn limiter(&self, door: u32) -> Option<&Limiter> {
        self.entrance(door).map(|entrance| &*entrance.limiter)
    }
}

/// A listener as clients meet it.
pub struct Entrance {
    /// The id of its door.
    pub door: u32,
    pub limiter: Arc<Limiter>,
    pub tls: Option<Arc<ListenerTls>>,
    /// Speaks HTTP/2 with those who want to.
    pub http2: bool,
    /// Clients that have closed their side still get their answers.
    pub half_close: bool,
    /// Proxies that say whom their connections are from.
    pub proxies: Vec<IpNet>,
}

impl Entrance {
    /// Whether this peer's connections begin with a header of the PROXY protocol.
    pub fn is_proxied(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxies.iter().any(|network| network.contains(&peer))
    }

    /// Whether requests for this host belong on another connection than one that asked for the certificate of `name`.
    pub fn misdirects(&self, name: &str, host: &str) -> bool {
        let tls = self.tls.as_ref().filter(|tls| tls.identities.len() > 1);
        tls.is_some_and(|tls| tls.acceptor.misdirects(name, host))
    }
}

pub struct RouteSpec {
    pub name: Arc<str>,
    pub upstream: Option<Arc<str>>,
    /// In place of the upstream.
    pub split: Option<Traffic>,
    /// Upstreams of the split's branches.
    pub branches: Vec<Arc<str>>,
    pub fallback: Option<Arc<str>>,
    pub mirror: Option<(Arc<str>, Mirror)>,
    pub path: PathRule,
    pub plugins: Vec<PluginUse>,
    /// Protocols that a request may go on in.
    pub upgrades: Vec<String>,
    /// Clients get answers before the last one.
    pub early_hints: bool,
    /// One of its plugins could not be loaded.
    pub disabled: bool,
    /// Longest request body in bytes.
    pub body_limit: u64,
}

/// A plugin that runs without a route.
pub struct Service {
    pub factory: Arc<dyn Factory>,
    /// On one worker only.
    pub once: bool,
}

#[derive(Clone)]
pub struct PluginUse {
    pub factory: Arc<dyn Factory>,
    pub policy: FailurePolicy,
}

/// What the upstream gets as path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRule {
    Keep,
    /// Cuts this many bytes from the front; what is left begins with a slash or gets one.
    Strip(usize),
    Rewrite(Template),
}

impl PathRule {
    /// The path to send for one that was received, and that plugins may have changed since. The rule knows the received
    /// path: a prefix that a plugin took away is not cut again, and a template keeps its values.
    pub fn apply<'v>(
        &self,
        received: &str,
        current: &str,
        param: impl Fn(&str) -> Option<&'v str>,
    ) -> Option<String> {
        match self {
            PathRule::Keep => Some(current.to_owned()),
            PathRule::Strip(length) => {
                let rest = current.strip_prefix(received.get(..*length)?).unwrap_or(current);
                let slash = if rest.starts_with('/') { "" } else { "/" };
                Some(format!("{slash}{rest}"))
            }
            PathRule::Rewrite(template) => Some(template.fill(param)),
        }
    }
}

impl From<&Rewrite> for PathRule {
    fn from(rewrite: &Rewrite) -> Self {
        match rewrite {
            Rewrite::Keep => PathRule::Keep,
            Rewrite::StripPrefix(prefix) => PathRule::Strip(prefix.trim_end_matches('/').len()),
            Rewrite::Template(template) => PathRule::Rewrite(template.clone()),
        }
    }
}

/// The rule of the config with the values that every message gets, made once.
pub struct Forwarding {
    pub rule: Forwarded,
    pub via: Option<Via>,
}

/// Our hop in Via, by the version of the message as it was received.
pub struct Via {
    pub http_10: HeaderValue,
    pub http_11: HeaderValue,
    pub http_2: HeaderValue,
}

impl Forwarding {
    /// A pseudonym that cannot stand in a header is left out; the config has checked it.
    pub fn new(rule: Forwarded) -> Self {
        let hop = |name: &str, version| HeaderValue::from_str(&format!("{version} {name}")).ok();
        let via = rule.via.as_deref().and_then(|name| {
            Some(Via { http_10: hop(name, "1.0")?, http_11: hop(name, "1.1")?, http_2: hop(name, "2.0")? })
        });
        Forwarding { rule, via }
    }

    /// Whether this is a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.rule.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

/// One worker's side of a snapshot: its filters with their warm instances, its upstreams with
/// their connections.
pub struct View {
    pub snapshot: Arc<Snapshot>,
    pub routes: Vec<Route>,
    /// What a request without a route has: no plugins, no upstream.
    pub unmatched: Route,
    worker: usize,
    clusters: Clusters,
    filters: HashMap<u64, Rc<dyn Filter>>,
    /// The way of filters to the clusters of the newest view.
    reach: Rc<Reach>,
    tasks: Tasks,
}

pub struct Route {
    pub name: Arc<str>,
    pub chain: Chain,
    pub upstream: Option<Rc<Cluster>>,
    pub branches: Vec<Rc<Cluster>>,
    pub fallback: Option<Rc<Cluster>>,
    pub mirror: Option<Mirroring>,
    pub numbers: Arc<RouteNumbers>,
}

/// Where copies of a route's requests go.
#[derive(Clone)]
pub struct Mirroring {
    pub cluster: Rc<Cluster>,
    pub settings: Mirror,
    /// Copies of this worker that are under way.
    pub under_way: Rc<Cell<u32>>,
}

impl View {
    /// Takes over from the view before what has not changed: warm instances, breakers, connections.
    pub fn new(snapshot: Arc<Snapshot>, before: Option<&View>, worker: usize, tasks: Tasks) -> View {
        let clusters = snapshot.upstreams.iter().map(|upstream| {
            let known = before.and_then(|view| view.clusters.get(&upstream.settings.name));
            let kept = known.filter(|cluster| Arc::ptr_eq(&cluster.upstream, upstream)).cloned();
            let new =
                || Cluster::new(upstream.clone(), &snapshot.metrics, worker, known.map(|known| &**known));
            (upstream.settings.name.clone(), kept.unwrap_or_else(|| Rc::new(new())))
        });
        let unmatched = Arc::from("-");
        let clusters: Clusters = clusters.collect();
        let reach = before.map_or_else(Rc::default, |view| view.reach.clone());
        reach.replace(clusters.clone());
        let mut view = View {
            worker,
            clusters,
            reach,
            tasks,
            filters: HashMap::new(),
            routes: Vec::new(),
            unmatched: Route {
                numbers: snapshot.metrics.route(&unmatched, worker),
                name: unmatched,
                chain: Chain::default(),
                upstream: None,
                branches: Vec::new(),
                fallback: None,
                mirror: None,
            },
            snapshot: snapshot.clone(),
        };
        view.routes = snapshot.routes.iter().map(|spec| view.route(spec, before)).collect();
        view.start(before);
        view
    }

    /// What the worker runs besides requests.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub fn cluster(&self, name: &str) -> Option<&Rc<Cluster>> {
        self.clusters.get(name)
    }

    /// Lets go of warm instances that another view does not use.
    pub fn retire(&self, other: &View) {
        let own = self.filters.iter().filter(|(identity, _)| !other.filters.contains_key(identity));
        own.for_each(|(_, filter)| filter.retire());
    }

    /// Lets go of warm instances that other workers wait for.
    pub fn relieve(&self) {
        self.filters.values().for_each(|filter| filter.relieve());
    }

    /// Starts the filters that are new, and those that no route uses.
    fn start(&mut self, before: Option<&View>) {
        for service in &self.snapshot.clone().services {
            if self.worker == 0 || !service.once {
                Making { view: self, before }.filter(&*service.factory);
            }
        }
        let is_new = |identity| before.is_none_or(|view| !view.filters.contains_key(identity));
        let new = self.filters.iter().filter(|(identity, _)| is_new(*identity));
        new.for_each(|(_, filter)| filter.clone().start());
    }

    fn route(&mut self, spec: &RouteSpec, before: Option<&View>) -> Route {
        let mut making = Making { view: self, before };
        let mut uses = Vec::new();
        for plugin in &spec.plugins {
            let name = plugin.factory.name();
            uses.push(Use {
                name: name.clone(),
                filter: making.filter(&*plugin.factory),
                policy: plugin.policy,
                audit: making.view.snapshot.audit.clone(),
                numbers: making.numbers(name),
            });
        }
        let cluster = |name: &Arc<str>| self.clusters.get(name).cloned();
        let mirror = spec.mirror.as_ref().and_then(|(name, settings)| {
            Some(Mirroring { cluster: cluster(name)?, settings: settings.clone(), under_way: Rc::default() })
        });
        Route {
            name: spec.name.clone(),
            chain: Chain::new(uses),
            upstream: spec.upstream.as_ref().and_then(cluster),
            branches: spec.branches.iter().filter_map(cluster).collect(),
            fallback: spec.fallback.as_ref().and_then(cluster),
            mirror,
            numbers: self.snapshot.metrics.route(&spec.name, self.worker),
        }
    }
}

/// A view that is being made, and the one before it.
struct Making<'a> {
    view: &'a mut View,
    before: Option<&'a View>,
}

impl Stock for Making<'_> {
    fn worker(&self) -> usize {
        self.view.worker
    }

    fn services(&self) -> Services {
        Services { upstreams: self.view.reach.clone(), tasks: self.view.tasks.clone() }
    }

    fn numbers(&self, plugin: &Arc<str>) -> Arc<PluginNumbers> {
        self.view.snapshot.metrics.plugin(plugin, self.view.worker)
    }

    /// Uses with the same plugin and config share one filter, and so one pool.
    fn filter(&mut self, factory: &dyn Factory) -> Rc<dyn Filter> {
        let identity = factory.identity();
        if let Some(filter) = self.view.filters.get(&identity) {
            return filter.clone();
        }
        // Also where it is kept: a filter of filters brings its own into the view.
        let new = factory.filter(self);
        let kept = self.before.and_then(|view| view.filters.get(&identity)).cloned();
        let filter = kept.unwrap_or(new);
        self.view.filters.insert(identity, filter.clone());
        filter
    }
}
