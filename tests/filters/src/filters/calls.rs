//! HTTP calls to other upstreams, from every phase: `x-do: PHASE:WHICH,WHICH...`. The phase that called goes on when
//! all its answers are there.

use std::time::Duration;

use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType, Status},
};

use super::wish;
use crate::host::{
    ALL, CALL_BODY, CALL_HEADERS, CALL_TRAILERS, begin, continue_stream, get_buffer, get_pairs, get_status,
    refused_http_call, say,
};

/// Calls when it is configured and with its first tick. What configures it is also what it calls.
pub struct Root;

#[derive(Default)]
struct Calls {
    phase: String,
    which: String,
    /// Tokens of the calls that are under way, with what was called.
    waiting: Vec<(u32, String)>,
}

const METHOD: (&str, &str) = (":method", "GET");
const AUTHORITY: (&str, &str) = (":authority", "call.test");

/// Begins one call.
fn call(which: &str) -> Option<u32> {
    let second = Duration::from_secs(5);
    let get = |path| vec![METHOD, (":path", path), AUTHORITY, ("x-call", "1")];
    let begin =
        |upstream, headers, timeout| hostcalls::dispatch_http_call(upstream, headers, None, vec![], timeout);
    let called = match which {
        "post" => hostcalls::dispatch_http_call(
            "call",
            vec![
                (":method", "POST"),
                (":path", "/echo"),
                (":authority", "call.test"),
                (":scheme", "http"),
                ("X-Upper", "Value"),
                ("x-twice", "1"),
                ("x-twice", "2"),
            ],
            Some(b"a body"),
            vec![],
            second,
        ),
        "post-trailers" => hostcalls::dispatch_http_call(
            "call",
            vec![(":method", "POST"), (":path", "/echo"), AUTHORITY],
            Some(b"a body"),
            vec![("x-t", "1")],
            second,
        ),
        "unknown" => begin("nowhere", get("/ok"), second),
        "no-method" => begin("call", vec![(":path", "/ok"), AUTHORITY], second),
        "no-path" => begin("call", vec![METHOD, AUTHORITY], second),
        "no-authority" => begin("call", vec![METHOD, (":path", "/ok")], second),
        "host" => begin("call", vec![METHOD, (":path", "/ok"), ("host", "call.test")], second),
        "timeout" => begin("call", get("/never"), Duration::from_millis(50)),
        "refused" => begin("refused", get("/ok"), second),
        "hidden-refused" => begin("refused", get("/ok"), Duration::ZERO),
        "negative" => {
            let headers: [(&[u8], &[u8]); 3] =
                [(b":method", b"GET"), (b":path", b"/ok"), (b":authority", b"call.test")];
            refused_http_call("call", &headers, u32::MAX);
            return None;
        }
        path => begin("call", get(&path_of(path)), second),
    };
    let told = match called {
        Ok(_) => "Ok".to_owned(),
        Err(status) => format!("{status:?}"),
    };
    say(format!("dispatch_http_call({which}) = {told}"));
    called.or(Err(Status::BadArgument)).ok()
}

/// "status/503" is a path without its slash.
fn path_of(which: &str) -> String {
    format!("/{which}")
}

/// Tells all that came.
fn tell(which: &str, headers: usize) {
    say(format!("answer of {which}"));
    get_pairs(CALL_HEADERS);
    get_buffer(CALL_BODY, 0, ALL);
    get_pairs(CALL_TRAILERS);
    // Otherwise it is that of some other call.
    if headers == 0 {
        get_status();
    }
}

impl Calls {
    /// The stream waits for its calls.
    fn waits(&self) -> bool {
        !self.phase.contains("unwaited")
    }

    /// A body comes in pieces, and what it is to wait for is called once.
    fn body(&mut self, phase: &str) -> Action {
        if self.waiting.is_empty() || !self.waits() { self.begin(phase) } else { Action::Pause }
    }

    fn begin(&mut self, phase: &str) -> Action {
        if self.phase != phase {
            return Action::Continue;
        }
        self.phase = format!("after {phase}");
        for which in self.which.split(',') {
            if let Some(token) = call(which) {
                self.waiting.push((token, which.to_owned()));
            }
        }
        if self.waiting.is_empty() || !self.waits() { Action::Continue } else { Action::Pause }
    }
}

impl Context for Calls {
    fn on_http_call_response(&mut self, token: u32, headers: usize, _: usize, _: usize) {
        let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == token) else {
            return say("an answer to nothing");
        };
        let (_, which) = self.waiting.remove(at);
        tell(&which, headers);
        // The answer of a call begins another one.
        if which == "nested" {
            self.phase = "nested".to_owned();
            self.which = "ok".to_owned();
            self.begin("nested");
        }
        if self.waiting.is_empty() && self.waits() {
            // Which of several answers is the last one is not to be told by this.
            begin("all answers are there");
            continue_stream(u32::from(self.phase.contains("response")));
        }
    }

    fn on_done(&mut self) -> bool {
        self.begin("done");
        true
    }
}

impl HttpContext for Calls {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let wish = wish();
        let (phase, which) = wish.split_once(':').unwrap_or((&wish, ""));
        (self.phase, self.which) = (phase.to_owned(), which.to_owned());
        self.begin("unwaited");
        self.begin("request_headers")
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        self.body("request_body")
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.begin("request_trailers")
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.begin("response_headers")
    }

    fn on_http_response_body(&mut self, _: usize, _: bool) -> Action {
        self.body("response_body")
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.begin("response_trailers")
    }

    fn on_log(&mut self) {
        self.begin("log");
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, _: u32, headers: usize, _: usize, _: usize) {
        tell("the root's", headers);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        if self.get_plugin_configuration().is_some_and(|config| config == b"root") {
            self.set_tick_period(Duration::from_millis(50));
        }
        true
    }

    fn on_tick(&mut self) {
        self.set_tick_period(Duration::ZERO);
        call("ok");
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Calls::default()))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
