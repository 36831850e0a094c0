//! `http-call`: requests of the plugin's own. The worker makes them; the guest waits on its fiber.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header, uri::PathAndQuery};

use super::{
    bindings::wasmgate::plugin::http_call::{self, Failure, Keep, Kept, Outgoing},
    message,
};
use crate::{
    capability::{
        http_call as calls,
        kept::{self, Found, Step, Terms},
    },
    plugin::headers,
    wasm::store::Host,
};

/// Calls at once.
const MAX_CALLS: usize = 32;

type Lead = kept::Lead<calls::Answer, calls::Failure>;

impl http_call::Host for Host {
    async fn may_call(&mut self, upstream: String) -> bool {
        self.is_callable(&upstream)
    }

    async fn send(&mut self, request: Outgoing) -> Result<http_call::Answer, Failure> {
        let call = self.outgoing(request)?;
        let outcome = self.caller()?.call(call);
        let _waiting = self.waiting.begin(&self.clock);
        outcome.await.map_err(|_| Failure::Broken)?.map(answer).map_err(Failure::from)
    }

    async fn send_all(&mut self, requests: Vec<Outgoing>) -> Vec<Result<http_call::Answer, Failure>> {
        let mut under_way = Vec::with_capacity(requests.len());
        for (place, request) in requests.into_iter().enumerate() {
            let call = if place < MAX_CALLS { self.outgoing(request) } else { Err(Failure::Exhausted) };
            under_way.push(call.and_then(|call| Ok(self.caller()?.call(call))));
        }
        let _waiting = self.waiting.begin(&self.clock);
        let mut answers = Vec::with_capacity(under_way.len());
        for outcome in under_way {
            answers.push(match outcome {
                Ok(outcome) => {
                    outcome.await.unwrap_or(Err(calls::Failure::Broken)).map(answer).map_err(Failure::from)
                }
                Err(failure) => Err(failure),
            });
        }
        answers
    }

    async fn fetch(
        &mut self,
        key: String,
        request: Outgoing,
        keep: Keep,
        known: Option<u64>,
    ) -> Result<Kept, Failure> {
        let plugin = self.plugin.clone();
        let step = plugin.capabilities.answers.ask(&plugin.scope, &key, terms(&keep), Instant::now());
        let found = match step.ok_or(Failure::Invalid)? {
            Step::Have(found, lead) => {
                self.begin(lead, request, keep.only_success)?;
                found
            }
            Step::Failed(failure) => return Err(failure.into()),
            Step::Wait(mut waiting, lead) => {
                self.begin(lead, request, keep.only_success)?;
                let pause = self.waiting.begin(&self.clock);
                waiting.end().await;
                drop(pause);
                waiting.outcome(Instant::now()).unwrap_or(Err(calls::Failure::Broken))?
            }
        };
        Ok(of_kept(&found, known))
    }
}

impl Host {
    fn caller(&self) -> Result<&calls::Caller, Failure> {
        self.caller.as_ref().ok_or(Failure::Unknown)
    }

    /// Begins to fetch, where that falls to this one.
    fn begin(&self, lead: Option<Lead>, request: Outgoing, only_success: bool) -> Result<(), Failure> {
        let Some(lead) = lead else { return Ok(()) };
        let call = self.outgoing(request)?;
        self.caller()?.call_for(call, move |outcome| {
            let outcome = if only_success { outcome.and_then(calls::Answer::successful) } else { outcome };
            lead.done(outcome, Instant::now());
        });
        Ok(())
    }

    fn is_callable(&self, upstream: &str) -> bool {
        self.plugin.grants.callable.iter().any(|callable| **callable == *upstream)
    }

    /// The request, where the plugin may send it.
    fn outgoing(&self, outgoing: Outgoing) -> Result<calls::Outgoing, Failure> {
        let Outgoing { upstream, method, path_with_query, authority, headers, body, timeout_ms, max_body } =
            outgoing;
        if !self.is_callable(&upstream) {
            return Err(Failure::Unknown);
        }
        let method = Method::from_bytes(method.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
        let target = PathAndQuery::try_from(path_with_query).ok();
        let target = target.filter(|target| target.as_str().starts_with('/'));
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method.ok_or(Failure::Invalid)?;
        *request.uri_mut() = target.ok_or(Failure::Invalid)?.into();
        let mut map = HeaderMap::with_capacity(headers.len() + 2);
        for (name, value) in headers {
            headers::append(&mut map, &name, value).map_err(|_| Failure::Invalid)?;
        }
        if let Some(authority) = authority {
            let host = HeaderValue::try_from(authority).map_err(|_| Failure::Invalid)?;
            map.insert(header::HOST, host);
        }
        *request.headers_mut() = map;
        let timeout = Duration::from_millis(timeout_ms.into());
        let max_body = usize::try_from(max_body).unwrap_or(usize::MAX).min(self.plugin.limits.host_bytes);
        Ok(calls::Outgoing { upstream, request, timeout, max_body })
    }
}

fn answer(answer: calls::Answer) -> http_call::Answer {
    http_call::Answer {
        status: answer.status.as_u16(),
        headers: message::copy(&answer.headers),
        body: answer.body.into(),
    }
}

fn of_kept(found: &Found<calls::Answer>, known: Option<u64>) -> Kept {
    let calls::Answer { status, headers, body } = &*found.value;
    let answer = (known != Some(found.version)).then(|| http_call::Answer {
        status: status.as_u16(),
        headers: message::copy(headers),
        body: body.to_vec(),
    });
    Kept { version: found.version, age_ms: found.age.as_millis() as u64, answer }
}

fn terms(keep: &Keep) -> Terms {
    let millis = |count: u32| Duration::from_millis(count.into());
    Terms { fresh: millis(keep.fresh_ms), stale: millis(keep.stale_ms), negative: millis(keep.negative_ms) }
}

impl From<calls::Failure> for Failure {
    fn from(failure: calls::Failure) -> Self {
        match failure {
            calls::Failure::Unknown => Failure::Unknown,
            calls::Failure::Invalid => Failure::Invalid,
            calls::Failure::TimedOut => Failure::TimedOut,
            calls::Failure::Unreachable => Failure::Unreachable,
            calls::Failure::Broken => Failure::Broken,
            calls::Failure::TooLarge => Failure::TooLarge,
            calls::Failure::Exhausted => Failure::Exhausted,
            calls::Failure::Refused => Failure::Refused,
        }
    }
}
