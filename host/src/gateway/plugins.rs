//! Plugins on their way from a file to a factory. Each is compiled and started once, and goes on from
//! one snapshot to the next as long as its bytes, settings and config are the same.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
};

use serde_json::Value;

use super::{
    code::{Code, Seen},
    smoke,
};
use crate::{
    capability::{Capabilities, store::Store},
    config::{self, Config, Isolation, Plugin, Problem, RolloutTo},
    plugin::{Factory, Failure, Phases, rollout::Rollout, split::SplitFactory},
    telemetry::metrics::Rollouts,
    wasm::{
        Engine, Grants, PluginContext,
        compile::{Cache, Sha256Digest, hex},
        program::{Program, Settings},
    },
};

/// The plugins of a snapshot, by name.
#[derive(Default)]
pub struct Plugins(HashMap<String, Ready>);

/// What plugins are made with. Outlives all of them.
pub struct Workshop {
    pub engine: Engine,
    pub cache: Cache,
    pub capabilities: Arc<Capabilities>,
    pub rollouts: Rollouts,
}

/// A plugin that is ready to be configured, with the version that it is rolled out to.
pub struct Ready {
    pub name: String,
    build: Build,
    next: Option<Next>,
    /// The same config twice is one factory.
    factories: HashMap<String, Arc<dyn Factory>>,
}

/// The version that a plugin is rolled out to.
pub struct Next {
    pub file: PathBuf,
    /// What it is rolled out in place of.
    old: Sha256Digest,
    build: Build,
    pub rollout: Arc<Rollout>,
}

/// One version of a plugin: its file, compiled and linked.
struct Build {
    program: Program,
    seen: Seen,
    identity: Identity,
    context: Arc<PluginContext>,
    schema: Arc<Value>,
    factories: HashMap<String, Arc<dyn Factory>>,
    /// Those of the last snapshot, to be used again.
    before: HashMap<String, Arc<dyn Factory>>,
}

/// What makes a plugin another one, its configs apart.
#[derive(Clone, PartialEq, Hash)]
struct Identity {
    name: String,
    digest: Sha256Digest,
    /// Limits, breaker, isolation, smoke request, the upstreams it may choose, whether it may ask for consumers, and whose
    /// values it sees.
    settings: String,
}

/// What is known of a loaded plugin.
pub struct Facts<'a> {
    pub digest: Sha256Digest,
    pub phases: Phases,
    /// Configs that it runs with.
    pub configs: usize,
    pub next: Option<(&'a Next, Sha256Digest)>,
}

impl Plugins {
    pub fn new(ready: impl IntoIterator<Item = Ready>) -> Self {
        Plugins(ready.into_iter().map(|ready| (ready.name.clone(), ready)).collect())
    }

    pub fn facts(&self, name: &str) -> Option<Facts<'_>> {
        let Ready { build, next, factories, .. } = self.0.get(name)?;
        Some(Facts {
            digest: build.identity.digest,
            phases: build.program.phases(),
            configs: factories.len(),
            next: next.as_ref().map(|next| (next, next.build.identity.digest)),
        })
    }

    /// All plugins that are rolled out.
    pub fn rollouts(&self) -> impl Iterator<Item = (&str, &Rollout)> {
        self.0.values().filter_map(|ready| Some((ready.name.as_str(), &*ready.next.as_ref()?.rollout)))
    }
}

impl Ready {
    /// Reads the plugin's file, compiles and links it and asks it for its schema, unless the last snapshot
    /// has the same plugin.
    pub async fn load(
        workshop: &Workshop,
        config: &Config,
        plugin: &Plugin,
        before: &Plugins,
    ) -> Result<Ready, String> {
        let before = before.0.get(&plugin.name);
        let known = before.map(|ready| &ready.build);
        let code = Code::of(&plugin.file, known.map(|build| &build.seen))?;
        if let Some(pinned) = &plugin.sha256
            && *pinned != hex(&code.seen.digest)
        {
            let (file, found) = (plugin.file.display(), hex(&code.seen.digest));
            return Err(format!("{file} has the SHA-256 {found}, not the pinned one"));
        }
        let names = Names { name: &plugin.name, scope: &plugin.name };
        let build = Build::load(workshop, config, plugin, names, code, known).await?;
        let known = before.and_then(|ready| ready.next.as_ref());
        let next = match &plugin.rollout {
            Some(_) => Some(Next::load(workshop, config, plugin, &build, known).await?),
            None => None,
        };
        Ok(Ready { name: plugin.name.clone(), build, next, factories: HashMap::new() })
    }

    /// JSON Schema of its config.
    pub fn schema(&self) -> &Value {
        &self.build.schema
    }

