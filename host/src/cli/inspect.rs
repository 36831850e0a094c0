//! `wasmgate inspect`.

use std::{fs, path::Path, sync::Arc};

use crate::{
    capability::Capabilities,
    gateway,
    telemetry::metrics::Metrics,
    wasm::{compile::hex, engine, inspect},
};

pub fn run(path: &Path) -> Result<(), String> {
    let located = |text: String| format!("{} {text}", path.display());
    let bytes = fs::read(path).map_err(|error| located(format!("cannot be read: {error}")))?;
    let engine = engine::build().map_err(|error| format!("{error:#}"))?;
    let capabilities = Arc::new(Capabilities::new(Arc::new(Metrics::default())));
    let runtime = gateway::local_runtime().map_err(|error| error.to_string())?;
    let report = runtime.block_on(inspect::report(&engine, &bytes, capabilities)).map_err(located)?;

    tell!("file      {}", path.display());
    tell!("kind      {}", report.kind);
    tell!("sha256    {}", hex(&report.digest));
    tell!("size      {} bytes, {} bytes of native code", bytes.len(), report.code_size);
    tell!("compiled  in {} ms", report.compile_time.as_millis());
    if let Some(phases) = report.phases {
        let phases: Vec<_> = phases.names().collect();
        tell!("phases    {}", if phases.is_empty() { "none".to_owned() } else { phases.join(", ") });
    }
    tell!("imports   {}", report.imports.join("\n          "));
    tell!("exports   {}", report.exports.join("\n          "));
    tell!("schema    {}", pretty(&report.schema));
    match report.unsupported {
        None => Ok(()),
        Some(reason) => Err(located(reason)),
    }
}

fn pretty(schema: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(schema) {
        Ok(value) => format!("{value:#}"),
        Err(_) if schema.is_empty() => "none: accepts any config".to_owned(),
        Err(error) => format!("not JSON: {error}"),
    }
}
