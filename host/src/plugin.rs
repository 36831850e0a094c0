//! What a plugin is to the gateway: a filter with phases, a verdict, a way to fail. It knows neither
//! WebAssembly nor routes nor upstreams: `wasm` implements [`Filter`], `proxy` runs chains of them.

pub mod audit;
pub mod breaker;
pub mod chain;
mod difference;
pub mod exchange;
pub mod headers;
mod identity;
pub mod interrupt;
pub mod rollout;
pub mod services;
pub mod split;

use std::{borrow::Cow, fmt, pin::Pin, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::sync::Notify;

use crate::{
    grpc,
    telemetry::numbers::{PHASES, PluginNumbers},
};
use exchange::Exchange;
pub use identity::Identity;
use services::Services;

/// One configured plugin on one worker. Only the phases it names are called.
pub trait Filter {
    fn phases(&self) -> Phases;
    fn request<'a>(&'a self, exchange: &'a mut Exchange) -> Call<'a, Verdict>;
    fn request_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict>;
    fn response<'a>(&'a self, exchange: &'a mut Exchange) -> Call<'a, Verdict>;
    fn response_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict>;
    fn log<'a>(&'a self, exchange: &'a mut Exchange, summary: &'a Summary) -> Call<'a, ()>;
    /// Begins what it does without requests; called once, when its worker has it.
    fn start(self: Rc<Self>) {}
    /// Keeps nothing warm from now on; requests that began with it still end on it.
    fn retire(&self);
    /// Gives up what it keeps warm where others wait for it; asked now and then.
    fn relieve(&self);
}

pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + 'a>>;

/// Makes a worker's [`Filter`]; shared by all workers through the snapshot.
pub trait Factory: Send + Sync {
    fn name(&self) -> &Arc<str>;
    /// Equal for equal plugin bytes, settings and config: a filter of the same identity may go on.
    fn identity(&self) -> u64;
    fn filter(&self, stock: &mut dyn Stock) -> Rc<dyn Filter>;
}

/// What a worker has for its filters.
pub trait Stock {
    /// Which worker it is.
    fn worker(&self) -> usize;
    fn services(&self) -> Services;
    /// The worker's sheet of a plugin.
    fn numbers(&self, plugin: &Arc<str>) -> Arc<PluginNumbers>;
    /// The filter that the worker has of this factory, or a new one.
    fn filter(&mut self, factory: &dyn Factory) -> Rc<dyn Filter>;
}

/// A stock for filters that no worker serves with: a plugin on trial, a bench.
#[derive(Default)]
pub struct Alone {
    numbers: Arc<PluginNumbers>,
}

impl Stock for Alone {
    fn worker(&self) -> usize {
        0
    }

    fn services(&self) -> Services {
        Services::none()
    }

    fn numbers(&self, _: &Arc<str>) -> Arc<PluginNumbers> {
        self.numbers.clone()
    }

    fn filter(&mut self, factory: &dyn Factory) -> Rc<dyn Filter> {
        factory.filter(self)
    }
}

/// The phases that a plugin implements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    pub request: bool,
    pub request_body: bool,
    pub response: bool,
    pub response_body: bool,
    pub log: bool,
}

impl Phases {
    pub fn intersection(self, other: Phases) -> Phases {
        Phases {
            request: self.request && other.request,
            request_body: self.request_body && other.request_body,
            response: self.response && other.response,
            response_body: self.response_body && other.response_body,
            log: self.log && other.log,
        }
    }

    pub fn union(self, other: Phases) -> Phases {
        Phases {
            request: self.request || other.request,
            request_body: self.request_body || other.request_body,
            response: self.response || other.response,
            response_body: self.response_body || other.response_body,
            log: self.log || other.log,
        }
    }

    /// Their names, in the order in which they run.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let has = [self.request, self.request_body, self.response, self.response_body, self.log];
        has.into_iter().zip(PHASES).filter_map(|(has, name)| has.then_some(name))
    }
}

/// A phase by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Request,
    RequestBody,
    Response,
    ResponseBody,
    Log,
}

impl Stage {
    pub const COUNT: usize = 5;
}

/// What a head phase decides.
#[derive(Debug, Default)]
pub enum Verdict {
    #[default]
    Next,
    Respond(Box<LocalResponse>),
    /// The client's connection ends without an answer.
    Close,
}

