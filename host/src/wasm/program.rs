//! Compiled code of either kind, linked: what filters are made of.

use std::sync::Arc;

use serde_json::Value;
use wasmtime::{Engine, component::Component};

use super::{
    compile::{Code, Sha256Digest},
    native::{self, NativeFactory},
    proxy_wasm::{self, Guest, ProxyWasmFactory, RootSettings},
    store::PluginContext,
};
use crate::{
    config::{Breaker, Node, ProxyWasm},
    plugin::{Factory, Failure, Phases},
};

#[derive(Clone)]
pub enum Program {
    Native(native::Linked),
    ProxyWasm(proxy_wasm::Linked),
}

/// How one plugin of the config is run.
pub struct Settings {
    pub breaker: Breaker,
    /// A fresh instance for every call.
    pub fresh: bool,
    pub proxy_wasm: ProxyWasm,
    pub node: Arc<Node>,
    /// Of the plugin's file.
    pub digest: Sha256Digest,
}

impl Program {
    /// The error says why it is none.
    pub fn link(engine: &Engine, code: &Code) -> Result<Program, String> {
        match code {
            Code::Component(component) => {
                let linked = native::link(engine, component).map_err(|error| {
                    let exports = exports(engine, component).join(", ");
                    format!("is not a plugin for this gateway: {error:#}; it exports: {exports}")
                });
                linked.map(Program::Native)
            }
            Code::Module(module) => proxy_wasm::link(engine, module).map(Program::ProxyWasm),
        }
    }

    pub fn phases(&self) -> Phases {
        match self {
            Program::Native(linked) => linked.phases(),
            Program::ProxyWasm(linked) => linked.facts.phases(),
        }
    }

    /// JSON Schema of the plugin's config; proxy-wasm filters have none.
    pub async fn schema(&self, context: Arc<PluginContext>) -> Result<String, Failure> {
        match self {
            Program::Native(linked) => linked.schema(context).await,
            Program::ProxyWasm(_) => Ok(String::new()),
        }
    }

    /// The config as the guest gets it; the error says why it cannot.
    pub fn payload(&self, config: Option<&Value>) -> Result<String, String> {
        match (self, config) {
            (Program::Native(_), None) => Ok("{}".to_owned()),
            (Program::Native(_), Some(Value::String(_))) => {
                Err("the config of a native plugin is a table".to_owned())
            }
            (Program::ProxyWasm(_), config) => Ok(text(config)),
            (_, Some(config)) => Ok(config.to_string()),
        }
    }

    /// Starts a first instance, to see whether it takes its config.
    pub async fn start(
        &self,
        context: Arc<PluginContext>,
        settings: Settings,
        config: String,
        identity: u64,
    ) -> Result<Arc<dyn Factory>, Failure> {
        match self {
            Program::Native(linked) => {
                let settings = native::Settings { breaker: settings.breaker, fresh: settings.fresh };
                let template = native::Template::start(linked.clone(), context, settings, config).await?;
                Ok(Arc::new(NativeFactory { template, identity }))
            }
            Program::ProxyWasm(linked) => {
                let Settings { breaker, proxy_wasm, node, digest, .. } = settings;
                let clusters = proxy_wasm.clusters.into_iter();
                let root = RootSettings {
                    root_id: proxy_wasm.root_id,
                    config: config.into(),
                    reroute: proxy_wasm.reroute,
                    node,
                    clusters: clusters.map(|(name, upstream)| (name, upstream.into())).collect(),
                };
                let guest = Guest {
                    version: linked.facts.version,
                    vm_id: proxy_wasm.vm_id,
                    vm_config: text(proxy_wasm.vm_config.as_ref().map(|config| &config.0)).into(),
                    environment: proxy_wasm.env,
                };
                let settings = proxy_wasm::Settings {
                    breaker,
                    guest: Arc::new(guest),
                    root: Arc::new(root),
                    digest,
                    vms: proxy_wasm.vms_per_worker.unwrap_or(1),
                };
                let template = proxy_wasm::Template::start(linked.clone(), context, settings)?;
                Ok(Arc::new(ProxyWasmFactory { template, identity }))
            }
        }
    }
}

/// A string as it is, a table as JSON.
fn text(config: Option<&Value>) -> String {
    match config {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(config) => config.to_string(),
    }
}

pub fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect()
}
