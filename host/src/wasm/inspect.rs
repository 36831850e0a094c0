//! What `wasmgate inspect` tells of a file.

use std::{sync::Arc, time::Duration};

use wasmtime::Engine;

use super::{
    compile::{self, Cache, Code, CompileError, Sha256Digest},
    program::{self, Program},
    proxy_wasm,
    store::PluginContext,
};
use crate::{capability::Capabilities, config::PluginLimits, plugin::Phases};

pub struct Report {
    pub kind: String,
    pub digest: Sha256Digest,
    /// None of what cannot be run.
    pub phases: Option<Phases>,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// What the file asks for and this gateway does not have, or another reason not to run it.
    pub unsupported: Option<String>,
    pub schema: String,
    pub compile_time: Duration,
    /// Bytes of native code.
    pub code_size: usize,
}

/// Compiles the file anew and asks it for its schema.
pub async fn report(
    engine: &Engine,
    bytes: &[u8],
    capabilities: Arc<Capabilities>,
) -> Result<Report, String> {
    let digest = compile::digest(bytes);
    let compiled =
        Cache::default().compile(engine, bytes, &digest).map_err(|e: CompileError| e.to_string())?;
    let program = Program::link(engine, &compiled.code);
    let (kind, imports, exports) = outside(engine, &compiled.code);
    let name: Arc<str> = Arc::from("inspect");
    let context = PluginContext::new(
        name.clone(),
        name,
        PluginLimits::default(),
        Vec::new(),
        Vec::new(),
        false,
        capabilities,
    );
    let schema = match &program {
        Ok(program) => program.schema(context).await.map_err(|failure| format!("config-schema {failure}"))?,
        Err(_) => String::new(),
    };
    Ok(Report {
        kind,
        digest,
        phases: program.as_ref().ok().map(Program::phases),
        imports,
        exports,
        unsupported: program.err(),
        schema,
        compile_time: compiled.time,
        code_size: compiled.code.size(),
    })
}

/// What the file is, and the names of all that it imports and exports.
fn outside(engine: &Engine, code: &Code) -> (String, Vec<String>, Vec<String>) {
    match code {
        Code::Component(component) => {
            let imports =
                component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect();
            let kind = "native plugin (component, wasmgate:plugin@0.1.0)".to_owned();
            (kind, imports, program::exports(engine, component))
        }
        Code::Module(module) => {
            let imports = module.imports().map(|import| format!("{}.{}", import.module(), import.name()));
            let exports = module.exports().map(|export| export.name().to_owned()).collect();
            let kind = match proxy_wasm::version(module) {
                Some(version) => format!("proxy-wasm filter (core module, ABI {})", version.name()),
                None => "core module".to_owned(),
            };
            (kind, imports.collect(), exports)
        }
    }
}
