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

use super::{Error, smoke};
use crate::{
    capability::Capabilities,
    config::{self, Config, Isolation, OnLoadError, Plugin, Problem, Problems, Rewrite},
    plugin::{Factory, Failure, Phases},
    snapshot::{Forwarding, PathRule, PluginUse, RouteSpec, Snapshot},
    telemetry::metrics::Metrics,
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

/// The plugins of a snapshot, by name. The next one takes over those that are the same.
#[derive(Default)]
pub struct Plugins(HashMap<String, Ready>);

/// What is known of a loaded plugin.
pub struct Facts {
    pub digest: Sha256Digest,
    pub phases: Phases,
    /// Configs that it runs with.
    pub configs: usize,
}

impl Plugins {
    pub fn facts(&self, name: &str) -> Option<Facts> {
        let ready = self.0.get(name)?;
        let (digest, phases) = (ready.identity.digest, ready.linked.phases());
        Some(Facts { digest, phases, configs: ready.factories.len() })
    }
}

pub struct Loaded {
    pub snapshot: Snapshot,
    pub plugins: Plugins,
    /// Faults that disable routes, a line each.
    pub disabling: Vec<String>,
}

/// A plugin file that is ready to be configured.
struct Ready {
    linked: Linked,
    identity: Identity,
    context: Arc<PluginContext>,
    schema: Arc<Value>,
    /// The same config twice is one factory.
    factories: HashMap<String, Arc<NativeFactory>>,
    /// Those of the last snapshot, to be used again.
    before: HashMap<String, Arc<NativeFactory>>,
}

/// What makes a plugin another one, its configs apart.
#[derive(Clone, PartialEq, Hash)]
struct Identity {
    name: String,
    digest: Sha256Digest,
    /// Limits, breaker, isolation, smoke request and the upstreams it may choose.
    settings: String,
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

    /// Everything but sockets and logs. Waits for the compiler; the thread is busy meanwhile.
    pub async fn load(&self, config: &Config, before: &Plugins) -> Result<Loaded, Problems> {
        let mut faults = Faults::default();
        let mut plugins = Vec::new();
        for plugin in &config.plugins {
            match self.ready(config, plugin, before).await {
                Ok(ready) => plugins.push(Some(ready)),
                Err(text) => {
                    let text = format!("plugin `{}`: {text}", plugin.name);
                    faults.add(plugin, Problem::at_value(&config.source, &plugin.path, text));
                    plugins.push(None);
                }
            }
        }
        let mut routes = Vec::new();
        for route in &config.routes {
            let uses = self.chain(config, route, &mut plugins, &mut faults).await;
            routes.push(self.route(config, route, uses));
        }
        if !faults.refusing.is_empty() {
            return Err(Problems::new(&config.source, faults.refusing));
        }
        let disabling = Problems::new(&config.source, faults.disabling).lines().collect();
        let plugins = plugins.into_iter().flatten();
        let plugins = plugins.map(|ready| (ready.identity.name.clone(), ready)).collect();
        let snapshot = Snapshot {
            doors: Vec::new(),
            table: config.table.clone(),
            routes,
            upstreams: config.upstreams.iter().map(|upstream| Arc::new(spec(upstream))).collect(),
            limits: config.limits.clone(),
            drain_timeout: config.server.drain_timeout,
            forwarding: Forwarding::new(config.forwarded.clone()),
            access_log: None,
            metrics: self.metrics.clone(),
        };
        Ok(Loaded { snapshot, plugins: Plugins(plugins), disabling })
    }

    /// Reads, compiles and links a plugin's file and asks for its schema, unless the last snapshot has
    /// the same plugin.
    async fn ready(&self, config: &Config, plugin: &Plugin, before: &Plugins) -> Result<Ready, String> {
        let file = plugin.file.display();
        let bytes = fs::read(&plugin.file).map_err(|error| format!("{file} cannot be read: {error}"))?;
        let digest = wasm::compile::digest(&bytes);
        if let Some(pinned) = &plugin.sha256
            && *pinned != wasm::compile::hex(&digest)
        {
            return Err(format!(
                "{file} has the SHA-256 {}, not the pinned one",
                wasm::compile::hex(&digest)
            ));
        }
        let upstreams = plugin.upstreams.iter().map(|&place| config.upstreams[place].name.as_str());
        let upstreams: Vec<Arc<str>> = upstreams.map(Arc::from).collect();
        let identity = Identity {
            name: plugin.name.clone(),
            digest,
            settings: format!(
                "{:?} {:?} {:?} {:?} {upstreams:?}",
                plugin.limits, plugin.breaker, plugin.isolation, plugin.smoke
            ),
        };
        if let Some(known) = before.0.get(&plugin.name).filter(|known| known.identity == identity) {
            return Ok(known.again());
        }
        let compiled = self.cache.compile(&self.engine, &bytes, &identity.digest);
        let compiled = compiled.map_err(|error| format!("{file} {error}"))?;
        let linked = native::link(&self.engine, &compiled.component).map_err(|error| {
            let exports = wasm::inspect::exports(&self.engine, &compiled.component).join(", ");
            format!("{file} is not a plugin for this gateway: {error:#}; it exports: {exports}")
        })?;
        let name = plugin.name.as_str().into();
        let context = PluginContext::new(name, plugin.limits.clone(), upstreams, self.capabilities.clone());
        let schema =
            linked.schema(context.clone()).await.map_err(|failure| format!("config-schema {failure}"))?;
        let schema = match schema.as_str() {
            "" => Value::Bool(true),
            text => serde_json::from_str(text)
                .map_err(|error| format!("its config schema is not JSON: {error}"))?,
        };
        tracing::debug!(
            plugin = plugin.name,
            digest = wasm::compile::hex(&identity.digest),
            ms = compiled.time.as_millis() as u64,
            from_cache = compiled.from_cache,
            "compiled"
        );
        let (factories, before) = (HashMap::new(), HashMap::new());
        Ok(Ready { linked, identity, context, schema: Arc::new(schema), factories, before })
    }

    /// The route's plugins; none where one of them is at fault.
    async fn chain(
        &self,
        config: &Config,
        route: &config::Route,
        plugins: &mut [Option<Ready>],
        faults: &mut Faults,
    ) -> Option<Vec<PluginUse>> {
        let mut uses = Vec::new();
        for used in &route.plugins {
            let plugin = &config.plugins[used.plugin];
            let Some(ready) = &mut plugins[used.plugin] else { continue };
            let at = used.path.key("config");
            let text = Value::Object(used.config.clone()).to_string();
            if !ready.knows(&text) {
                let wrong = config::check_value(&config.source, &at, &ready.schema);
                if !wrong.is_empty() {
                    wrong.into_iter().for_each(|problem| faults.add(plugin, problem));
                    continue;
                }
            }
            match ready.factory(plugin, text).await {
                Ok(factory) => uses.push(PluginUse { factory, policy: used.failure_policy }),
                Err(text) => {
                    let text = format!("plugin `{}` {text}", plugin.name);
                    faults.add(plugin, Problem::at_value(&config.source, &at, text));
                }
            }
        }
        (uses.len() == route.plugins.len()).then_some(uses)
    }

    fn route(&self, config: &Config, route: &config::Route, plugins: Option<Vec<PluginUse>>) -> RouteSpec {
        RouteSpec {
            disabled: plugins.is_none(),
            name: route.name.as_str().into(),
            upstream: route.upstream.map(|place| config.upstreams[place].name.as_str().into()),
            path: match &route.rewrite {
                Rewrite::Keep => PathRule::Keep,
                Rewrite::StripPrefix(prefix) => PathRule::Strip(prefix.trim_end_matches('/').len()),
                Rewrite::Template(template) => PathRule::Rewrite(template.clone()),
            },
            plugins: plugins.unwrap_or_default(),
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
}

impl Ready {
    /// The same plugin for the next snapshot.
    fn again(&self) -> Ready {
        Ready {
            linked: self.linked.clone(),
            identity: self.identity.clone(),
            context: self.context.clone(),
            schema: self.schema.clone(),
            factories: HashMap::new(),
            before: self.factories.clone(),
        }
    }

    /// Whether the plugin was started with this config already.
    fn knows(&self, config: &str) -> bool {
        self.factories.contains_key(config) || self.before.contains_key(config)
    }

    /// A started plugin under this config: the one that another use or the last snapshot has, or a
    /// new one whose first instance has run its `init` and that has stood its smoke request.
    async fn factory(&mut self, plugin: &Plugin, config: String) -> Result<Arc<dyn Factory>, String> {
        if let Some(factory) = self.factories.get(&config) {
            return Ok(factory.clone());
        }
        let factory = match self.before.remove(&config) {
            Some(factory) => factory,
            None => self.start(plugin, config.clone()).await?,
        };
        self.factories.insert(config, factory.clone());
        Ok(factory)
    }

    async fn start(&self, plugin: &Plugin, config: String) -> Result<Arc<NativeFactory>, String> {
        let mut hasher = DefaultHasher::new();
        (&self.identity, &config).hash(&mut hasher);
        let settings =
            Settings { breaker: plugin.breaker.clone(), fresh: plugin.isolation == Isolation::Request };
        let template = Template::start(self.linked.clone(), self.context.clone(), settings, config).await;
        let template = template.map_err(|failure| match failure {
            Failure::Error(text) => format!("refuses its config: {text}"),
            failure => format!("does not start: init {failure}"),
        })?;
        let factory = NativeFactory { template, identity: hasher.finish() };
        if let Some(request) = &plugin.smoke {
            smoke::stand(&factory, request).await.map_err(|text| format!("{text} (its smoke request)"))?;
        }
        Ok(Arc::new(factory))
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
    upstream::EndpointSpec { address: endpoint.to_string().into(), weight: endpoint.weight }
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
