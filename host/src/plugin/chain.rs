//! A route's plugins in order: forward for the request, reversed for the response from the last
//! plugin that saw the request. Decides what a failure means; knows nothing of bodies in flight.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;

use super::{
    BodyMode, BodyVerdict, Failure, Filter, LocalResponse, Phases, Stage, Summary, Verdict, audit,
    exchange::Exchange,
};
use crate::{
    config::FailurePolicy,
    telemetry::{
        audit::Audit,
        numbers::{PHASES, PluginNumbers},
    },
};

/// One use of a plugin in a chain.
pub struct Use {
    pub name: Arc<str>,
    pub filter: Rc<dyn Filter>,
    pub policy: FailurePolicy,
    /// Where its decisions are written, if they are.
    pub audit: Option<Audit>,
    /// Counts every failure, whatever the policy.
    pub numbers: Arc<PluginNumbers>,
}

/// A wish for the body, by the plugin's place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    pub plugin: usize,
    pub mode: BodyMode,
}

/// What a head phase of the whole chain came to.
pub enum Outcome {
    /// The plugins that want the body, in the order in which it reaches them.
    Next(Vec<Tap>),
    Respond(Box<LocalResponse>),
    /// The client's connection ends without an answer.
    Close,
}

#[derive(Default)]
pub struct Chain {
    uses: Vec<Use>,
    /// Places of the plugins that have the phase.
    request: Vec<usize>,
    response: Vec<usize>,
    log: Vec<usize>,
    /// Whether any phase after the request's looks at it.
    looks_back: bool,
}

impl Chain {
    pub fn new(uses: Vec<Use>) -> Self {
        let with = |has: fn(Phases) -> bool| -> Vec<usize> {
            let places = uses.iter().enumerate();
            places.filter(|(_, u)| has(u.filter.phases())).map(|(i, _)| i).collect()
        };
        let (request, response, log) = (with(|p| p.request), with(|p| p.response), with(|p| p.log));
        let looks_back =
            !response.is_empty() || !log.is_empty() || uses.iter().any(|u| u.filter.phases().request_body);
        Chain { request, response, log, looks_back, uses }
    }

    /// Whether the request's head is needed after it was sent.
    pub fn looks_back(&self) -> bool {
        self.looks_back
    }

    /// Whether a plugin may change the request's head.
    pub fn has_request(&self) -> bool {
        !self.request.is_empty()
    }

    pub fn has_log(&self) -> bool {
        !self.log.is_empty()
    }

    /// Forward, until a plugin answers.
    pub async fn request(&self, exchange: &mut Exchange) -> Outcome {
        let mut taps = Vec::new();
        for &place in &self.request {
            let plugin = &self.uses[place];
            exchange.seen = place + 1;
            plugin.begin(exchange, Stage::Request, place);
            let verdict = plugin.filter.request(exchange).await;
            let mode = exchange.body_mode.take();
            match plugin.settle(verdict, Stage::Request, place, exchange) {
                Verdict::Next => taps.extend(plugin.request_tap(place, mode)),
                Verdict::Respond(response) => return Outcome::Respond(response),
                Verdict::Close => return Outcome::Close,
            }
        }
        exchange.seen = self.uses.len();
        Outcome::Next(taps)
    }

    /// Reversed, from the last plugin that saw the request; none where one of them closed. An answer
    /// replaces the response for the plugins before; `write` puts it into the exchange.
    pub async fn response(
        &self,
        exchange: &mut Exchange,
        mut write: impl FnMut(&mut Exchange, Box<LocalResponse>),
    ) -> Option<Vec<Tap>> {
        let mut taps = Vec::new();
        for &place in self.response.iter().rev() {
            if place >= exchange.seen || exchange.failed.contains(&place) {
                continue;
            }
            let plugin = &self.uses[place];
            plugin.begin(exchange, Stage::Response, place);
            let verdict = plugin.filter.response(exchange).await;
            let mode = exchange.body_mode.take();
            match plugin.settle(verdict, Stage::Response, place, exchange) {
                Verdict::Next => taps.extend(plugin.response_tap(place, mode)),
                Verdict::Respond(response) => {
                    taps.clear();
                    write(exchange, response);
                }
                Verdict::Close => return None,
            }
        }
        Some(taps)
    }

