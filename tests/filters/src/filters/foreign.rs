//! Foreign functions: those that Envoy has, and one that nobody has.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{Bytes, REQUEST_HEADERS, call_foreign, get_property, replace, say};

pub struct Foreign;

/// A field of protobuf that holds bytes.
pub fn field(number: u8, value: &[u8]) -> Bytes {
    [&[number << 3 | 2, value.len() as u8], value].concat()
}

/// A field of protobuf that holds a number.
pub fn number(number: u8, value: u8) -> Bytes {
    vec![number << 3, value]
}

impl Context for Foreign {}

impl HttpContext for Foreign {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        match wish().as_str() {
            "compress" => compress(),
            "route" => {
                replace(REQUEST_HEADERS, "x-route", b"other");
                call_foreign("clear_route_cache", b"");
            }
            "state" => {
                let path = field(1, b"envoy.upstream.dynamic_port");
                call_foreign("set_envoy_filter_state", &[path, field(2, b"1234")].concat());
                call_foreign(
                    "set_envoy_filter_state",
                    &[field(1, b"nothing.known"), field(2, b"1")].concat(),
                );
                call_foreign("set_envoy_filter_state", b"no protobuf");
                get_property(&["filter_state", "envoy.upstream.dynamic_port"]);
            }
            "expression" => expression(),
            "signature" => {
                call_foreign("verify_signature", b"");
                call_foreign("sign", b"");
            }
            _ => {
                call_foreign("none", b"argument");
                call_foreign("", b"");
                call_foreign("resolve_lua", b"");
            }
        }
        Action::Continue
    }
}

fn compress() {
    let text = [b'a'; 1000];
    let Some(small) = call_foreign("compress", &text) else { return };
    say(format!("smaller: {}", small.len() < 100));
    if let Some(large) = call_foreign("uncompress", &small) {
        say(format!("the same: {}", large == text));
    }
    call_foreign("uncompress", b"this is no zlib");
    call_foreign("uncompress", b"");
    if let Some(empty) = call_foreign("compress", b"") {
        call_foreign("uncompress", &empty);
    }
}

fn expression() {
    let Some(token) = call_foreign("expr_create", b"request.path") else { return };
    call_foreign("expr_evaluate", &token);
    call_foreign("expr_delete", &token);
    call_foreign("expr_evaluate", &token);
    call_foreign("expr_create", b"((");
}
