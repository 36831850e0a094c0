//! The response as a plugin sees it.

use crate::headers::header_methods;
use crate::host::exchange;
use crate::{BodyMode, HostError, Result};

/// The response: the upstream's, or the answer of the gateway or of a plugin. It can be changed
/// until its head was sent to the client.
///
/// ```
/// use wasmgate_sdk::{Request, Response, Result, Verdict};
///
/// fn on_response(request: &Request, response: &Response) -> Result<Verdict> {
///     response.remove_header("server")?;
///     Ok(Verdict::Next)
/// }
/// ```
pub struct Response<'a> {
    raw: &'a exchange::Response,
}

impl<'a> Response<'a> {
    #[cfg_attr(
        not(any(feature = "testing", target_family = "wasm")),
        expect(dead_code, reason = "natively only the fake host makes one")
    )]
    pub(crate) const fn new(raw: &'a exchange::Response) -> Self {
        Response { raw }
    }

    /// The status code.
    ///
    /// ```
    /// fn failed(response: &wasmgate_sdk::Response) -> bool {
    ///     response.status() >= 500
    /// }
    /// ```
    pub fn status(&self) -> u16 {
        self.raw.status()
    }

    /// Sets the status code, 200 to 599. Errors: `InvalidValue`, `Immutable`.
    ///
    /// ```
    /// fn hide(response: &wasmgate_sdk::Response) -> wasmgate_sdk::Result<()> {
    ///     Ok(response.set_status(404)?)
    /// }
    /// ```
    pub fn set_status(&self, status: u16) -> Result<(), HostError> {
        Ok(self.raw.set_status(status)?)
    }

    /// Whether the upstream sent it; false for an answer of the gateway or of a plugin.
    ///
    /// ```
    /// fn is_cacheable(response: &wasmgate_sdk::Response) -> bool {
    ///     response.from_upstream() && response.status() == 200
    /// }
    /// ```
    pub fn from_upstream(&self) -> bool {
        self.raw.from_upstream()
    }

    header_methods!("Response");

    /// Asks for the response's body. Errors: `Immutable` outside of the response phase.
    ///
    /// ```
    /// use wasmgate_sdk::{BodyMode, Request, Response, Result, Verdict};
    ///
    /// fn on_response(_: &Request, response: &Response) -> Result<Verdict> {
    ///     response.set_body_mode(BodyMode::Stream)?;
    ///     Ok(Verdict::Next)
    /// }
    /// ```
    pub fn set_body_mode(&self, mode: BodyMode) -> Result<(), HostError> {
        Ok(self.raw.set_body_mode(mode)?)
    }
}
