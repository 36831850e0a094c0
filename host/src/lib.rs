//! wasmgate: a lean host proxy in which every feature is a sandboxed WebAssembly module.
//! ARCHITECTURE.md tells how the modules lie above each other.

pub mod admin;
pub mod api_key;
pub mod background;
pub mod body;
pub mod bucket;
pub mod capability;
pub mod cli;
pub mod clock;
pub mod config;
pub mod drain;
pub mod gateway;
pub mod grpc;
pub mod limiter;
pub mod pace;
pub mod plugin;
pub mod proxy;
pub mod router;
pub mod runtime;
pub mod server;
pub mod snapshot;
pub mod sync;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod upstream;
pub mod wasm;

/// The allocator of the binary and of its benches.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
