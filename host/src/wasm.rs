//! WebAssembly as one way to implement [`crate::plugin::Filter`]. The only module that names
//! wasmtime; it knows neither routes nor upstreams nor sockets.

mod allowance;
mod calls;
pub mod compile;
pub mod engine;
mod fuse;
mod host;
pub mod inspect;
pub mod instance;
mod limits;
pub mod native;
pub mod pool;
pub mod program;
pub mod proxy_wasm;
mod store;

pub use store::{Grants, PluginContext};
pub use wasmtime::Engine;
