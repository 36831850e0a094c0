//! Plugins: those with a table of their own and those that routes name.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use http::{Method, uri::PathAndQuery};

use super::{
    Check, KeyPath, Problem, Section, TARGET, credential, names, raw, target,
    upstream::{KEY, key},
};
use crate::config::{
    Breaker, FailurePolicy, Node, OnLoadError, Plugin, PluginLimits, PluginUse, ProxyWasm, Rollback, Rollout,
    RolloutTo, Secret, Smoke,
};

const METHOD: &str = "a method such as \"GET\"";

/// What holds for plugins that do not say otherwise.
pub(super) struct Defaults {
    /// As the file has it.
    directory: String,
    limits: PluginLimits,
    failure_policy: FailurePolicy,
    on_load_error: OnLoadError,
    node: Arc<Node>,
}

impl Check<'_> {
    pub(super) fn plugin_defaults(&mut self, raw: &raw::Plugins) -> Defaults {
        let path = KeyPath::root().key("plugins").key("limits");
        Defaults {
            directory: raw.directory.clone(),
            limits: self.plugin_limits(&path, &raw.limits, &PluginLimits::default()),
            failure_policy: raw.failure_policy,
            on_load_error: raw.on_load_error,
            node: Arc::new(raw.node.clone()),
        }
    }

    pub(super) fn declared_plugins(
        &mut self,
        section: Section<BTreeMap<String, Section<raw::Plugin>>>,
        defaults: &Defaults,
    ) {
        let path = KeyPath::root().key("plugin");
        for (name, section) in self.or_default(&path, section) {
            let path = path.key(&name);
            let Some(raw) = self.section(&path, section) else {
                continue;
            };
            let plugin = self.plugin(path, name, raw, defaults);
            self.plugins.push(plugin);
        }
    }

    /// `path` is what names it.
    fn plugin(&mut self, path: KeyPath, name: String, mut raw: raw::Plugin, defaults: &Defaults) -> Plugin {
        let on_load_error = raw.on_load_error.unwrap_or(defaults.on_load_error);
        let file = self.plugin_file(&path, &name, raw.file.take(), on_load_error, defaults);
        Plugin {
            file,
            sha256: raw.sha256.take(),
            on_load_error,
            smoke: raw.smoke.take().map(|smoke| self.smoke(&path.key("smoke"), smoke)),
            rollout: raw
                .rollout
                .take()
                .and_then(|rollout| self.rollout(&path.key("rollout"), rollout, defaults)),
            failure_policy: raw.failure_policy.unwrap_or(defaults.failure_policy),
            isolation: raw.isolation,
            limits: self.plugin_limits(&path.key("limits"), &raw.limits, &defaults.limits),
            breaker: self.breaker(&path.key("breaker"), &raw.breaker),
            names_upstreams: raw.upstreams.is_some(),
            consumers: credential::granted(&raw.consumers),
            upstreams: self.allowed_upstreams(&path.key("upstreams"), raw.upstreams.take()),
            store: self.store(&path, &raw),
            secrets: self.granted("secret", "secrets", &path, raw.secrets.as_deref().unwrap_or_default()),
            networks: self.granted("set of networks", "networks", &path, &raw.networks),
            config: raw.config.take().map(|payload| Secret(payload.0)),
            service: raw.service,
            proxy_wasm: self.proxy_wasm(&path, raw),
            node: defaults.node.clone(),
            name,
            path,
        }
    }

    fn plugin_file(
        &mut self,
        path: &KeyPath,
        name: &str,
        given: Option<String>,
        on_load_error: OnLoadError,
        defaults: &Defaults,
    ) -> PathBuf {
        let Some(given) = given else {
            self.require_plugin(path, name, on_load_error, defaults);
            return self.default_file(name, defaults);
        };
        let (path, file) = (path.key("file"), self.file_path(&given));
        if !file.is_file() && on_load_error == OnLoadError::Refuse {
            self.fault(&path, format!("there is no file {}", self.shown(&path, &given)));
        }
        file
    }

    fn rollout(&mut self, path: &KeyPath, raw: raw::Rollout, defaults: &Defaults) -> Option<Rollout> {
        let sticky = raw.sticky.map(|text| self.parsed(&path.key("sticky"), &text, KEY, key));
        let to = match raw.to.strip_prefix("sha256:") {
            Some(digest) if is_digest(digest) => {
                RolloutTo::Digest(digest.to_owned(), self.file_path(&defaults.directory))
            }
            Some(_) => {
                self.fault(&path.key("to"), "expected 64 hexadecimal digits after `sha256:`");
                return None;
            }
            None => {
                let file = self.file_path(&raw.to);
                if !file.is_file() {
                    let shown = self.shown(&path.key("to"), &raw.to);
                    self.fault(&path.key("to"), format!("there is no file {shown}"));
                }
                RolloutTo::File(file)
            }
        };
        let raw::Rollback { window, calls, failures, errors, p99 } = raw.rollback;
        let window = self.duration(&path.key("rollback"), "window", &window);
        let rollback = Rollback { window, calls, failures, errors, p99 };
        Some(Rollout { to, percent: raw.percent, sticky: sticky.flatten(), shadow: raw.shadow, rollback })
    }

    fn smoke(&mut self, path: &KeyPath, raw: raw::Smoke) -> Smoke {
        let method = |text: &str| {
            let known = Method::from_bytes(text.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
            known.ok_or_else(|| format!("expected {METHOD}, found {text:?}"))
        };
        Smoke {
            method: self.parsed(&path.key("method"), &raw.method, METHOD, method).unwrap_or_default(),
            target: self
                .parsed(&path.key("path"), &raw.path, TARGET, target)
                .unwrap_or(PathAndQuery::from_static("/")),
            headers: self.header_fields(&path.key("headers"), &raw.headers),
            status: raw.status,
        }
    }

    fn plugin_limits(&mut self, path: &KeyPath, raw: &raw::PluginLimits, or: &PluginLimits) -> PluginLimits {
        let mut bytes = |key, text: &Option<_>, least, or| match text {
            Some(text) => self.bytes(path, key, text, least..=4 << 30),
            None => or,
        };
        // A WebAssembly page is the least that a memory can have.
        let memory = bytes("memory", &raw.memory, 64 << 10, or.memory);
        let body = bytes("body", &raw.body, 0, or.body);
        let host_bytes = bytes("host_bytes", &raw.host_bytes, 0, or.host_bytes);
        let mut time = |key, text: &Option<_>, or| match text {
            Some(text) => self.duration(path, key, text),
            None => or,
        };
        PluginLimits {
            memory,
            time: time("time", &raw.time, or.time),
            instances: raw.instances.unwrap_or(or.instances),
            total_instances: raw.total_instances.or(or.total_instances),
            running: raw.running.unwrap_or(or.running),
            wait: time("wait", &raw.wait, or.wait),
            body,
            host_bytes,
            log_rate: raw.log_rate.unwrap_or(or.log_rate),
        }
    }

    /// None where nothing of it is said.
    fn proxy_wasm(&mut self, path: &KeyPath, raw: raw::Plugin) -> Option<ProxyWasm> {
        let raw::Plugin { root_id, vm_id, vm_config, env, clusters, reroute, vms_per_worker, .. } = raw;
        let said = root_id.is_some() || vm_id.is_some() || vm_config.is_some() || env.is_some();
        if !said && clusters.is_none() && reroute.is_none() && vms_per_worker.is_none() {
            return None;
        }
        let path = path.key("clusters");
        let known = self.upstreams.clone();
        let clusters = clusters.unwrap_or_default().into_iter();
        let clusters = clusters.map(|(cluster, upstream)| {
            self.reference("upstream", &known, &path.key(&cluster), &upstream);
            (cluster, upstream)
        });
        Some(ProxyWasm {
            clusters: clusters.collect(),
            root_id: root_id.unwrap_or_default(),
            vm_id: vm_id.unwrap_or_default(),
            vm_config: vm_config.map(|payload| Secret(payload.0)),
            env: env.unwrap_or_default(),
            reroute: reroute.unwrap_or_default(),
            vms_per_worker,
        })
    }

    fn breaker(&mut self, path: &KeyPath, raw: &raw::Breaker) -> Breaker {
        let breaker = Breaker {
            failures: raw.failures,
            backoff: self.duration(path, "backoff", &raw.backoff),
            max_backoff: self.duration(path, "max_backoff", &raw.max_backoff),
        };
        if breaker.backoff > breaker.max_backoff {
            self.fault(&path.key("backoff"), "`backoff` is longer than `max_backoff`");
        }
        breaker
    }

    /// What a plugin's key `table` names of the config's table of the same name.
    fn granted(&mut self, what: &str, table: &str, path: &KeyPath, given: &[String]) -> Vec<Arc<str>> {
        let known = names(&self.source, table);
        for (place, name) in given.iter().enumerate() {
            self.reference(what, &known, &path.key(table).index(place), name);
        }
        given.iter().map(|name| name.as_str().into()).collect()
    }

    fn allowed_upstreams(&mut self, path: &KeyPath, names: Option<Vec<String>>) -> Vec<usize> {
        let known = self.upstreams.clone();
        let Some(names) = names else {
            return (0..known.len()).collect();
        };
        let names = names.iter().enumerate();
        names.map(|(i, name)| self.reference("upstream", &known, &path.index(i), name)).collect()
    }

    /// The plugin chain of a route.
    pub(super) fn plugin_uses(
        &mut self,
        path: &KeyPath,
        entries: Vec<Section<raw::PluginEntry>>,
        defaults: &Defaults,
    ) -> Vec<PluginUse> {
        let entries = entries.into_iter().enumerate();
        let uses = entries.filter_map(|(i, entry)| {
            let path = path.index(i);
            let entry = self.section(&path, entry)?;
            Some(self.plugin_use(path, entry, defaults))
        });
        uses.collect()
    }

    fn plugin_use(&mut self, path: KeyPath, entry: raw::PluginEntry, defaults: &Defaults) -> PluginUse {
        let (named, entry) = match entry {
            raw::PluginEntry::Use(entry) => (path.key("name"), entry),
            raw::PluginEntry::Name(name) => {
                (path.clone(), raw::PluginUse { name, config: None, failure_policy: None })
            }
        };
        let place = self.used_plugin(&named, &entry.name, defaults);
        let plugin = &self.plugins[place];
        let (config, path) = match (entry.config, &plugin.config) {
            (None, Some(config)) => (Some(config.clone()), plugin.path.key("config")),
            (config, _) => (config.map(|payload| Secret(payload.0)), path.key("config")),
        };
        let failure_policy = entry.failure_policy.unwrap_or(plugin.failure_policy);
        PluginUse { plugin: place, config, failure_policy, path }
    }

    fn used_plugin(&mut self, path: &KeyPath, name: &str, defaults: &Defaults) -> usize {
        if let Some(known) = self.plugins.iter().position(|plugin| plugin.name == name) {
            // What is wrong with a table of its own is told there; a name alone is wrong wherever it stands.
            if !self.is_declared(name) {
                self.require_plugin(path, name, self.plugins[known].on_load_error, defaults);
            }
            return known;
        }
        let plugin = self.plugin(path.clone(), name.to_owned(), raw::Plugin::default(), defaults);
        self.plugins.push(plugin);
        self.plugins.len() - 1
    }

    fn is_declared(&self, name: &str) -> bool {
        self.source.get(&KeyPath::root().key("plugin").key(name)).is_some()
    }

    fn default_file(&self, name: &str, defaults: &Defaults) -> PathBuf {
        self.file_path(&defaults.directory).join(format!("{name}.wasm"))
    }

    /// A plugin without a `file` is known by its file in the plugin directory.
    fn require_plugin(
        &mut self,
        path: &KeyPath,
        name: &str,
        on_load_error: OnLoadError,
        defaults: &Defaults,
    ) {
        let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(part_of_name) {
            let shown = self.shown(path, name);
            let what = "a plugin's name consists of letters, digits, `-`, `_` and `.`";
            return self.fault(path, format!("{shown} is no name of a plugin: {what}"));
        }
        if on_load_error == OnLoadError::DisableRoute || self.present.contains(name) {
            return;
        }
        if self.default_file(name, defaults).is_file() {
            self.present.insert(name.to_owned());
            return;
        }
        // A malformed table may be meant to have a `file`.
        if self.has_problem_within(&KeyPath::root().key("plugin").key(name)) {
            return;
        }
        let known = self.known_plugins(defaults);
        let mut message = format!("unknown plugin {}", self.shown(path, name));
        if let Some(near) = self.near(path, name, known.iter().map(String::as_str)) {
            message += &format!(", did you mean `{near}`?");
        }
        let directory = KeyPath::root().key("plugins").key("directory");
        let directory = self.shown(&directory, &defaults.directory);
        let help =
            format!("there is no NAME.wasm for it in directory {directory}, and no `file` in [plugin.NAME]");
        self.report(Problem::at_value(&self.source, path, message).help(help));
    }

    /// Names of the plugins in the directory and of those with a file of their own.
    fn known_plugins(&self, defaults: &Defaults) -> Vec<String> {
        let directory = fs::read_dir(self.file_path(&defaults.directory));
        let files = directory.into_iter().flatten().flatten().map(|entry| entry.path());
        let wasm = files.filter(|file| file.extension().is_some_and(|extension| extension == "wasm"));
        let stems = wasm.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()));
        let declared = self.source.value().get("plugin").and_then(|plugins| plugins.as_object());
        let declared = declared.into_iter().flatten().filter(|(_, plugin)| plugin.get("file").is_some());
        let mut names: Vec<String> = stems.chain(declared.map(|(name, _)| name.clone())).collect();
        names.sort();
        names
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
