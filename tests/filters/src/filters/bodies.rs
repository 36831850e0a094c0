//! Reads and changes bodies: `x-do: SIDE:WHAT`. Without "stream-" in front, the whole body is gathered first.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{
    ALL, REQUEST_BODY, REQUEST_HEADERS, RESPONSE_BODY, RESPONSE_HEADERS, buffer_status, get_buffer, remove,
    set_buffer,
};

#[derive(Default)]
pub struct Bodies {
    wish: String,
    chunks: usize,
}

impl Bodies {
    fn is_for(&self, side: &str) -> bool {
        self.wish.starts_with(side)
    }

    fn body(&mut self, side: &str, buffer: u32, size: usize, end: bool) -> Action {
        let Some(what) = self.wish.strip_prefix(side) else { return Action::Continue };
        if let Some(what) = what.strip_prefix("stream-") {
            self.chunks += 1;
            stream(buffer, what, size, end, self.chunks);
            return Action::Continue;
        }
        if !end {
            return Action::Pause;
        }
        change(buffer, what);
        Action::Continue
    }
}

impl Context for Bodies {}

impl HttpContext for Bodies {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.wish = wish();
        if self.is_for("request:") && !self.wish.ends_with("-keeping-length") {
            remove(REQUEST_HEADERS, "content-length");
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        self.body("request:", REQUEST_BODY, size, end)
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if self.is_for("response:") && !self.wish.ends_with("-keeping-length") {
            remove(RESPONSE_HEADERS, "content-length");
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        self.body("response:", RESPONSE_BODY, size, end)
    }
}

/// On "0123456789" mostly.
fn change(buffer: u32, what: &str) {
    match what {
        "get" => {
            buffer_status(buffer);
            for (start, max) in
                [(0, 4), (3, 4), (0, ALL), (8, 100), (10, 1), (100, 1), (0, 0), (ALL, ALL), (3, ALL)]
            {
                get_buffer(buffer, start, max);
            }
        }
        "prepend" => _ = set_buffer(buffer, 0, 0, b"<<"),
        "append" => _ = set_buffer(buffer, ALL, 0, b">>"),
        "append-at-end" => _ = set_buffer(buffer, 10, 0, b">>"),
        "append-with-size" => _ = set_buffer(buffer, 10, 5, b">>"),
        "replace" | "replace-keeping-length" => _ = set_buffer(buffer, 0, ALL, b"something else"),
        "replace-exactly" => _ = set_buffer(buffer, 0, 10, b"else"),
        "same-keeping-length" => _ = set_buffer(buffer, 0, 10, b"9876543210"),
        "front" => _ = set_buffer(buffer, 0, 3, b"abc"),
        "middle" => _ = set_buffer(buffer, 3, 2, b"##"),
        "insert" => _ = set_buffer(buffer, 3, 0, b"##"),
        "tail" => _ = set_buffer(buffer, 8, ALL, b"##"),
        "clear" => _ = set_buffer(buffer, 0, ALL, b""),
        "grow" => _ = set_buffer(buffer, ALL, 0, &vec![b'g'; 65_536]),
        "several" => {
            set_buffer(buffer, 0, ALL, b"one");
            set_buffer(buffer, ALL, 0, b" two");
            set_buffer(buffer, 0, 0, b"zero ");
            set_buffer(buffer, 0, 4, b"null");
        }
        _ => {}
    }
    if !what.contains("grow") {
        get_buffer(buffer, 0, ALL);
    }
}

fn stream(buffer: u32, what: &str, size: usize, end: bool, chunk: usize) {
    match what {
        "upper" if size > 0 => {
            // Not told: how a body is cut into chunks differs from run to run.
            let chunk = proxy_wasm::hostcalls::get_buffer(side(buffer), 0, size);
            let upper = chunk.ok().flatten().unwrap_or_default().to_ascii_uppercase();
            let _ = proxy_wasm::hostcalls::set_buffer(side(buffer), 0, size, &upper);
        }
        "drop" => {
            let _ = proxy_wasm::hostcalls::set_buffer(side(buffer), 0, ALL, b"");
        }
        "begin" if chunk == 1 => _ = set_buffer(buffer, 0, 0, b"<<"),
        "end" if end => _ = set_buffer(buffer, ALL, 0, b">>"),
        _ => {}
    }
}

fn side(buffer: u32) -> proxy_wasm::types::BufferType {
    match buffer {
        REQUEST_BODY => proxy_wasm::types::BufferType::HttpRequestBody,
        _ => proxy_wasm::types::BufferType::HttpResponseBody,
    }
}
