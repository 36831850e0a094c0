//! What `wasmgate inspect` tells of a file.

use std::{sync::Arc, time::Duration};

use wasmtime::{Engine, component::Component};

use super::{
    compile::{self, Cache, CompileError, Sha256Digest},
    native,
    store::PluginContext,
};
use crate::{capability::Capabilities, config::PluginLimits, plugin::Phases};

pub struct Report {
    pub digest: Sha256Digest,
    pub phases: Phases,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
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
    let linked = native::link(engine, &compiled.component).map_err(|error| {
        let exports = exports(engine, &compiled.component).join(", ");
        format!("is not a plugin of this gateway: {error:#}; it exports: {exports}")
    })?;
    let name: Arc<str> = Arc::from("inspect");
    let context = PluginContext::new(name.clone(), name, PluginLimits::default(), Vec::new(), capabilities);
    let schema = linked.schema(context).await.map_err(|failure| format!("config-schema {failure}"))?;
    let image = compiled.component.image_range();
    Ok(Report {
        digest,
        phases: linked.phases(),
        imports: imports(engine, &compiled.component),
        exports: exports(engine, &compiled.component),
        schema,
        compile_time: compiled.time,
        code_size: image.end.addr() - image.start.addr(),
    })
}

fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect()
}

pub fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect()
}
