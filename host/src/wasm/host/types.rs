//! `types`: between the guest's words and the gateway's.

use super::bindings::wasmgate::plugin::types::{self, Error};
use crate::{
    plugin::{self, headers::Refusal},
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
