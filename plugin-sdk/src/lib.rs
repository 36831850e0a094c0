//! Write wasmgate plugins in Rust.
//!
//! A plugin is a type with a [`Plugin`] impl: a function per phase of a request. The attribute
//! [`plugin`](macro@plugin) makes a component of it that exports just the phases the impl holds.
//!
//! ```
//! use wasmgate_sdk::{Plugin, Request, Result, Verdict, config, plugin};
//!
//! /// Greets the upstream.
//! #[config]
//! struct Config {
//!     /// Header that carries the greeting.
//!     header: String,
//! }
//!
//! struct Hello(Config);
//!
//! #[plugin]
//! impl Plugin for Hello {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self> {
//!         Ok(Hello(config))
//!     }
//!
//!     fn on_request(&self, request: &Request) -> Result<Verdict> {
//!         request.set_header(&self.0.header, "hello")?;
//!         Ok(Verdict::Next)
//!     }
//! }
//!
//! // The same code runs natively on the fake host of the feature `testing`.
//! # fn main() -> Result<()> {
//! use wasmgate_sdk::testing;
//! let hello = testing::Host::new().load::<Hello>(r#"{"header": "x-greeting"}"#)?;
//! let outcome = hello.send(testing::Request::get("/"));
//! assert_eq!(outcome.request().header_str("x-greeting").as_deref(), Some("hello"));
//! # Ok(())
//! # }
//! ```

// The attributes speak of `::wasmgate_sdk`; the SDK's own tests use them too.
extern crate self as wasmgate_sdk;

pub mod audit;
pub mod auth;
pub mod clock;
#[cfg(any(feature = "testing", target_family = "wasm"))]
mod config;
pub mod consumers;
pub mod counters;
pub mod crypto;
mod error;
#[cfg(not(all(feature = "testing", not(target_family = "wasm"))))]
mod exchange;
mod headers;
mod host;
pub mod http;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod networks;
mod plugin;
pub mod random;
pub mod rate_limits;
mod request;
mod response;
pub mod secrets;
#[cfg(all(feature = "testing", not(target_family = "wasm")))]
pub mod testing;
mod time;
mod types;
mod verdict;

// What `#[plugin]` speaks of.
#[doc(hidden)]
pub mod bindings;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod export;

pub use error::{Error, HostError, Result};
pub use plugin::Plugin;
pub use request::{Request, form_decode};
pub use response::Response;
pub use time::Time;
pub use types::{Duration, HeaderName, Size};
pub use verdict::{BodyMode, BodyVerdict, Client, LocalResponse, Phases, Summary, Tls, Verdict};

/// ```
/// #[wasmgate_sdk::config]
/// #[serde(default)]
/// #[derive(Default)]
/// struct Config {
///     /// Requests per second; 0 for no limit.
///     rate: u32,
///     mode: Mode,
/// }
///
/// #[wasmgate_sdk::config]
/// #[serde(rename_all = "kebab-case")]
/// #[derive(Default)]
/// enum Mode {
///     #[default]
///     Refuse,
///     DryRun,
/// }
///
/// use wasmgate_sdk::serde_json;
/// let config: Config = serde_json::from_str(r#"{"rate": 5, "mode": "dry-run"}"#)?;
/// assert!(config.rate == 5 && matches!(config.mode, Mode::DryRun));
/// assert!(serde_json::from_str::<Config>(r#"{"rates": 5}"#).is_err());
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
#[doc(inline)]
pub use wasmgate_sdk_macro::config;

/// ```
/// use wasmgate_sdk::{Plugin, Result, plugin};
///
/// struct Idle;
///
/// #[plugin]
/// impl Plugin for Idle {
///     type Config = ();
///
///     fn new(_: ()) -> Result<Self> {
///         Ok(Idle)
///     }
/// }
/// ```
///
/// Elsewhere it does not compile:
///
/// ```compile_fail
/// #[wasmgate_sdk::plugin]
/// struct Idle;
/// ```
#[doc(inline)]
pub use wasmgate_sdk_macro::plugin;

// What `#[config]` derives with; a plugin needs no dependency of its own for it.
pub use schemars::{self, JsonSchema};
pub use serde::{self, Deserialize, Serialize};
pub use serde_json;

/// In place of the C library's: a plugin that reads a header allocates its value, and the way there is
/// several calls shorter.
#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
