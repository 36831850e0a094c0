//! `types`: between the guest's words and the gateway's.

use http::HeaderMap;

use super::bindings::wasmgate::plugin::types::{self, Error};
use crate::{
    plugin::{
        self, LocalResponse,
        exchange::final_status,
        headers::{self, Refusal},
    },
    wasm::store::Host,
};

impl types::Host for Host {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::InvalidName => Error::InvalidName,
            Refusal::InvalidValue => Error::InvalidValue,
            Refusal::TooLarge => Error::TooLarge,
            Refusal::Forbidden => Error::Forbidden,
            Refusal::Immutable => Error::Immutable,
            Refusal::Unknown => Error::Unknown,
            Refusal::Exhausted => Error::Exhausted,
        }
    }
}

/// Checks an answer of a guest; the text says what is wrong with it.
pub fn local_response(answer: types::LocalResponse) -> Result<Box<LocalResponse>, String> {
    let status = final_status(answer.status)
        .ok_or_else(|| format!("answered with status {}, not one of 200 to 599", answer.status))?;
    let mut map = HeaderMap::with_capacity(answer.headers.len());
    for (name, value) in answer.headers {
        headers::append(&mut map, &name, value)
            .map_err(|refusal| format!("answered with the header {name:?}: {refusal:?}"))?;
    }
    Ok(Box::new(LocalResponse {
        status,
        headers: map,
        body: answer.body.map(Into::into),
        code: answer.code.map_or("plugin_response".into(), Into::into),
        detail: answer.detail.map(Into::into),
    }))
}

pub fn verdict(verdict: types::Verdict) -> Result<plugin::Verdict, String> {
    Ok(match verdict {
        types::Verdict::Next => plugin::Verdict::Next,
        types::Verdict::Respond(answer) => plugin::Verdict::Respond(local_response(answer)?),
    })
}

pub fn body_verdict(verdict: types::BodyVerdict) -> Result<plugin::BodyVerdict, String> {
    Ok(match verdict {
        types::BodyVerdict::Pass => plugin::BodyVerdict::Pass,
        types::BodyVerdict::Replace(bytes) => plugin::BodyVerdict::Replace(bytes.into()),
        types::BodyVerdict::Respond(answer) => plugin::BodyVerdict::Respond(local_response(answer)?),
    })
}

pub fn phases(phases: types::Phases) -> plugin::Phases {
    plugin::Phases {
        request: phases.contains(types::Phases::REQUEST),
        request_body: phases.contains(types::Phases::REQUEST_BODY),
        response: phases.contains(types::Phases::RESPONSE),
        response_body: phases.contains(types::Phases::RESPONSE_BODY),
        log: phases.contains(types::Phases::LOG),
    }
}

pub fn summary(summary: &plugin::Summary) -> types::Summary {
    types::Summary {
        status: summary.status,
        code: summary.code.as_deref().map(str::to_owned),
        duration_us: summary.duration.as_micros() as u64,
        bytes_in: summary.bytes_in,
        bytes_out: summary.bytes_out,
        upstream: summary.upstream.as_deref().map(str::to_owned),
        endpoint: summary.endpoint.as_deref().map(str::to_owned),
    }
}
