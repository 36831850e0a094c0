//! Answers itself, in any phase: `x-do: PHASE:WHAT`.

use std::time::Duration;

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{
    ALL, Answer, RESPONSE_BODY, RESPONSE_HEADERS, continue_stream, get_buffer, get_pairs, get_property, say,
};

#[derive(Default)]
pub struct Locals {
    phase: String,
    what: String,
    answered: bool,
}

impl Locals {
    fn act(&mut self, phase: &str) -> Action {
        if self.phase != phase || self.answered {
            return Action::Continue;
        }
        self.answered = true;
        match self.what.as_str() {
            "plain" => _ = Answer::default().send(),
            "empty" => _ = Answer { status: 401, body: b"", ..Answer::default() }.send(),
            "headers" => _ = Answer { headers: HEADERS, ..Answer::default() }.send(),
            "details" => _ = Answer { details: "no entry for you", ..Answer::default() }.send(),
            "grpc" => {
                _ = Answer { status: 200, grpc: 7, body: b"not \xc3\xa4 you", ..Answer::default() }.send()
            }
            "grpc-unknown" => _ = Answer { status: 200, grpc: 99, ..Answer::default() }.send(),
            "large" => _ = Answer { status: 200, body: &vec![b'x'; 100_000], ..Answer::default() }.send(),
            "length" => {
                _ = Answer { headers: &[(b"content-length", b"1")], ..Answer::default() }.send();
            }
            "status-header" => _ = Answer { headers: &[(b":status", b"500")], ..Answer::default() }.send(),
            "twice" => {
                Answer::default().send();
                Answer { status: 404, body: b"second", ..Answer::default() }.send();
            }
            "and-continue" => {
                Answer::default().send();
                continue_stream(0);
            }
            "continue" => {
                Answer::default().send();
                return Action::Continue;
            }
            number => {
                _ = Answer { status: number.parse().unwrap_or_default(), ..Answer::default() }.send();
            }
        }
        Action::Pause
    }

    fn call(&self) {
        let headers = vec![(":method", "GET"), (":path", "/ok"), (":authority", "call.test")];
        let called = self.dispatch_http_call("call", headers, None, vec![], Duration::from_secs(5));
        say(format!("dispatch_http_call: {}", called.is_ok()));
    }
}

const HEADERS: &[(&[u8], &[u8])] = &[
    (b"x-why", b"because"),
    (b"set-cookie", b"a=1"),
    (b"set-cookie", b"b=2"),
    (b"content-type", b"application/x-no"),
    (b"X-Mixed", b"Case"),
];

impl Context for Locals {
    fn on_http_call_response(&mut self, _: u32, _: usize, _: usize, _: usize) {
        self.act("call");
    }

    fn on_done(&mut self) -> bool {
        self.act("done");
        true
    }
}

impl HttpContext for Locals {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let wish = wish();
        let (phase, what) = wish.split_once(':').unwrap_or((&wish, ""));
        (self.phase, self.what) = (phase.to_owned(), what.to_owned());
        if phase == "call" {
            self.call();
            return Action::Pause;
        }
        self.act("request_headers")
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        self.act("request_body")
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.act("request_trailers")
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        get_pairs(RESPONSE_HEADERS);
        self.act("response_headers")
    }

    fn on_http_response_body(&mut self, _: usize, end: bool) -> Action {
        if end && self.answered {
            get_buffer(RESPONSE_BODY, 0, ALL);
        }
        self.act("response_body")
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.act("response_trailers")
    }

    fn on_log(&mut self) {
        get_property(&["response", "code_details"]);
        self.act("log");
    }
}
