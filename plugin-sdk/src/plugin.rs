//! The trait that a plugin implements.

use crate::{BodyVerdict, Phases, Request, Response, Result, Summary, Verdict};

/// A plugin: how it is made from its config, and what it does in each phase of a request.
///
/// Write the phases you need and put [`#[plugin]`](macro@crate::plugin) before the impl; the
/// gateway never calls a phase that the impl does not hold.
///
/// One instance serves many requests, one at a time, and the gateway keeps several instances:
/// use [`Cell`](std::cell::Cell) or [`RefCell`](std::cell::RefCell) for what may differ between
/// instances (a cache), [`counters`](crate::counters) and [`kv`](crate::kv) for what must not.
///
/// An `Err` from a phase is a failure of the plugin, not an answer: the route's failure policy
/// decides whether the client gets a 500 or the request goes on without the plugin. To refuse a
/// request return [`Verdict::Respond`].
///
/// ```
/// use wasmgate_sdk::{LocalResponse, Plugin, Request, Result, Verdict, config, plugin};
///
/// #[config]
/// struct Config {
///     /// Methods that pass, upper case.
///     methods: Vec<String>,
/// }
///
/// struct Methods(Vec<String>);
///
/// #[plugin]
/// impl Plugin for Methods {
///     type Config = Config;
///
///     fn new(config: Config) -> Result<Self> {
///         Ok(Methods(config.methods))
///     }
///
///     fn on_request(&self, request: &Request) -> Result<Verdict> {
///         if self.0.contains(&request.method()) {
///             return Ok(Verdict::Next);
///         }
///         Ok(LocalResponse::new(405).header("allow", self.0.join(", ")).into())
///     }
/// }
/// # fn main() -> Result<()> {
/// use wasmgate_sdk::testing;
/// let methods = testing::Host::new().load::<Methods>(r#"{"methods": ["GET"]}"#)?;
/// let outcome = methods.send(testing::Request::new("DELETE", "/"));
/// assert_eq!(outcome.response().status(), 405);
/// # Ok(())
/// # }
/// ```
///
/// All phases, in a plugin that counts what passes and does nothing else:
///
/// ```
/// use std::cell::Cell;
///
/// use wasmgate_sdk::{
///     BodyMode, BodyVerdict, Phases, Plugin, Request, Response, Result, Summary, Verdict, log, plugin,
/// };
///
/// struct Count {
///     bytes: Cell<usize>,
/// }
///
/// #[plugin]
/// impl Plugin for Count {
///     type Config = ();
///
///     fn new(_: ()) -> Result<Self> {
///         Ok(Count { bytes: Cell::new(0) })
///     }
///
///     fn phases(&self) -> Phases {
///         Phases::all()
///     }
///
///     fn on_request(&self, request: &Request) -> Result<Verdict> {
///         request.set_body_mode(BodyMode::Stream)?;
///         Ok(Verdict::Next)
///     }
///
///     fn on_request_body(&self, _: &Request, chunk: Vec<u8>, _: bool) -> Result<BodyVerdict> {
///         self.bytes.update(|bytes| bytes + chunk.len());
///         Ok(BodyVerdict::Pass)
///     }
///
///     fn on_response(&self, _: &Request, response: &Response) -> Result<Verdict> {
///         response.set_body_mode(BodyMode::Stream)?;
///         Ok(Verdict::Next)
///     }
///
///     fn on_response_body(&self, _: &Request, _: &Response, chunk: Vec<u8>, _: bool) -> Result<BodyVerdict> {
///         self.bytes.update(|bytes| bytes + chunk.len());
///         Ok(BodyVerdict::Pass)
///     }
///
///     fn on_log(&self, request: &Request, _: &Response, summary: &Summary) {
///         log::info!("{}: {}, {} bytes so far", request.path(), summary.status, self.bytes.get());
///     }
/// }
/// # fn main() -> Result<()> {
/// use wasmgate_sdk::testing;
/// let count = testing::Host::new().load::<Count>("null")?;
/// count.exchange(testing::Request::new("POST", "/").body("abc"), testing::Response::new(200).body("de"));
/// assert_eq!(count.plugin().bytes.get(), 5);
/// # Ok(())
/// # }
/// ```
pub trait Plugin: Sized + 'static {
    /// What a use in a route may configure, usually a struct with [`#[config]`](macro@crate::config).
    /// Where the route gives no config, an empty one is read: with `#[serde(default)]` all keys
    /// have their defaults. A plugin without config uses `()`.
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema;

    /// Makes an instance. Called once per instance, before any phase: compile patterns, parse keys
    /// and define metrics here. An error refuses the config, and with it the gateway's whole
    /// configuration: name the key and say what was expected.
    fn new(config: Self::Config) -> Result<Self>;

    /// The phases that this config needs, of those that the impl holds. The gateway calls no
    /// others: say so here where a config leaves a phase without work. Default: all of them.
    fn phases(&self) -> Phases {
        Phases::all()
    }

    /// The request's head has arrived. Requests pass the chain from its first plugin to its last.
    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let _ = request;
        Ok(Verdict::Next)
    }

    /// A piece of the request's body, as [`Request::set_body_mode`] asked for in
    /// [`on_request`](Plugin::on_request); never called without that. `end` is true with the last
    /// piece (with [`BodyMode::Peek`](crate::BodyMode::Peek): where the body ended within it).
    fn on_request_body(&self, request: &Request, chunk: Vec<u8>, end: bool) -> Result<BodyVerdict> {
        let _ = (request, chunk, end);
        Ok(BodyVerdict::Pass)
    }

    /// The response's head has arrived, from the upstream or from a plugin or the gateway itself.
    /// Responses pass the chain backwards, beginning with the last plugin that saw the request.
    fn on_response(&self, request: &Request, response: &Response) -> Result<Verdict> {
        let _ = (request, response);
        Ok(Verdict::Next)
    }

    /// A piece of the response's body, as [`Response::set_body_mode`] asked for in
    /// [`on_response`](Plugin::on_response); never called without that.
    fn on_response_body(
        &self,
        request: &Request,
        response: &Response,
        chunk: Vec<u8>,
        end: bool,
    ) -> Result<BodyVerdict> {
        let _ = (request, response, chunk, end);
        Ok(BodyVerdict::Pass)
    }

    /// All is over, whatever the end was. Called once for every request that the chain saw;
    /// nothing can be changed any more, and nobody waits for it.
    fn on_log(&self, request: &Request, response: &Response, summary: &Summary) {
        let _ = (request, response, summary);
    }
}
