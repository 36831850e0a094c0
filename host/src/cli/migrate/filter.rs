//! HTTP filters: those of WebAssembly become plugins, and so do services of WebAssembly.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use super::{
    names::{Names, plain},
    output::{Plugin, Use},
    tree::Table,
};

/// The plugins of all listeners.
pub struct Plugins {
    /// What each would like to be called, its name, and the plugin.
    known: Vec<(String, String, Plugin)>,
    names: Names,
    /// Names of those after which Envoy might choose another route.
    rerouting: BTreeSet<String>,
}

impl Plugins {
    pub fn new() -> Self {
        // Those that routes may need.
        Plugins {
            known: Vec::new(),
            names: Names::reserving(&["headers", "respond"]),
            rerouting: BTreeSet::new(),
        }
    }

    /// The plugins of a chain of filters, in its order.
    pub fn uses(&mut self, filters: Vec<Table>) -> Vec<Use> {
        let mut uses = Vec::new();
        for mut filter in filters {
            match filter.kind() {
                "Router" | "router" => {
                    filter.skip(&["name"]);
                    if let Some(mut config) = filter.table("typed_config") {
                        config.skip(&["@type"]);
                    }
                }
                "Wasm" => uses.extend(self.wasm(filter)),
                _ => {
                    let name = filter.text("name").unwrap_or_default();
                    filter.leave(&format!("the filter {name:?}, which is part of Envoy"));
                }
            }
        }
        uses
    }

    fn wasm(&mut self, mut filter: Table) -> Option<Use> {
        if filter.flag("disabled").unwrap_or(false) {
            filter.leave("a filter that single routes switch on; write it into their `plugins`");
            return None;
        }
        filter.skip(&["name"]);
        let (wanted, plugin) = plugin(filter.table("typed_config")?)?;
        Some(Use::Name(self.name_of(wanted, plugin)))
    }

    /// There is a choice of routes after these.
    pub fn reroute(&mut self, uses: &[Use]) {
        self.rerouting.extend(uses.iter().filter_map(|used| match used {
            Use::Name(name) => Some(name.clone()),
            Use::Configured { .. } => None,
        }));
    }

    /// A `WasmService`, which runs without requests.
    pub fn service(&mut self, mut extension: Table) {
        if extension.kind() != "WasmService" {
            return extension.leave("an extension of Envoy");
        }
        extension.skip(&["name"]);
        let Some(mut typed) = extension.table("typed_config") else { return };
        let singleton = typed.flag("singleton").unwrap_or(false);
        if let Some((wanted, plugin)) = plugin(typed) {
            let service = Some(if singleton { "singleton" } else { "worker" });
            self.name_of(wanted, Plugin { service, ..plugin });
        }
    }

    /// The same plugin has the same name.
    fn name_of(&mut self, wanted: String, plugin: Plugin) -> String {
        let same = self.known.iter().find(|(other, _, known)| *other == wanted && *known == plugin);
        if let Some((_, name, _)) = same {
            return name.clone();
        }
        let name = self.names.unique(&wanted);
        self.known.push((wanted, name.clone(), plugin));
        name
    }

    /// `clusters` are upstreams that are not called as their clusters are.
    pub fn all(self, clusters: &BTreeMap<String, String>) -> Vec<(String, Plugin)> {
        let all = self.known.into_iter().map(|(_, name, plugin)| {
            let reroute = self.rerouting.contains(&name);
            (name, Plugin { clusters: clusters.clone(), reroute, ..plugin })
        });
        all.collect()
    }
}

