//! Traps, in the phase that its config names.

use std::time::Duration;

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use crate::host::say;

#[derive(Default)]
pub struct Root {
    phase: String,
}

struct Traps {
    phase: String,
}

fn trap(wanted: &str, phase: &str) {
    if wanted == phase {
        panic!("as asked");
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let config = self.get_plugin_configuration().unwrap_or_default();
        self.phase = String::from_utf8_lossy(&config).into_owned();
        // Only once, or each VM that takes the place of the last one would trap as well.
        if self.phase == "tick" && self.get_shared_data("trapped").0.is_none() {
            self.set_tick_period(Duration::from_millis(10));
        }
        true
    }

    fn on_tick(&mut self) {
        let _ = self.set_shared_data("trapped", Some(b"yes"), None);
        trap(&self.phase, "tick");
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        trap(&self.phase, "context_create");
        Some(Box::new(Traps { phase: self.phase.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Traps {
    fn on_http_call_response(&mut self, _: u32, _: usize, _: usize, _: usize) {
        trap(&self.phase, "http_call_response");
    }

    fn on_done(&mut self) -> bool {
        trap(&self.phase, "done");
        true
    }
}

impl HttpContext for Traps {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        trap(&self.phase, "request_headers");
        if self.phase == "http_call_response" {
            let headers = vec![(":method", "GET"), (":path", "/ok"), (":authority", "call.test")];
            let called = self.dispatch_http_call("call", headers, None, vec![], Duration::from_secs(5));
            say(format!("dispatch_http_call: {}", called.is_ok()));
            return Action::Pause;
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        trap(&self.phase, "request_body");
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        trap(&self.phase, "request_trailers");
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        trap(&self.phase, "response_headers");
        Action::Continue
    }

    fn on_http_response_body(&mut self, _: usize, _: bool) -> Action {
        trap(&self.phase, "response_body");
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        trap(&self.phase, "response_trailers");
        Action::Continue
    }

    fn on_log(&mut self) {
        trap(&self.phase, "log");
    }
}
