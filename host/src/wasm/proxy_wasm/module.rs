//! From a core module to a filter that can be started: its ABI version, what it exports and imports, and what
//! of that this host does not have.

use std::collections::BTreeMap;

use bytes::Bytes;
use wasmtime::{
    Engine, ExternType, Instance, InstancePre, Module, Store, TypedFunc, ValType, WasmParams, WasmResults,
};

use super::{abi::Version, context::VmData, imports};
use crate::plugin::Phases;

/// A filter that is linked, not yet configured.
#[derive(Clone)]
pub struct Linked {
    pub pre: InstancePre<VmData>,
    pub facts: Facts,
}

/// What is known of a module from its outside.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub version: Version,
    pub request: bool,
    pub request_body: bool,
    pub response: bool,
    pub response_body: bool,
    pub log: bool,
}

impl Facts {
    pub fn phases(self) -> Phases {
        let Facts { request, request_body, response, response_body, log, .. } = self;
        Phases { request, request_body, response, response_body, log }
    }
}

/// What all VMs of one kind share: those of a filter that have the same code, `vm_id` and `vm_config`.
pub struct Guest {
    pub version: Version,
    pub vm_id: String,
    pub vm_config: Bytes,
    pub environment: BTreeMap<String, String>,
}

/// Functions that the guest may export, each with its type.
#[derive(Default)]
pub struct Exports {
    pub context_create: Option<TypedFunc<(u32, u32), ()>>,
    pub vm_start: Option<TypedFunc<(u32, u32), u32>>,
    pub configure: Option<TypedFunc<(u32, u32), u32>>,
    pub tick: Option<TypedFunc<u32, ()>>,
    pub queue_ready: Option<TypedFunc<(u32, u32), ()>>,
    pub request_headers: Option<HeadersCallback>,
    pub request_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub request_trailers: Option<TypedFunc<(u32, u32), u32>>,
    pub response_headers: Option<HeadersCallback>,
    pub response_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub response_trailers: Option<TypedFunc<(u32, u32), u32>>,
    pub done: Option<TypedFunc<u32, u32>>,
    pub log: Option<TypedFunc<u32, ()>>,
    pub delete: Option<TypedFunc<u32, ()>>,
    pub http_call_response: Option<TypedFunc<HttpCallResponse, ()>>,
    pub grpc_initial_metadata: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub grpc_receive: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub grpc_trailing_metadata: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub grpc_close: Option<TypedFunc<(u32, u32, u32), ()>>,
}

/// Root, token, and how much there is of headers, body and trailers.
type HttpCallResponse = (u32, u32, u32, u32, u32);

/// Version 0.1.0 has no flag for the end of the stream; some modules that say so have it all the same.
#[derive(Clone)]
pub enum HeadersCallback {
    Two(TypedFunc<(u32, u32), u32>),
    Three(TypedFunc<(u32, u32, u32), u32>),
}

/// Callbacks of network filters, which this host does not run.
const NETWORK: [&str; 5] = [
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_connection_close",
];

/// Callbacks of HTTP filters, and those of root contexts that do without a stream.
const HTTP: [&str; 10] = [
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_log",
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_on_http_call_response",
];

/// What the module says it was built for, where this host knows it.
pub fn version(module: &Module) -> Option<Version> {
    let has = |name: &str| module.get_export(name).is_some();
    Version::MARKERS.iter().find(|(marker, _)| has(marker)).map(|(_, version)| *version)
}

