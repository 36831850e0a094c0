//! Continues and closes streams, of any direction and in any phase: `x-do: PHASE:WHAT:DIRECTION`.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{close_stream, continue_stream};

#[derive(Default)]
pub struct Streams {
    phase: String,
    what: String,
    direction: u32,
}

impl Streams {
    fn act(&mut self, phase: &str) -> Action {
        if self.phase == phase {
            self.phase.clear();
            match self.what.as_str() {
                "continue" => _ = continue_stream(self.direction),
                _ => _ = close_stream(self.direction),
            }
        }
        Action::Continue
    }
}

impl Context for Streams {
    fn on_done(&mut self) -> bool {
        self.act("done");
        true
    }
}

impl HttpContext for Streams {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let wish = wish();
        let mut words = wish.split(':');
        let mut next = || words.next().unwrap_or_default().to_owned();
        (self.phase, self.what) = (next(), next());
        self.direction = next().parse().unwrap_or_default();
        self.act("request_headers")
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        self.act("request_body")
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.act("request_trailers")
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.act("response_headers")
    }

    fn on_http_response_body(&mut self, _: usize, _: bool) -> Action {
        self.act("response_body")
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.act("response_trailers")
    }

    fn on_log(&mut self) {
        self.act("log");
    }
}