/// The plugin of a filter's or a service's `typed_config`, and what it would like to be called.
fn plugin(mut typed: Table) -> Option<(String, Plugin)> {
    typed.skip(&["@type"]);
    let Some(mut table) = typed.table("config") else {
        typed.leave("a filter without a config");
        return None;
    };
    let name = table.text("name");
    let root_id = table.text("root_id").filter(|id| !id.is_empty());
    let config = any(&mut table);
    let opens = table.flag("fail_open").unwrap_or(false);
    let policy = table.take("failure_policy", |policy| match policy.as_str()? {
        "FAIL_OPEN" => Some("open"),
        "FAIL_CLOSED" | "FAIL_RELOAD" | "UNSPECIFIED" => Some("closed"),
        _ => None,
    });
    let Some(mut vm) = table.table("vm_config") else {
        table.leave("a filter without code");
        return None;
    };
    // Any other runtime is an engine for the same code.
    if vm.text("runtime").is_some_and(|runtime| runtime == "envoy.wasm.runtime.null") {
        vm.leave("a filter that is part of Envoy");
        return None;
    }
    let place = vm.at("code");
    let (vm_id, vm_config, env) = (vm.text("vm_id"), any(&mut vm), environment(&mut vm));
    let code = code(&mut vm);
    let stem = code.file.as_deref().and_then(|file| Path::new(file).file_stem()?.to_str());
    let given = [name.as_deref(), root_id.as_deref(), stem].into_iter().flatten().next();
    let wanted = given.map_or_else(|| "filter".to_owned(), plain);
    let file = code.file.unwrap_or_else(|| {
        let file = format!("{wanted}.wasm");
        vm.notes().left(&place, &format!("{}; put it into the file {file}", code.origin));
        file
    });
    let failure_policy = (opens || policy == Some("open")).then_some("open");
    let (sha256, clusters) = (code.sha256, BTreeMap::new());
    let plugin = Plugin {
        file,
        sha256,
        root_id,
        vm_id,
        vm_config,
        config,
        env,
        failure_policy,
        service: None,
        reroute: false,
        clusters,
    };
    Some((wanted, plugin))
}

#[derive(Default)]
struct Code {
    file: Option<String>,
    sha256: Option<String>,
    /// Where it is if not in a file.
    origin: String,
}

fn code(vm: &mut Table) -> Code {
    let mut code = Code { origin: "the code is missing".to_owned(), ..Code::default() };
    let Some(mut table) = vm.table("code") else { return code };
    if let Some(mut local) = table.table("local") {
        code.file = local.text("filename");
        local.skip(&["inline_bytes", "inline_string"]);
        code.origin = "the code stands here".to_owned();
    }
    if let Some(mut remote) = table.table("remote") {
        code.sha256 = remote.take("sha256", |digest| {
            let is_hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
            let digest = digest.as_str()?;
            (digest.len() == 64 && digest.bytes().all(is_hex)).then(|| digest.to_owned())
        });
        let uri = remote.table("http_uri").and_then(|mut uri| {
            uri.skip(&["cluster", "timeout"]);
            uri.text("uri")
        });
        remote.skip(&["retry_policy"]);
        code.origin = format!("the code is at {:?}", uri.unwrap_or_default());
    }
    code
}

/// A `configuration`. Text stays text, a struct becomes a table, or JSON where TOML cannot say what it holds.
fn any(table: &mut Table) -> Option<Value> {
    let mut any = table.table("configuration")?;
    if any.is_empty() {
        return None;
    }
    let kind = any.text("@type").unwrap_or_default();
    let value = match kind.rsplit('.').next() {
        Some("StringValue") => any.take("value", |value| value.is_string().then(|| value.clone())),
        Some("Struct") => any.take("value", |value| value.is_object().then(|| value.clone())),
        _ => None,
    };
    match value {
        Some(value) if is_toml(&value) => Some(value),
        Some(value) => Some(Value::String(value.to_string())),
        None => {
            any.leave(&format!("a configuration of type {kind:?}; plugins get text or JSON"));
            None
        }
    }
}

fn is_toml(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Number(number) => number.is_f64() || number.is_i64(),
        Value::Array(values) => values.iter().all(is_toml),
        Value::Object(entries) => entries.values().all(is_toml),
        Value::Bool(_) | Value::String(_) => true,
    }
}

fn environment(vm: &mut Table) -> BTreeMap<String, String> {
    let values = vm.table("environment_variables").and_then(|mut variables| {
        variables.take("key_values", |values| {
            let values = values.as_object()?.iter();
            values.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
        })
    });
    values.unwrap_or_default()
}