    pub async fn request_body(
        &self,
        place: usize,
        exchange: &mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> BodyVerdict {
        let plugin = &self.uses[place];
        if exchange.failed.contains(&place) {
            return BodyVerdict::Pass;
        }
        plugin.begin(exchange, Stage::RequestBody, place);
        let verdict = plugin.filter.request_body(exchange, chunk, end).await;
        plugin.settle(verdict, Stage::RequestBody, place, exchange)
    }

    pub async fn response_body(
        &self,
        place: usize,
        exchange: &mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> BodyVerdict {
        let plugin = &self.uses[place];
        if exchange.failed.contains(&place) {
            return BodyVerdict::Pass;
        }
        plugin.begin(exchange, Stage::ResponseBody, place);
        let verdict = plugin.filter.response_body(exchange, chunk, end).await;
        plugin.settle(verdict, Stage::ResponseBody, place, exchange)
    }

    /// Every plugin with a log phase, forward, whether it saw the request or not.
    pub async fn log(&self, exchange: &mut Exchange, summary: &Summary) {
        for &place in &self.log {
            let plugin = &self.uses[place];
            plugin.begin(exchange, Stage::Log, place);
            let result = plugin.filter.log(exchange, summary).await;
            end(exchange, &result);
            match result {
                // It was counted with the phase before.
                Ok(()) | Err(Failure::Broken) => {}
                Err(failure) => plugin.count(Stage::Log, &failure),
            }
        }
    }
}

fn end<V>(exchange: &mut Exchange, result: &Result<V, Failure>) {
    if let Some(trace) = &mut exchange.trace {
        trace.end_call(result.as_ref().err().map(Failure::to_string));
    }
}

impl Use {
    /// A failure under the open policy is as if the plugin had done nothing; under the closed one it is an
    /// answer.
    fn settle<V: Settled>(
        &self,
        verdict: Result<V, Failure>,
        stage: Stage,
        place: usize,
        exchange: &mut Exchange,
    ) -> V {
        end(exchange, &verdict);
        if !exchange.account.is_empty() {
            self.audit(exchange, verdict.as_ref().ok());
        }
        let failure = match verdict {
            Ok(verdict) => return verdict,
            Err(failure) => failure,
        };
        self.count(stage, &failure);
        exchange.failed.push(place);
        match self.policy {
            FailurePolicy::Open => V::default(),
            FailurePolicy::Closed => V::from(Box::new(failure.response())),
        }
    }

    /// Whatever a plugin said that failed, it has decided nothing.
    fn audit<V: Settled>(&self, exchange: &mut Exchange, verdict: Option<&V>) {
        let account = std::mem::take(&mut exchange.account);
        if let Some(verdict) = verdict {
            exchange.account = account.passed_on();
            audit::record(self, exchange, account, verdict.answered());
        }
    }

    /// The plugin is called: where the request is recorded, this begins a span.
    fn begin(&self, exchange: &mut Exchange, stage: Stage, place: usize) {
        exchange.place = place;
        if let Some(trace) = &mut exchange.trace {
            trace.begin_call(&self.name, PHASES[stage as usize]);
        }
    }

    fn request_tap(&self, plugin: usize, mode: Option<BodyMode>) -> Option<Tap> {
        let mode = mode.filter(|_| self.filter.phases().request_body)?;
        Some(Tap { plugin, mode })
    }

    fn response_tap(&self, plugin: usize, mode: Option<BodyMode>) -> Option<Tap> {
        let mode = mode.filter(|_| self.filter.phases().response_body)?;
        Some(Tap { plugin, mode })
    }

    fn count(&self, stage: Stage, failure: &Failure) {
        self.numbers.failed(stage as usize, failure.reason(), failure.to_string());
        // The breaker and the pool have said so once; a line per request would drown the log.
        if !matches!(failure, Failure::Broken | Failure::Saturated) {
            tracing::warn!(plugin = &*self.name, "the plugin {failure}");
        }
    }
}

/// The verdict of a phase, also of one that failed.
trait Settled: Default + From<Box<LocalResponse>> {
    fn answered(&self) -> Option<&LocalResponse>;
}

impl Settled for Verdict {
    fn answered(&self) -> Option<&LocalResponse> {
        self.answer()
    }
}

impl Settled for BodyVerdict {
    fn answered(&self) -> Option<&LocalResponse> {
        self.answer()
    }
}

impl From<Box<LocalResponse>> for Verdict {
    fn from(response: Box<LocalResponse>) -> Self {
        Verdict::Respond(response)
    }
}

impl From<Box<LocalResponse>> for BodyVerdict {
    fn from(response: Box<LocalResponse>) -> Self {
        BodyVerdict::Respond(response)
    }
}
