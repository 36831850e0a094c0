//! From the checked config to a snapshot: plugins compiled, their configs held against their own
//! schemas, each started once. All faults are reported, not the first.

use std::{
    collections::HashMap,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use wasm::compile::{Cache, Sha256Digest};

use super::Error;
use crate::{
    capability::Capabilities,
    config::{self, Config, Isolation, Plugin, Problem, Problems, Rewrite},
    plugin::Factory,
    snapshot::{Forwarding, PathRule, PluginUse, RouteSpec, Snapshot},
    telemetry::{access_log::AccessLog, metrics::Metrics},
    upstream,
    wasm::{
        self, PluginContext,
        native::{self, Linked, NativeFactory, Settings, Template},
    },
};

/// What outlives a snapshot: the engine, the compile cache, the capabilities.
pub struct Loader {
    engine: wasm::Engine,
    cache: Cache,
    capabilities: Arc<Capabilities>,
    metrics: Arc<Metrics>,
}

/// A plugin file that is ready to be configured.
struct Ready {
    linked: Linked,
    digest: Sha256Digest,
    context: Arc<PluginContext>,
    schema: Value,
    /// The same config twice is one factory.
    factories: HashMap<u64, Arc<NativeFactory>>,
}

impl Loader {
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Loader, Error> {
        let engine = wasm::engine::build().map_err(|error| Error::Engine(format!("{error:#}")))?;
        let cache = open_cache(config.cache.as_deref())?;
        let capabilities = Arc::new(Capabilities::new(metrics.clone()));
        Ok(Loader { engine, cache, capabilities, metrics })
    }

    pub fn capabilities(&self) -> Arc<Capabilities> {
        self.capabilities.clone()
    }

    /// Everything but sockets. Compiles on the calling thread.
    pub async fn snapshot(
        &mut self,
        config: &Config,
        access_log: Option<AccessLog>,
    ) -> Result<Snapshot, Problems> {
        let mut problems = Vec::new();
        let mut plugins = Vec::new();
        for plugin in &config.plugins {
            match self.ready(config, plugin).await {
                Ok(ready) => plugins.push(Some(ready)),
                Err(text) => {
                    let text = format!("plugin `{}`: {text}", plugin.name);
                    problems.push(Problem::at_value(&config.source, &plugin.path, text));
                    plugins.push(None);
                }
            }
        }
        let mut routes = Vec::new();
        for route in &config.routes {
            let uses = self.chain(config, route, &mut plugins, &mut problems).await;
            routes.push(self.route(config, route, uses));
        }
        if !problems.is_empty() {
            return Err(Problems::new(&config.source, problems));
        }
        Ok(Snapshot {
            table: config.table.clone(),
            routes,
            upstreams: config.upstreams.iter().map(|upstream| Arc::new(spec(upstream))).collect(),
            limits: config.limits.clone(),
            forwarding: Forwarding::new(config.forwarded.clone()),
            access_log,
            plugin_failures: self.metrics.plugin_failures.clone(),
            unmatched: self.metrics.route("-"),
        })
    }

    /// Reads, compiles and links a plugin's file and asks for its schema.
    async fn ready(&self, config: &Config, plugin: &Plugin) -> Result<Ready, String> {
        let file = plugin.file.display();
        let bytes = fs::read(&plugin.file).map_err(|error| format!("{file} cannot be read: {error}"))?;
        let compiled = self.cache.compile(&self.engine, &bytes).map_err(|error| format!("{file} {error}"))?;
        let linked = native::link(&self.engine, &compiled.component).map_err(|error| {
            let exports = wasm::inspect::exports(&self.engine, &compiled.component).join(", ");
            format!("{file} is not a plugin for this gateway: {error:#}; it exports: {exports}")
        })?;
        let upstreams = plugin.upstreams.iter().map(|&place| config.upstreams[place].name.as_str().into());
        let name = plugin.name.as_str().into();
        let context =
            PluginContext::new(name, plugin.limits.clone(), upstreams.collect(), self.capabilities.clone());
        let schema =
            linked.schema(context.clone()).await.map_err(|failure| format!("config-schema {failure}"))?;
        let schema = match schema.as_str() {
            "" => Value::Bool(true),
            text => serde_json::from_str(text)
                .map_err(|error| format!("its config schema is not JSON: {error}"))?,
        };
        tracing::debug!(
            plugin = plugin.name,
            digest = wasm::compile::hex(&compiled.digest),
            ms = compiled.time.as_millis() as u64,
            from_cache = compiled.from_cache,
            "compiled"
        );
        Ok(Ready { linked, digest: compiled.digest, context, schema, factories: HashMap::new() })
    }

    /// The route's plugins; faults in their configs are added to the problems.
    async fn chain(
        &self,
        config: &Config,
        route: &config::Route,
        plugins: &mut [Option<Ready>],
        problems: &mut Vec<Problem>,
    ) -> Vec<PluginUse> {
        let mut uses = Vec::new();
        for used in &route.plugins {
            let Some(ready) = &mut plugins[used.plugin] else { continue };
            let at = used.path.key("config");
            let faults = config::check_value(&config.source, &at, &ready.schema);
            if !faults.is_empty() {
                problems.extend(faults);
                continue;
            }
            let plugin = &config.plugins[used.plugin];
            match ready.factory(plugin, Value::Object(used.config.clone()).to_string()).await {
                Ok(factory) => uses.push(PluginUse { factory, policy: used.failure_policy }),
                Err(failure) => {
                    let text = match failure {
                        crate::plugin::Failure::Error(text) => {
                            format!("plugin `{}` refuses its config: {text}", plugin.name)
                        }
                        failure => format!("plugin `{}` does not start: init {failure}", plugin.name),
                    };
                    problems.push(Problem::at_value(&config.source, &at, text));
                }
            }
        }
        uses
    }

    fn route(&self, config: &Config, route: &config::Route, plugins: Vec<PluginUse>) -> RouteSpec {
        RouteSpec {
            name: route.name.as_str().into(),
            upstream: route.upstream.map(|place| config.upstreams[place].name.as_str().into()),
            path: match &route.rewrite {
                Rewrite::Keep => PathRule::Keep,
                Rewrite::StripPrefix(prefix) => PathRule::Strip(prefix.trim_end_matches('/').len()),
                Rewrite::Template(template) => PathRule::Rewrite(template.clone()),
            },
            plugins,
            body_limit: route.body,
            counters: self.metrics.route(&route.name),
        }
    }
}

impl Ready {
    /// A started plugin under this config: the one that another use made, or a new one whose
    /// first instance has run its `init`.
    async fn factory(
        &mut self,
        plugin: &Plugin,
        config: String,
    ) -> Result<Arc<dyn Factory>, crate::plugin::Failure> {
        let identity = self.identity(plugin, &config);
        if let Some(factory) = self.factories.get(&identity) {
            return Ok(factory.clone());
        }
        let settings =
            Settings { breaker: plugin.breaker.clone(), fresh: plugin.isolation == Isolation::Request };
        let template = Template::start(self.linked.clone(), self.context.clone(), settings, config).await?;
        let factory = Arc::new(NativeFactory { template, identity });
        self.factories.insert(identity, factory.clone());
        Ok(factory)
    }

    fn identity(&self, plugin: &Plugin, config: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        let settings =
            format!("{:?} {:?} {:?} {:?}", plugin.limits, plugin.breaker, plugin.isolation, plugin.upstreams);
        (&*plugin.name, self.digest, settings, config).hash(&mut hasher);
        hasher.finish()
    }
}

fn spec(upstream: &config::Upstream) -> upstream::Spec {
    upstream::Spec {
        name: upstream.name.as_str().into(),
        endpoints: upstream.endpoints.iter().map(endpoint).collect(),
        host: upstream.host.clone(),
        timeouts: upstream.timeouts.clone(),
        keep_alive: upstream.keep_alive.clone(),
    }
}

fn endpoint(endpoint: &config::Endpoint) -> upstream::EndpointSpec {
    let (host, port) = (&endpoint.host, endpoint.port);
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    upstream::EndpointSpec { address: address.into(), weight: endpoint.weight }
}

/// The directory of the config, or the user's cache. Only the first must work.
fn open_cache(chosen: Option<&Path>) -> Result<Cache, Error> {
    if let Some(directory) = chosen {
        let failed = |error| Error::Io(format!("plugins.cache: {}", directory.display()), error);
        return Cache::open(directory).map_err(failed);
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
