//! A fake host for the feature `testing`: runs a plugin natively through its phases, in the
//! gateway's order and with the gateway's refusals.
//!
//! Counters, key-value, metrics, log, cryptography and consumers work; the clock stands still until the test moves it and
//! randomness repeats itself, so that a test gives the same result each time.
//!
//! ```
//! use wasmgate_sdk::{Plugin, Request, Response, Result, Verdict, plugin, testing};
//!
//! struct Hide;
//!
//! #[plugin]
//! impl Plugin for Hide {
//!     type Config = ();
//!
//!     fn new(_: ()) -> Result<Self> {
//!         Ok(Hide)
//!     }
//!
//!     fn on_response(&self, _: &Request, response: &Response) -> Result<Verdict> {
//!         response.remove_header("server")?;
//!         Ok(Verdict::Next)
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let hide = testing::Host::new().load::<Hide>("null")?;
//! let outcome = hide.exchange(
//!     testing::Request::get("/"),
//!     testing::Response::new(200).header("server", "nginx"),
//! );
//! assert_eq!(outcome.response().header("server"), None);
//! # Ok(())
//! # }
//! ```

mod consumers;
mod exchange;
mod fields;
mod host;
pub(crate) mod imports;
mod message;
mod metrics;
mod run;
mod store;
mod upstreams;

pub use exchange::Exchange;
pub use host::{Host, LogLine};
pub use message::{Request, Response};
pub use run::{Loaded, Outcome};
