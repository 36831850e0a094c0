//! Stops in a phase and goes on later: `x-do: PHASE:HOW`. It goes on with what a call answers, or at the end of the
//! body, or never.

use std::time::Duration;

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{
    ALL, Answer, REQUEST_BODY, REQUEST_HEADERS, RESPONSE_BODY, RESPONSE_HEADERS, add, close_stream,
    continue_stream, get_buffer, get_pairs, say,
};

#[derive(Default)]
pub struct Pauses {
    phase: String,
    how: String,
    resumed: bool,
}

impl Pauses {
    fn stop(&mut self, phase: &str, end: bool) -> Action {
        if self.phase != phase || self.resumed {
            return Action::Continue;
        }
        match self.how.as_str() {
            "call" | "local" | "close" | "read" => {
                self.call();
                Action::Pause
            }
            "inside" => {
                self.resumed = true;
                continue_stream(self.stream());
                Action::Pause
            }
            "ahead" => {
                self.resumed = true;
                continue_stream(self.stream());
                Action::Continue
            }
            "gather" if end => Action::Continue,
            _ => Action::Pause,
        }
    }

    fn call(&mut self) {
        let headers = vec![(":method", "GET"), (":path", "/ok"), (":authority", "call.test")];
        let called = self.dispatch_http_call("call", headers, None, vec![], Duration::from_secs(5));
        say(format!("dispatch_http_call = {}", called.map_or_else(|e| format!("{e:?}"), |_| "Ok".into())));
        // Called once, however often the body comes meanwhile.
        self.how = format!("{} waits", self.how);
    }

    fn stream(&self) -> u32 {
        u32::from(self.phase.starts_with("response"))
    }
}

impl Context for Pauses {
    fn on_http_call_response(&mut self, _: u32, _: usize, _: usize, _: usize) {
        let response = self.stream() == 1;
        let (headers, body) =
            if response { (RESPONSE_HEADERS, RESPONSE_BODY) } else { (REQUEST_HEADERS, REQUEST_BODY) };
        match self.how.as_str() {
            "read waits" => {
                get_pairs(headers);
                add(headers, "x-late", b"1");
                get_buffer(body, 0, ALL);
            }
            "local waits" => _ = Answer::default().send(),
            "close waits" => _ = close_stream(self.stream()),
            _ => {}
        }
        if matches!(self.how.as_str(), "call waits" | "read waits") {
            self.resumed = true;
            continue_stream(self.stream());
        }
    }
}

impl HttpContext for Pauses {
    fn on_http_request_headers(&mut self, _: usize, end: bool) -> Action {
        let wish = wish();
        let (phase, how) = wish.split_once(':').unwrap_or((&wish, ""));
        (self.phase, self.how) = (phase.to_owned(), how.to_owned());
        self.stop("request_headers", end)
    }

    fn on_http_request_body(&mut self, _: usize, end: bool) -> Action {
        self.stop("request_body", end)
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.stop("request_trailers", true)
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        self.stop("response_headers", end)
    }

    fn on_http_response_body(&mut self, _: usize, end: bool) -> Action {
        self.stop("response_body", end)
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.stop("response_trailers", true)
    }
}
