//! From the checked config to a snapshot: plugins compiled, their configs held against their own
//! schemas, each started once. All faults are reported, not the first.

use std::{env, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    Error, left_open,
    plugins::{Plugins, Ready, Workshop},
};
use crate::{
    capability::Capabilities,
    config::{self, Config, KeyPath, OnLoadError, Plugin, Problem, Problems},
    snapshot::{Forwarding, PluginUse, RouteSpec, Service, Snapshot, Traffic},
    telemetry::metrics::Metrics,
    upstream::{Upstream, keeper, resolve::Resolver},
    wasm::{self, compile::Cache},
};

/// How long a config waits for the addresses of names that are new. Requests that come before there are any have no
/// endpoint.
const LOOK_UP: Duration = Duration::from_secs(2);

/// What outlives a snapshot: the engine, the compile cache, the capabilities.
pub struct Loader {
    workshop: Workshop,
    metrics: Arc<Metrics>,
}

pub struct Loaded {
    pub snapshot: Snapshot,
    pub plugins: Plugins,
    /// Faults that disable routes, a line each.
    pub disabling: Vec<String>,
}

impl Loader {
    pub fn new(cache: Cache, metrics: Arc<Metrics>) -> Result<Loader, Error> {
        let engine = wasm::engine::build().map_err(|error| Error::Engine(format!("{error:#}")))?;
        let capabilities = Arc::new(Capabilities::new(metrics.clone()));
        let workshop = Workshop { engine, cache, capabilities, rollouts: metrics.rollouts.clone() };
        Ok(Loader { workshop, metrics })
    }

    pub fn capabilities(&self) -> Arc<Capabilities> {
        self.workshop.capabilities.clone()
    }

    /// Everything but sockets and logs. Waits for the compiler; the thread is busy meanwhile.
    pub async fn load(
        &self,
        config: &Config,
        before: &Plugins,
        upstreams: &[Arc<Upstream>],
    ) -> Result<Loaded, Problems> {
        let mut faults = Faults::default();
        let (plugins, services, chains) = self.parts(config, before, &[], &mut faults).await;
        if !faults.refusing.is_empty() {
            return Err(Problems::new(&config.source, faults.refusing));
        }
        let disabling = faults.disabling(config);
        let plugins = Plugins::new(plugins.into_iter().flatten());
        let routes = config.routes.iter().zip(chains).map(|(route, chain)| self.route(config, route, chain));
        let settings = config.upstreams.iter();
        let upstreams: Vec<_> =
            settings.map(|settings| upstream(settings, &self.metrics, upstreams)).collect();
        if upstreams.iter().any(|upstream| !upstream.unknown().is_empty()) {
            match Resolver::new(&config.dns) {
                Ok(resolver) => keeper::look_up(&upstreams, &Rc::new(resolver), LOOK_UP).await,
                Err(error) => tracing::error!("names cannot be looked up: {error}"),
            }
        }
        let snapshot = Snapshot {
            services,
            entrances: Vec::new(),
            table: config.table.clone(),
            routes: routes.collect(),
            upstreams,
            limits: config.limits.clone(),
            drain_timeout: config.server.drain_timeout,
            forwarding: Forwarding::new(config.forwarded.clone()),
            access_log: None,
            audit: None,
            tracer: None,
            metrics: self.metrics.clone(),
        };
        tracing::debug!(routes = snapshot.routes.len(), "loaded");
        Ok(Loaded { snapshot, plugins, disabling })
    }

    /// Adds the faults of plugins to those that the config has. Returns those that disable routes, a line each.
    pub async fn check(&self, config: &Config, known: &mut Vec<Problem>) -> Vec<String> {
        let mut faults = Faults::default();
        self.parts(config, &Plugins::default(), known, &mut faults).await;
        let disabling = faults.disabling(config);
        known.extend(faults.refusing);
        disabling
    }

    /// Plugins, services and the chains of routes, so far as the config has no `known` faults where it tells of them.
    async fn parts(
        &self,
        config: &Config,
        before: &Plugins,
        known: &[Problem],
        faults: &mut Faults,
    ) -> (Vec<Option<Ready>>, Vec<Service>, Vec<Option<Vec<PluginUse>>>) {
        let mut plugins = Vec::new();
        for plugin in &config.plugins {
            if is_faulty(known, &plugin.path) || is_faulty(known, &KeyPath::root().key("plugins")) {
                plugins.push(None);
                continue;
            }
            match Ready::load(&self.workshop, config, plugin, before).await {
                Ok(ready) => plugins.push(Some(ready)),
                Err(text) => {
                    let text = format!("plugin `{}`: {text}", plugin.name);
                    faults.add(plugin, Problem::at_value(&config.source, &plugin.path, text));
                    plugins.push(None);
                }
            }
        }
        let mut services = Vec::new();
        for (plugin, ready) in config.plugins.iter().zip(&mut plugins) {
            let (Some(service), Some(ready)) = (plugin.service, ready) else { continue };
            let (config_of, at) = (plugin.config.as_ref().map(|config| &config.0), plugin.path.key("config"));
            match ready.factory(&self.workshop, config, plugin, (config_of, &at)).await {
                Ok(factory) => {
                    services.push(Service { factory, once: service == config::Service::Singleton })
                }
                Err(wrong) => wrong.into_iter().for_each(|problem| faults.add(plugin, problem)),
            }
        }
        let mut chains = Vec::new();
        for route in &config.routes {
            chains.push(self.chain(config, route, &mut plugins, known, faults).await);
            warn_of_open(config, route, &plugins);
        }
        (plugins, services, chains)
    }