    /// A started plugin under this config: the one that another use or the last snapshot has, or a
    /// new one whose first instance has run its `init` and that has stood its smoke request.
    pub async fn factory(
        &mut self,
        workshop: &Workshop,
        config: &Config,
        plugin: &Plugin,
        (given, at): (Option<&Value>, &config::KeyPath),
    ) -> Result<Arc<dyn Factory>, Vec<Problem>> {
        let text = self.build.program.payload(given);
        let text = text.map_err(|fault| vec![Problem::at_value(&config.source, at, fault)])?;
        if let Some(factory) = self.factories.get(&text) {
            return Ok(factory.clone());
        }
        let old = self.build.factory(config, plugin, at, &text, "").await?;
        let factory: Arc<dyn Factory> = match &mut self.next {
            None => old,
            Some(next) => {
                let new = next.build.factory(config, plugin, at, &text, " (the new version)").await?;
                let mut hasher = DefaultHasher::new();
                (old.identity(), new.identity(), next.rollout.id).hash(&mut hasher);
                Arc::new(SplitFactory {
                    old,
                    new,
                    rollout: next.rollout.clone(),
                    events: workshop.rollouts.clone(),
                    identity: hasher.finish(),
                })
            }
        };
        self.factories.insert(text, factory.clone());
        Ok(factory)
    }
}

impl Next {
    async fn load(
        workshop: &Workshop,
        config: &Config,
        plugin: &Plugin,
        old: &Build,
        known: Option<&Next>,
    ) -> Result<Next, String> {
        let plan = plugin.rollout.as_ref().ok_or("is not rolled out")?;
        let known_build = known.map(|next| &next.build);
        let seen = known_build.map(|build| &build.seen);
        let code = match &plan.to {
            RolloutTo::File(file) => Code::of(file, seen)?,
            RolloutTo::Digest(wanted, directory) => Code::find(wanted, directory, seen)?,
        };
        let file = code.file().to_owned();
        let name = format!("{}@next", plugin.name);
        // A shadow must not use up what real requests count on.
        let scope = if plan.shadow { &name } else { &plugin.name };
        let names = Names { name: &name, scope };
        let build = Build::load(workshop, config, plugin, names, code, known_build).await?;
        let same = |next: &&Next| next.build.identity == build.identity && next.rollout.plan == *plan;
        // The same roll-out goes on, or stays given up.
        let rollout = match known.filter(same).filter(|next| next.old == old.identity.digest) {
            Some(next) => next.rollout.clone(),
            None => {
                let mut salt = DefaultHasher::new();
                build.identity.hash(&mut salt);
                Arc::new(Rollout::new(plan.clone(), salt.finish()))
            }
        };
        Ok(Next { file, old: old.identity.digest, build, rollout })
    }
}

impl Workshop {
    /// What the config grants a plugin. Of a config with faults, something may be missing.
    fn grants(&self, config: &Config, plugin: &Plugin) -> Grants {
        let upstreams = plugin.upstreams.iter().filter_map(|&place| config.upstreams.get(place));
        let upstreams: Vec<Arc<str>> = upstreams.map(|upstream| upstream.name.clone()).collect();
        let networks = config.networks.iter().filter(|networks| plugin.networks.contains(&networks.name));
        let secrets = plugin.secrets.iter().filter_map(|name| Some((name.to_string(), config.secret(name)?)));
        let store = plugin.store.as_ref().and_then(|store| {
            let redis = self.capabilities.stores.get(config.redis.get(store.redis)?);
            Some(Store { redis, on_error: store.on_error })
        });
        Grants {
            // Those that it may choose are all unless some are named; to call any, they have to be.
            callable: if plugin.names_upstreams { upstreams.clone() } else { Vec::new() },
            upstreams,
            store,
            secrets: secrets.collect(),
            networks: networks
                .map(|known| self.capabilities.networks.place(&known.name, &known.set))
                .collect(),
            consumers: plugin.consumers.clone(),
        }
    }
}

/// What a version of a plugin is called, and whose counters and stored values it sees.
#[derive(Clone, Copy)]
struct Names<'a> {
    name: &'a str,
    scope: &'a str,
}

