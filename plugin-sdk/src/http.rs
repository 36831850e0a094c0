//! Requests of the plugin's own, to the upstreams that `upstreams` of its table in the gateway's config names. They pass no
//! route and no plugin, and are sent once. Waiting for an answer costs none of the plugin's time, and holds up no other
//! request. In `new` none can be sent, and [`granted`] says whether one could.

use std::fmt;
use std::time::Duration;

use crate::Error;
use crate::clock::milliseconds;
use crate::host::http_call;

/// Whether the plugin may call the upstream of this name: in [`Plugin::new`](crate::Plugin::new), so that a config that does not
/// grant it is refused when it is loaded.
///
/// ```
/// use wasmgate_sdk::{http::{self, Failure}, testing::Host};
///
/// assert!(Host::new().enter(|| http::granted("idp")).is_err());
/// assert!(Host::new().answer(|_| Err(Failure::TimedOut)).enter(|| http::granted("idp")).is_ok());
/// ```
pub fn granted(upstream: &str) -> Result<(), Error> {
    match http_call::may_call(upstream) {
        true => Ok(()),
        false => Err(Error::msg(format_args!(
            "the plugin may not call {upstream:?}: the gateway's config has no such upstream, or the plugin's table does not name it in `upstreams`"
        ))),
    }
}

/// A request to an upstream.
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{Result, http::Call};
///
/// fn is_active(token: &str) -> Result<bool> {
///     let call = Call::post("idp", "/introspect", format!("token={token}"))
///         .header("content-type", "application/x-www-form-urlencoded")
///         .timeout(Duration::from_secs(2));
///     let answer = call.send()?;
///     Ok(answer.status == 200 && answer.body.starts_with(b"{\"active\":true"))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Name of the upstream.
    pub upstream: String,
    /// The method, upper case where it is a standard one.
    pub method: String,
    /// Path and query, percent-encoded.
    pub path_with_query: String,
    /// Host. Default: that of the endpoint.
    pub authority: Option<String>,
    /// Names and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// From now to the last byte of the answer; to the millisecond. Default: 5 seconds.
    pub timeout: Duration,
    /// Longest body of the answer in bytes. Default: 1 MiB.
    pub max_body: u32,
}

impl Call {
    /// A request with this method, upstream, path and query.
    ///
    /// ```
    /// let call = wasmgate_sdk::http::Call::new("HEAD", "users", "/42");
    /// assert_eq!(call.timeout.as_secs(), 5);
    /// ```
    pub fn new(method: &str, upstream: &str, path_with_query: &str) -> Self {
        Call {
            upstream: upstream.to_string(),
            method: method.to_string(),
            path_with_query: path_with_query.to_string(),
            authority: None,
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(5),
            max_body: 1024 * 1024,
        }
    }

    /// A GET.
    ///
    /// ```
    /// let call = wasmgate_sdk::http::Call::get("users", "/42");
    /// assert_eq!(call.method, "GET");
    /// ```
    pub fn get(upstream: &str, path_with_query: &str) -> Self {
        Call::new("GET", upstream, path_with_query)
    }

    /// A POST with a body.
    ///
    /// ```
    /// let call = wasmgate_sdk::http::Call::post("users", "/", "{}");
    /// assert_eq!(call.body, b"{}");
    /// ```
    pub fn post(upstream: &str, path_with_query: &str, body: impl Into<Vec<u8>>) -> Self {
        Call { body: body.into(), ..Call::new("POST", upstream, path_with_query) }
    }

    /// Adds a header after the others.
    ///
    /// ```
    /// let call = wasmgate_sdk::http::Call::get("users", "/42").header("accept", "application/json");
    /// # let _ = call;
    /// ```
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_string(), value.as_ref().to_vec()));
        self
    }

    /// Sets how long it may take.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let call = wasmgate_sdk::http::Call::get("users", "/42").timeout(Duration::from_secs(1));
    /// # let _ = call;
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it and waits for the answer, whatever its status is. Redirects are not followed.
    ///
    /// ```
    /// fn user(id: u32) -> wasmgate_sdk::Result<Vec<u8>> {
    ///     Ok(wasmgate_sdk::http::Call::get("users", &format!("/{id}")).send()?.body)
    /// }
    /// ```
    pub fn send(&self) -> Result<Answer, Failure> {
        let headers: Vec<_> = self.headers.iter().collect();
        Ok(http_call::send(self.raw(&headers))?.into())
    }

    /// The answer that is kept under this key, shared by all instances of the plugin on all workers.
    /// Where there is none that serves, the request is sent, by one of all who ask at that time; the
    /// others wait for its answer. `known` is the version that the plugin has already.
    ///
    /// Keys have up to 1024 bytes and are private to the plugin. An answer may go before its time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wasmgate_sdk::{Result, http::{Call, Keep}};
    ///
    /// fn keys() -> Result<Vec<u8>> {
    ///     let hour = Duration::from_secs(3600);
    ///     let keep = Keep { fresh: hour, stale: 24 * hour, negative: Duration::from_secs(10), only_success: true };
    ///     let kept = Call::get("idp", "/jwks.json").fetch("jwks", keep, None)?;
    ///     Ok(kept.answer.map(|answer| answer.body).unwrap_or_default())
    /// }
    /// ```
    pub fn fetch(&self, key: &str, keep: Keep, known: Option<u64>) -> Result<Kept, Failure> {
        let headers: Vec<_> = self.headers.iter().collect();
        let keep = http_call::Keep {
            fresh_ms: milliseconds(keep.fresh),
            stale_ms: milliseconds(keep.stale),
            negative_ms: milliseconds(keep.negative),
            only_success: keep.only_success,
        };
        let kept = http_call::fetch(key, self.raw(&headers), keep, known)?;
        Ok(Kept {
            version: kept.version,
            age: Duration::from_millis(kept.age_ms),
            answer: kept.answer.map(Answer::from),
        })
    }

    fn raw<'a>(&'a self, headers: &'a [&'a (String, Vec<u8>)]) -> http_call::Outgoing<'a> {
        http_call::Outgoing {
            upstream: &self.upstream,
            method: &self.method,
            path_with_query: &self.path_with_query,
            authority: self.authority.as_deref(),
            headers,
            body: &self.body,
            timeout_ms: milliseconds(self.timeout),
            max_body: self.max_body,
        }
    }
}

