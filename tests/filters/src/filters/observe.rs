//! Tells every callback, and all pairs of every map that comes with one.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use crate::host::{REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS, get_pairs};

pub struct Observe;

impl Context for Observe {}

impl HttpContext for Observe {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        get_pairs(REQUEST_HEADERS);
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        get_pairs(REQUEST_TRAILERS);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        get_pairs(RESPONSE_HEADERS);
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        get_pairs(RESPONSE_TRAILERS);
        Action::Continue
    }
}