impl Build {
    async fn load(
        workshop: &Workshop,
        config: &Config,
        plugin: &Plugin,
        names: Names<'_>,
        code: Code,
        known: Option<&Build>,
    ) -> Result<Build, String> {
        let grants = workshop.grants(config, plugin);
        let Plugin { limits, breaker, isolation, smoke, proxy_wasm, node, .. } = plugin;
        // Said in full: what is not shown elsewhere makes another plugin of it too.
        let vm_config =
            proxy_wasm.as_ref().and_then(|settings| Some(settings.vm_config.as_ref()?.0.to_string()));
        let (scope, granted) = (names.scope, grants.identity());
        let identity = Identity {
            name: names.name.to_owned(),
            digest: code.seen.digest,
            settings: format!(
                "{limits:?} {breaker:?} {isolation:?} {smoke:?} {scope} {proxy_wasm:?} {vm_config:?} {node:?} {granted}"
            ),
        };
        if let Some(known) = known.filter(|known| known.identity == identity) {
            return Ok(known.again(code.seen));
        }
        let file = code.file().display().to_string();
        let (seen, bytes) = (code.seen.clone(), code.bytes()?);
        let Workshop { engine, cache, capabilities, .. } = workshop;
        let compiled = cache.compile(engine, &bytes, &identity.digest);
        let compiled = compiled.map_err(|error| format!("{file} {error}"))?;
        let program = Program::link(engine, &compiled.code).map_err(|error| format!("{file} {error}"))?;
        let is_native = matches!(program, Program::Native(_));
        if is_native && plugin.proxy_wasm.is_some() {
            return Err(format!(
                "{file} is a native plugin: `root_id`, `vm_id`, `vm_config`, `env`, `clusters`, `reroute` and `vms_per_worker` are for proxy-wasm filters"
            ));
        }
        let for_native = [
            ("consumers", grants.consumers.is_some()),
            ("isolation", *isolation == Isolation::Request),
            ("networks", !grants.networks.is_empty()),
            ("secrets", !grants.secrets.is_empty()),
            ("store", grants.store.is_some()),
        ];
        if let Some((key, _)) = for_native.iter().find(|(_, given)| !is_native && *given) {
            return Err(format!("{file} is a proxy-wasm filter: `{key}` is for native plugins"));
        }
        let (name, scope) = (names.name.into(), names.scope.into());
        let context = PluginContext::new(name, scope, limits.clone(), grants, capabilities.clone());
        let schema =
            program.schema(context.clone()).await.map_err(|failure| format!("config-schema {failure}"))?;
        let schema = match schema.as_str() {
            "" => Value::Bool(true),
            text => serde_json::from_str(text)
                .map_err(|error| format!("its config schema is not JSON: {error}"))?,
        };
        tracing::debug!(
            plugin = names.name,
            digest = hex(&identity.digest),
            ms = compiled.time.as_millis() as u64,
            from_cache = compiled.from_cache,
            "compiled"
        );
        let (factories, before) = (HashMap::new(), HashMap::new());
        Ok(Build { program, seen, identity, context, schema: Arc::new(schema), factories, before })
    }

    /// The same plugin for the next snapshot.
    fn again(&self, seen: Seen) -> Build {
        Build {
            program: self.program.clone(),
            seen,
            identity: self.identity.clone(),
            context: self.context.clone(),
            schema: self.schema.clone(),
            factories: HashMap::new(),
            before: self.factories.clone(),
        }
    }

    /// `which` goes with the plugin's name in faults.
    async fn factory(
        &mut self,
        config: &Config,
        plugin: &Plugin,
        at: &config::KeyPath,
        text: &str,
        which: &str,
    ) -> Result<Arc<dyn Factory>, Vec<Problem>> {
        let factory = match self.before.remove(text) {
            Some(factory) => factory,
            None => {
                let faults = config::check_value(&config.source, at, &self.schema);
                if !faults.is_empty() {
                    return Err(faults);
                }
                self.start(plugin, text.to_owned()).await.map_err(|fault| {
                    let fault = format!("plugin `{}`{which} {fault}", plugin.name);
                    vec![Problem::at_value(&config.source, at, fault)]
                })?
            }
        };
        self.factories.insert(text.to_owned(), factory.clone());
        Ok(factory)
    }

    async fn start(&self, plugin: &Plugin, config: String) -> Result<Arc<dyn Factory>, String> {
        let mut hasher = DefaultHasher::new();
        (&self.identity, &config).hash(&mut hasher);
        let settings = Settings {
            breaker: plugin.breaker.clone(),
            fresh: plugin.isolation == Isolation::Request,
            proxy_wasm: plugin.proxy_wasm.clone().unwrap_or_default(),
            node: plugin.node.clone(),
            digest: self.identity.digest,
        };
        let factory = self.program.start(self.context.clone(), settings, config, hasher.finish()).await;
        let factory = factory.map_err(|failure| match failure {
            Failure::Error(text) => format!("refuses its config: {text}"),
            failure => format!("does not start: init {failure}"),
        })?;
        if let Some(request) = &plugin.smoke {
            smoke::stand(&*factory, request).await.map_err(|text| format!("{text} (its smoke request)"))?;
        }
        Ok(factory)
    }
}
