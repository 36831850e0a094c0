//! gRPC streams: `x-do: WHICH`. The request goes on when the stream has ended.

use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{
    ALL, GRPC_INITIAL, GRPC_MESSAGE, GRPC_TRAILING, continue_stream, get_buffer, get_pairs, get_status,
    get_value, grpc_cancel, grpc_close, grpc_send, say,
};

#[derive(Default)]
pub struct Streams {
    wish: String,
    token: u32,
    messages: usize,
}

impl Context for Streams {
    fn on_grpc_stream_initial_metadata(&mut self, _: u32, _: u32) {
        get_pairs(GRPC_INITIAL);
        get_value(GRPC_INITIAL, "x-begin");
    }

    fn on_grpc_stream_message(&mut self, _: u32, _: usize) {
        get_buffer(GRPC_MESSAGE, 0, ALL);
        self.messages += 1;
        match (self.wish.as_str(), self.messages) {
            ("talk", 1) => _ = grpc_send(self.token, b"second", false),
            ("talk", 2) => _ = grpc_close(self.token),
            ("cancel-later", 1) => {
                grpc_cancel(self.token);
                grpc_send(self.token, b"too late", false);
                continue_stream(0);
            }
            _ => {}
        }
    }

    fn on_grpc_stream_trailing_metadata(&mut self, _: u32, _: u32) {
        get_pairs(GRPC_TRAILING);
        get_value(GRPC_TRAILING, "x-end");
    }

    fn on_grpc_stream_close(&mut self, _: u32, _: u32) {
        get_status();
        grpc_send(self.token, b"too late", false);
        grpc_close(self.token);
        continue_stream(0);
    }
}

impl HttpContext for Streams {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.wish = wish();
        let (upstream, method) = match self.wish.as_str() {
            "unknown" => ("nowhere", "Stream"),
            "refused" => ("refused", "Stream"),
            "Many" | "FailLater" | "Fail" | "Http" | "Reset" => ("grpc", self.wish.as_str()),
            _ => ("grpc", "Stream"),
        };
        let metadata: Vec<(&str, &[u8])> = vec![("x-meta", b"1")];
        match hostcalls::open_grpc_stream(upstream, "test.Test", method, metadata) {
            Err(status) => {
                say(format!("open_grpc_stream({}) = {status:?}", self.wish));
                Action::Continue
            }
            Ok(token) => {
                say(format!("open_grpc_stream({}) = Ok", self.wish));
                self.token = token;
                self.send();
                if self.wish == "cancel" { Action::Continue } else { Action::Pause }
            }
        }
    }
}

impl Streams {
    fn send(&self) {
        let token = self.token;
        match self.wish.as_str() {
            "cancel" => {
                grpc_send(token, b"first", false);
                grpc_cancel(token);
                grpc_send(token, b"too late", false);
                grpc_cancel(token);
            }
            "close" => {
                grpc_send(token, b"first", false);
                grpc_close(token);
                grpc_send(token, b"too late", false);
            }
            "end" => _ = grpc_send(token, b"only", true),
            "empty" => _ = grpc_send(token, b"", true),
            _ => _ = grpc_send(token, b"first", false),
        }
    }
}