pub fn link(engine: &Engine, module: &Module) -> Result<Linked, String> {
    let has = |name: &str| module.get_export(name).is_some();
    let version = version(module).ok_or_else(|| {
        let of_another = module.exports().find(|export| export.name().starts_with("proxy_abi_version_"));
        let known = "0.1.0, 0.2.0 and 0.2.1";
        match of_another {
            Some(export) => format!("is a proxy-wasm filter with `{}`; known are {known}", export.name()),
            None => "is a core module, neither a component (build it for the target wasm32-wasip2) nor a proxy-wasm filter"
                .to_owned(),
        }
    })?;
    if NETWORK.iter().any(|name| has(name)) && !HTTP.iter().any(|name| has(name)) {
        return Err("is a proxy-wasm network filter; only HTTP filters can be run".to_owned());
    }
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return Err("is a proxy-wasm filter without an exported memory".to_owned());
    }
    if !has("malloc") && !has("proxy_on_memory_allocate") {
        return Err("exports neither `malloc` nor `proxy_on_memory_allocate`".to_owned());
    }
    let linker = imports::linker(engine).map_err(|error| format!("{error:#}"))?;
    let unknown = unsupported(module);
    if !unknown.is_empty() {
        return Err(format!("imports what this gateway does not have: {}", unknown.join(", ")));
    }
    let pre = linker.instantiate_pre(module).map_err(|error| format!("cannot be linked: {error:#}"))?;
    let facts = Facts {
        version,
        // Also where only the response is looked at: a stream begins with its request.
        request: true,
        request_body: has("proxy_on_request_body") || has("proxy_on_request_trailers"),
        response: has("proxy_on_response_headers")
            || has("proxy_on_response_body")
            || has("proxy_on_response_trailers"),
        response_body: has("proxy_on_response_body") || has("proxy_on_response_trailers"),
        log: has("proxy_on_log"),
    };
    Ok(Linked { pre, facts })
}

/// Imports that this host does not have, each with its module.
fn unsupported(module: &Module) -> Vec<String> {
    let is_known = |from: &str, name: &str| {
        imports::KNOWN.iter().any(|(module, names)| *module == from && names.contains(&name))
    };
    let imports = module.imports();
    let unknown = imports.filter(|import| {
        !is_known(import.module(), import.name()) || !matches!(import.ty(), ExternType::Func(_))
    });
    unknown.map(|import| format!("{}.{}", import.module(), import.name())).collect()
}

impl Exports {
    /// Fails where one has another type than the ABI says.
    pub fn find(store: &mut Store<VmData>, instance: &Instance) -> wasmtime::Result<Exports> {
        let mut exports = Finder { store, instance };
        Ok(Exports {
            context_create: exports.find("proxy_on_context_create")?,
            vm_start: exports.find("proxy_on_vm_start")?,
            configure: exports.find("proxy_on_configure")?,
            tick: exports.find("proxy_on_tick")?,
            queue_ready: exports.find("proxy_on_queue_ready")?,
            request_headers: exports.find_headers("proxy_on_request_headers")?,
            request_body: exports.find("proxy_on_request_body")?,
            request_trailers: exports.find("proxy_on_request_trailers")?,
            response_headers: exports.find_headers("proxy_on_response_headers")?,
            response_body: exports.find("proxy_on_response_body")?,
            response_trailers: exports.find("proxy_on_response_trailers")?,
            done: exports.find("proxy_on_done")?,
            log: exports.find("proxy_on_log")?,
            delete: exports.find("proxy_on_delete")?,
            http_call_response: exports.find("proxy_on_http_call_response")?,
            grpc_initial_metadata: exports.find("proxy_on_grpc_receive_initial_metadata")?,
            grpc_receive: exports.find("proxy_on_grpc_receive")?,
            grpc_trailing_metadata: exports.find("proxy_on_grpc_receive_trailing_metadata")?,
            grpc_close: exports.find("proxy_on_grpc_close")?,
        })
    }
}

pub struct Finder<'a> {
    pub store: &'a mut Store<VmData>,
    pub instance: &'a Instance,
}

impl Finder<'_> {
    /// None where there is no such export.
    pub fn find<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &str,
    ) -> wasmtime::Result<Option<TypedFunc<P, R>>> {
        let Some(function) = self.instance.get_func(&mut *self.store, name) else { return Ok(None) };
        let typed = function.typed(&*self.store);
        let typed = typed.map_err(|error| {
            wasmtime::Error::msg(format!("its export `{name}` has another type than the ABI says: {error}"))
        });
        typed.map(Some)
    }

    fn find_headers(&mut self, name: &str) -> wasmtime::Result<Option<HeadersCallback>> {
        let Some(function) = self.instance.get_func(&mut *self.store, name) else { return Ok(None) };
        let parameters = function.ty(&*self.store).params().filter(ValType::is_i32).count();
        Ok(match parameters {
            2 => self.find(name)?.map(HeadersCallback::Two),
            _ => self.find(name)?.map(HeadersCallback::Three),
        })
    }
}
