//! What a plugin decides, and the facts it is given: the contract's records as Rust types.

use crate::Result;
use crate::audit::Reason;
use crate::host::types;

/// How much of a body a plugin wants; sizes are in bytes. Chosen per message in its head phase,
/// the default is `None`.
///
/// ```
/// use wasmgate_sdk::{BodyMode, Request, Result, Verdict};
///
/// fn on_request(request: &Request) -> Result<Verdict> {
///     request.set_body_mode(BodyMode::Buffer(64 * 1024))?;
///     Ok(Verdict::Next)
/// }
/// ```
#[doc(inline)]
pub use types::BodyMode;

/// What a body phase returns.
///
/// ```
/// use wasmgate_sdk::BodyVerdict;
///
/// fn mask(chunk: &[u8]) -> BodyVerdict {
///     match chunk.contains(&b'@') {
///         true => BodyVerdict::Replace(chunk.iter().map(|&b| if b == b'@' { b'*' } else { b }).collect()),
///         false => BodyVerdict::Pass,
///     }
/// }
/// assert_eq!(mask(b"a@b"), BodyVerdict::Replace(b"a*b".to_vec()));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum BodyVerdict {
    /// Pass the bytes on as they are.
    Pass,
    /// Pass these on instead; none drop the piece.
    Replace(Vec<u8>),
    /// Answer now. In a streamed body this is possible only until the response head was sent; after
    /// that the message is cut off.
    Respond(LocalResponse),
}

/// From [`Request::client`](crate::Request::client).
///
/// ```
/// fn is_local(client: &wasmgate_sdk::Client) -> bool {
///     client.ip == "127.0.0.1" || client.ip == "::1"
/// }
/// ```
#[doc(inline)]
pub use types::Client;

/// Built with [`LocalResponse::new`]; it becomes a [`Verdict`] or a [`BodyVerdict`] by `into()`.
///
/// ```
/// use wasmgate_sdk::{LocalResponse, Verdict};
///
/// let verdict: Verdict = LocalResponse::new(401)
///     .header("www-authenticate", "Basic realm=\"files\"")
///     .code("unauthenticated")
///     .detail("A user name and a password are needed.")
///     .into();
/// # assert!(matches!(verdict, Verdict::Respond(_)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LocalResponse {
    /// 200 to 599.
    pub status: u16,
    /// Set on the answer in this order. With a bad or forbidden one the phase that responds counts as failed.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body. Without one, and with a status of 400 or more, the gateway writes its own error
    /// body in the form that the client accepts (RFC 9457 problem+json by default).
    pub body: Option<Vec<u8>>,
    /// Short word for logs, metrics and the error body.
    pub code: Option<String>,
    /// One sentence for the client, put into the gateway's error body.
    pub detail: Option<String>,
    /// Why it refuses the request, for the gateway's audit and never for the client.
    pub reason: Option<Box<Reason>>,
}

/// A set of phases, from [`Plugin::phases`](crate::Plugin::phases).
///
/// ```
/// use wasmgate_sdk::Phases;
///
/// fn needed(request_rules: usize, response_rules: usize) -> Phases {
///     let mut phases = Phases::empty();
///     phases.set(Phases::REQUEST, request_rules > 0);
///     phases.set(Phases::RESPONSE, response_rules > 0);
///     phases
/// }
/// assert_eq!(needed(1, 0), Phases::REQUEST);
/// ```
#[doc(inline)]
pub use types::Phases;

/// Given to [`Plugin::on_log`](crate::Plugin::on_log).
///
/// ```
/// fn failed(summary: &wasmgate_sdk::Summary) -> bool {
///     summary.status >= 500 || summary.code.as_deref() == Some("plugin_failed")
/// }
/// ```
#[doc(inline)]
pub use types::Summary;

/// From [`Request::tls`](crate::Request::tls).
///
/// ```
/// fn is_modern(tls: &wasmgate_sdk::Tls) -> bool {
///     tls.version == "TLSv1.3"
/// }
/// ```
#[doc(inline)]
pub use types::Tls;

/// What a head phase returns.
///
/// ```
/// use wasmgate_sdk::{LocalResponse, Verdict};
///
/// fn decide(banned: bool) -> Verdict {
///     match banned {
///         true => LocalResponse::new(403).code("banned").into(),
///         false => Verdict::Next,
///     }
/// }
/// assert_eq!(decide(false), Verdict::Next);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go on with the next plugin.
    Next,
    /// Answer now. The answer passes the response phase of the plugins that saw the request.
    Respond(LocalResponse),
}

impl LocalResponse {
    /// An answer with this status (200 to 599) and nothing else. Without a body, and with a status
    /// of 400 or more, the gateway writes its own error body in a form that the client accepts.
    ///
    /// ```
    /// let answer = wasmgate_sdk::LocalResponse::new(204);
    /// assert_eq!(answer.status, 204);
    /// ```
    pub fn new(status: u16) -> Self {
        LocalResponse { status, headers: Vec::new(), body: None, code: None, detail: None, reason: None }
    }

    /// Adds a header after the others. With a bad or forbidden one the phase that responds counts as failed.
    ///
    /// ```
    /// let answer = wasmgate_sdk::LocalResponse::new(302).header("location", "/new");
    /// assert_eq!(answer.headers, [("location".to_string(), b"/new".to_vec())]);
    /// ```
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_string(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body. Add a content-type beside it.
    ///
    /// ```
    /// let answer = wasmgate_sdk::LocalResponse::new(200).header("content-type", "text/plain").body("hello");
    /// assert_eq!(answer.body.as_deref(), Some(&b"hello"[..]));
    /// ```
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets the body to a value as JSON and the content-type to application/json. Fails where
    /// the value cannot be JSON, as a map with keys that are not text.
    ///
    /// ```
    /// use wasmgate_sdk::{LocalResponse, serde_json::json};
    ///
    /// let answer = LocalResponse::new(200).json(&json!({"ok": true}))?;
    /// assert_eq!(answer.body.as_deref(), Some(&br#"{"ok":true}"#[..]));
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn json(self, value: &impl serde::Serialize) -> Result<Self> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// A short word for logs, metrics and the error body: "rate_limited". Keep the set small.
    ///
    /// ```
    /// let answer = wasmgate_sdk::LocalResponse::new(429).code("rate_limited");
    /// assert_eq!(answer.code.as_deref(), Some("rate_limited"));
    /// ```
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_string());
        self
    }

    /// One sentence for the client, put into the gateway's error body.
    ///
    /// ```
    /// let answer = wasmgate_sdk::LocalResponse::new(403).detail("This key has been revoked.");
    /// assert_eq!(answer.detail.as_deref(), Some("This key has been revoked."));
    /// ```
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Makes it a refusal, which the gateway's audit tells with its reason. The client is not told.
    ///
    /// ```
    /// use wasmgate_sdk::{LocalResponse, audit::Why};
    ///
    /// let answer = LocalResponse::new(401).why(Why::EXPIRED);
    /// assert_eq!(answer.reason.map(|reason| reason.why), Some(Why::EXPIRED));
    /// ```
    pub fn why(mut self, reason: impl Into<Reason>) -> Self {
        self.reason = Some(Box::new(reason.into()));
        self
    }
}

impl From<LocalResponse> for Verdict {
    fn from(answer: LocalResponse) -> Self {
        Verdict::Respond(answer)
    }
}

impl From<LocalResponse> for BodyVerdict {
    fn from(answer: LocalResponse) -> Self {
        BodyVerdict::Respond(answer)
    }
}
