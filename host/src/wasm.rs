//! WebAssembly as one way to implement [`crate::plugin::Filter`]. The only module that names
//! wasmtime; it knows neither routes nor upstreams nor sockets.

mod allowance;
pub mod compile;
pub mod engine;
mod host;
pub mod inspect;
pub mod instance;
mod limits;
pub mod native;
pub mod pool;
mod store;

pub use store::PluginContext;
pub use wasmtime::Engine;