/// What a body phase decides about the piece it was given.
#[derive(Debug, Default)]
pub enum BodyVerdict {
    #[default]
    Pass,
    Replace(Bytes),
    Respond(Box<LocalResponse>),
    /// Nothing passes yet. The next piece goes to the plugin as ever; once this is notified, it is called
    /// with an empty one.
    Hold(Rc<Notify>),
    /// The message ends here, unfinished.
    Close,
}

impl Verdict {
    pub fn answer(&self) -> Option<&LocalResponse> {
        match self {
            Verdict::Next | Verdict::Close => None,
            Verdict::Respond(answer) => Some(answer),
        }
    }
}

impl BodyVerdict {
    pub fn answer(&self) -> Option<&LocalResponse> {
        match self {
            BodyVerdict::Respond(answer) => Some(answer),
            _ => None,
        }
    }
}

/// How much of a body a plugin asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    Peek(u32),
    Buffer(u32),
    Stream,
    /// As `Stream`, of a body whose length stays what the head says.
    Watch,
}

/// An answer that did not come from an upstream.
#[derive(Debug)]
pub struct LocalResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Without one, an error status gets the gateway's own error body.
    pub body: Option<Bytes>,
    /// Low-cardinality word for log, metrics and the error body.
    pub code: Cow<'static, str>,
    pub detail: Option<Cow<'static, str>>,
}

impl LocalResponse {
    /// The word for answers that have none of their own.
    pub const PLUGIN: &str = "plugin_response";

    pub fn error(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        LocalResponse {
            status,
            headers: HeaderMap::new(),
            body: None,
            code: Cow::Borrowed(code),
            detail: Some(Cow::Borrowed(detail)),
        }
    }

    /// Becomes the end of a call with this status, whose message is the body, or else the detail.
    pub fn end_call(&mut self, kind: grpc::Kind, status: u32) {
        let body = self.body.replace(Bytes::new());
        let detail = self.detail.as_deref().unwrap_or_default();
        grpc::end(&mut self.headers, kind, status, body.as_deref().unwrap_or(detail.as_bytes()));
        self.status = StatusCode::OK;
    }
}

/// Why a plugin gave no verdict. The text is for the log, never for the client.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The plugin returned an error; its instance goes on.
    Error(String),
    Trap(String),
    Deadline,
    Memory,
    /// No instance became free in time.
    Saturated,
    /// The breaker keeps the plugin out.
    Broken,
}

impl Failure {
    /// Label of the failure metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Error(_) => "error",
            Failure::Trap(_) => "trap",
            Failure::Deadline => "deadline",
            Failure::Memory => "memory",
            Failure::Saturated => "saturated",
            Failure::Broken => "broken",
        }
    }

    /// What the client of a closed plugin gets.
    pub fn response(&self) -> LocalResponse {
        let (status, code, detail) = match self {
            Failure::Deadline => {
                (StatusCode::INTERNAL_SERVER_ERROR, "plugin_deadline", "A plugin took too long.")
            }
            Failure::Saturated => (StatusCode::SERVICE_UNAVAILABLE, "plugin_saturated", "A plugin is busy."),
            Failure::Broken => {
                (StatusCode::SERVICE_UNAVAILABLE, "plugin_broken", "A plugin is out of order.")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "plugin_failed", "A plugin failed."),
        };
        LocalResponse::error(status, code, detail)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(text) => write!(f, "returned an error: {text}"),
            Failure::Trap(text) => write!(f, "trapped: {text}"),
            Failure::Deadline => f.write_str("ran longer than its time limit"),
            Failure::Memory => f.write_str("needed more memory than its limit"),
            Failure::Saturated => f.write_str("had no free instance in time"),
            Failure::Broken => f.write_str("is kept out by its breaker"),
        }
    }
}

/// What is known when an exchange is over.
#[derive(Clone, Debug)]
pub struct Summary {
    pub status: u16,
    pub code: Option<Cow<'static, str>>,
    pub duration: std::time::Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub upstream: Option<Arc<str>>,
    pub endpoint: Option<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::Failure;
    use crate::telemetry::numbers::FAILURES;

    #[test]
    fn every_failure_has_a_place_in_the_metrics() {
        let text = String::new;
        let failures = [
            Failure::Error(text()),
            Failure::Trap(text()),
            Failure::Deadline,
            Failure::Memory,
            Failure::Saturated,
            Failure::Broken,
        ];
        assert_eq!(failures.map(|failure| failure.reason()), FAILURES);
    }
}
