//! Asks an upstream for a byte for each request, and lets those with an even one pass.

use std::time::Duration;

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use crate::{filters::wish, host::say};

pub struct HttpAuthRandom;

impl Context for HttpAuthRandom {
    fn on_http_call_response(&mut self, _: u32, _: usize, size: usize, _: usize) {
        let body = self.get_http_call_response_body(0, size).unwrap_or_default();
        if body.first().is_some_and(|byte| byte.is_multiple_of(2)) {
            say("Access granted.");
            return self.resume_http_request();
        }
        say("Access forbidden.");
        self.send_http_response(403, vec![("Powered-By", "proxy-wasm")], Some(b"Access forbidden.\n"));
    }
}

impl HttpContext for HttpAuthRandom {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        // Which byte it is is the request's to say, for a test wants to know.
        let path = format!("/byte/{}", wish());
        let headers = vec![(":method", "GET"), (":path", &path), (":authority", "httpbin.org")];
        let called = self.dispatch_http_call("httpbin", headers, None, vec![], Duration::from_secs(1));
        say(format!("called: {}", called.is_ok()));
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header("Powered-By", Some("proxy-wasm"));
        Action::Continue
    }
}
