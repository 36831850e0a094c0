//! Reads, changes and makes trailers: `x-do: SIDE:WHAT`.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{
    REQUEST_TRAILERS, RESPONSE_TRAILERS, add, get_pairs, get_value, map_size, remove, replace, set_pairs,
};

#[derive(Default)]
pub struct Trailers {
    wish: String,
}

impl Context for Trailers {}

impl Trailers {
    fn change(&self, map: u32, side: &str) {
        if let Some(what) = self.wish.strip_prefix(side) {
            change(map, what);
        }
    }

    /// The last moment at which a message without trailers can be given some.
    fn make(&self, map: u32, wish: &str) {
        if self.wish == wish {
            get_value(map, "x-made");
            add(map, "x-made", b"1");
            add(map, "x-made", b"2");
            get_pairs(map);
        }
    }
}

impl HttpContext for Trailers {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.wish = wish();
        Action::Continue
    }

    fn on_http_request_body(&mut self, _: usize, end: bool) -> Action {
        if end {
            self.make(REQUEST_TRAILERS, "request:make");
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.change(REQUEST_TRAILERS, "request:");
        Action::Continue
    }

    fn on_http_response_body(&mut self, _: usize, end: bool) -> Action {
        if end {
            self.make(RESPONSE_TRAILERS, "response:make");
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.change(RESPONSE_TRAILERS, "response:");
        Action::Continue
    }
}

fn change(map: u32, what: &str) {
    match what {
        "get" => {
            for name in ["x-t", "X-T", "x-u", "none"] {
                get_value(map, name);
            }
            map_size(map);
        }
        "change" => {
            add(map, "x-new", b"1");
            add(map, "x-t", b"third");
            replace(map, "x-u", b"other");
            remove(map, "none");
        }
        "replace" => _ = replace(map, "x-t", b"one"),
        "remove" => _ = remove(map, "x-t"),
        "set" => _ = set_pairs(map, &[(b"x-b", b"2"), (b"x-a", b"1"), (b"x-b", b"3")]),
        "clear" => _ = set_pairs(map, &[]),
        _ => {}
    }
    get_pairs(map);
}