/// Sends all of them at the same time, up to 32, and waits for the last one; the outcomes are in their order.
///
/// ```
/// use wasmgate_sdk::http::{self, Call};
///
/// fn are_there(ids: &[u32]) -> Vec<bool> {
///     let calls: Vec<_> = ids.iter().map(|id| Call::new("HEAD", "users", &format!("/{id}"))).collect();
///     http::send_all(&calls).into_iter().map(|outcome| outcome.is_ok_and(|answer| answer.status == 200)).collect()
/// }
/// ```
pub fn send_all(calls: &[Call]) -> Vec<Result<Answer, Failure>> {
    let headers: Vec<Vec<_>> = calls.iter().map(|call| call.headers.iter().collect()).collect();
    let raw: Vec<_> = calls.iter().zip(&headers).map(|(call, headers)| call.raw(headers)).collect();
    let outcomes = http_call::send_all(&raw);
    outcomes.into_iter().map(|outcome| Ok(outcome?.into())).collect()
}

/// What an upstream said.
///
/// ```
/// use wasmgate_sdk::http::Answer;
///
/// let answer = Answer { headers: vec![("etag".to_string(), b"1".to_vec())], ..Answer::new(304) };
/// assert_eq!(answer.header("ETag"), Some(&b"1"[..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer with this status and nothing else.
    ///
    /// ```
    /// assert!(wasmgate_sdk::http::Answer::new(204).body.is_empty());
    /// ```
    pub fn new(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    /// First value of a header; names match in any case. The example is that of the type.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
    }
}

impl From<http_call::Answer> for Answer {
    fn from(answer: http_call::Answer) -> Self {
        Answer { status: answer.status, headers: answer.headers, body: answer.body }
    }
}

/// How long an answer serves; times are kept in whole milliseconds, up to 49 days. The example is that of
/// [`Call::fetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// As it is.
    pub fresh: Duration,
    /// After that: while it is fetched anew, and where that fails.
    pub stale: Duration,
    /// How long a fetch that failed is not repeated.
    pub negative: Duration,
    /// An answer other than 2xx is a failure, [`Failure::Refused`]: it takes nobody's place. Otherwise any
    /// is kept.
    pub only_success: bool,
}

/// An answer that was fetched at some time. The example is that of [`Call::fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Another one for each answer.
    pub version: u64,
    /// Since it came.
    pub age: Duration,
    /// None where it is the version that is known.
    pub answer: Option<Answer>,
}

/// Why there is no answer.
///
/// ```
/// use wasmgate_sdk::{LocalResponse, http::Failure};
///
/// fn refuse(failure: Failure) -> LocalResponse {
///     LocalResponse::new(if failure == Failure::TimedOut { 504 } else { 503 })
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No upstream of that name, or none that the plugin may call.
    Unknown,
    /// The method, the path, the authority, a header or the key cannot be.
    Invalid,
    /// It took longer than its timeout.
    TimedOut,
    /// No endpoint, no connection to it, or the upstream is spared: its breaker is open, a limit is
    /// reached.
    Unreachable,
    /// The connection ended before the end of the answer, or what came is no HTTP.
    Broken,
    /// The answer is longer than `max_body`.
    TooLarge,
    /// More than 32 requests at once.
    Exhausted,
    /// The answer is none of 2xx, where only those are kept.
    Refused,
}

impl From<http_call::Failure> for Failure {
    fn from(failure: http_call::Failure) -> Self {
        match failure {
            http_call::Failure::Unknown => Failure::Unknown,
            http_call::Failure::Invalid => Failure::Invalid,
            http_call::Failure::TimedOut => Failure::TimedOut,
            http_call::Failure::Unreachable => Failure::Unreachable,
            http_call::Failure::Broken => Failure::Broken,
            http_call::Failure::TooLarge => Failure::TooLarge,
            http_call::Failure::Exhausted => Failure::Exhausted,
            http_call::Failure::Refused => Failure::Refused,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Unknown => "no such upstream, or none that the plugin may call",
            Failure::Invalid => "the request cannot be sent",
            Failure::TimedOut => "the upstream took too long",
            Failure::Unreachable => "the upstream cannot be reached",
            Failure::Broken => "the answer broke off",
            Failure::TooLarge => "the answer is too large",
            Failure::Exhausted => "too many requests at once",
            Failure::Refused => "the upstream refused",
        })
    }
}

impl std::error::Error for Failure {}
