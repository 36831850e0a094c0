//! Properties that filters set: what becomes of them, and how they are declared.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::{
    foreign::{field, number},
    wish,
};
use crate::host::{call_foreign, get_property, set_property};

pub struct State;

impl Context for State {}

impl HttpContext for State {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        match wish().as_str() {
            "declared" => declared(),
            _ => {
                get_property(&["own"]);
                set_property(&["own"], b"one");
                get_property(&["own"]);
                get_property(&["filter_state", "wasm.own"]);
                set_property(&["own"], b"two");
                get_property(&["own"]);
                set_property(&["of", "two"], b"parts");
                get_property(&["of", "two"]);
                get_property(&["of"]);
                set_property(&["empty"], b"");
                get_property(&["empty"]);
                set_property(&["request", "path"], b"/elsewhere");
                get_property(&["request", "path"]);
                set_property(&["bytes"], &[0, 255, 10]);
                get_property(&["bytes"]);
            }
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        get_property(&["own"]);
        set_property(&["own"], b"three");
        get_property(&["own"]);
        Action::Continue
    }

    fn on_log(&mut self) {
        get_property(&["own"]);
        set_property(&["own"], b"four");
        get_property(&["own"]);
    }
}

fn declared() {
    let read_only = [field(1, b"fixed"), number(2, 1), number(3, 1)].concat();
    call_foreign("declare_property", &read_only);
    set_property(&["fixed"], b"once");
    set_property(&["fixed"], b"twice");
    get_property(&["fixed"]);
    call_foreign("declare_property", &read_only);
    call_foreign("declare_property", &[field(1, b"text"), number(3, 1)].concat());
    set_property(&["text"], b"words");
    get_property(&["text"]);
    call_foreign("declare_property", b"no protobuf");
}