    /// The route's plugins; none where one of them is at fault.
    async fn chain(
        &self,
        config: &Config,
        route: &config::Route,
        plugins: &mut [Option<Ready>],
        known: &[Problem],
        faults: &mut Faults,
    ) -> Option<Vec<PluginUse>> {
        let mut uses = Vec::new();
        for used in &route.plugins {
            let plugin = &config.plugins[used.plugin];
            let Some(ready) = &mut plugins[used.plugin] else { continue };
            if is_faulty(known, &used.path) {
                continue;
            }
            let given = (used.config.as_ref().map(|config| &config.0), &used.path);
            match ready.factory(&self.workshop, config, plugin, given).await {
                Ok(factory) => uses.push(PluginUse { factory, policy: used.failure_policy }),
                Err(wrong) => wrong.into_iter().for_each(|problem| faults.add(plugin, problem)),
            }
        }
        (uses.len() == route.plugins.len()).then_some(uses)
    }

    fn route(&self, config: &Config, route: &config::Route, plugins: Option<Vec<PluginUse>>) -> RouteSpec {
        let name = |upstream: usize| config.upstreams[upstream].name.clone();
        RouteSpec {
            disabled: plugins.is_none(),
            name: route.name.as_str().into(),
            upstream: route.upstream.map(name),
            split: route.split.as_ref().map(|split| Traffic::new(split, &route.name)),
            branches: route
                .split
                .iter()
                .flat_map(|split| &split.branches)
                .map(|b| name(b.upstream))
                .collect(),
            fallback: route.fallback.map(name),
            mirror: route.mirror.as_ref().map(|mirror| (name(mirror.upstream), mirror.clone())),
            path: (&route.rewrite).into(),
            plugins: plugins.unwrap_or_default(),
            upgrades: route.upgrades.clone(),
            early_hints: route.early_hints,
            body_limit: route.body,
        }
    }
}

/// What is wrong with plugins, by what it leads to.
#[derive(Default)]
struct Faults {
    refusing: Vec<Problem>,
    disabling: Vec<Problem>,
}

impl Faults {
    fn add(&mut self, plugin: &Plugin, problem: Problem) {
        match plugin.on_load_error {
            OnLoadError::Refuse => self.refusing.push(problem),
            OnLoadError::DisableRoute => self.disabling.push(problem),
        }
    }

    fn disabling(&mut self, config: &Config) -> Vec<String> {
        Problems::new(&config.source, std::mem::take(&mut self.disabling)).lines().collect()
    }
}

/// Tells of plugins that nobody stands behind who decides.
fn warn_of_open(config: &Config, route: &config::Route, plugins: &[Option<Ready>]) {
    let schema = |used: &config::PluginUse| plugins[used.plugin].as_ref().map_or(&Value::Null, Ready::schema);
    let chain = route.plugins.iter().map(|used| (schema(used), used.config.as_ref().map(|config| &config.0)));
    for (place, key) in left_open::find(chain) {
        let plugin = &config.plugins[route.plugins[place].plugin].name;
        tracing::warn!(
            route = route.name,
            plugin,
            key,
            "requests that this plugin refuses go on, and no plugin behind it decides about them"
        );
    }
}

/// Whether something is wrong there, and so with what was made of it.
fn is_faulty(known: &[Problem], place: &KeyPath) -> bool {
    known.iter().any(|problem| problem.path.is_within(place))
}

/// The one before where nothing of it has changed.
fn upstream(settings: &config::Upstream, metrics: &Arc<Metrics>, before: &[Arc<Upstream>]) -> Arc<Upstream> {
    let known = before.iter().find(|upstream| upstream.settings.name == settings.name);
    match known {
        Some(upstream) if upstream.settings == *settings => upstream.clone(),
        _ => Arc::new(Upstream::new(settings.clone(), metrics.clone(), known.map(|known| &**known))),
    }
}

/// The directory of the config, or the user's cache. Only the first must work.
pub fn open_cache(config: &Config) -> Result<Cache, Box<Problem>> {
    if let Some(directory) = &config.cache {
        let place = KeyPath::root().key("plugins").key("cache");
        let failed = |error| format!("{} cannot be used: {error}", directory.display());
        return Cache::open(directory)
            .map_err(|error| Problem::at_value(&config.source, &place, failed(error)).into());
    }
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = variable("CACHE_DIRECTORY")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("wasmgate")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/wasmgate")));
    let cache = directory.map(|directory| Cache::open(&directory));
    Ok(match cache {
        Some(Ok(cache)) => cache,
        Some(Err(error)) => {
            tracing::warn!("no compile cache: {error}");
            Cache::default()
        }
        None => Cache::default(),
    })
}
