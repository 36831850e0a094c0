//! Logs the headers of requests and responses; answers /hello itself.

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use crate::host::say;

pub struct Root;

struct HttpHeaders;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(HttpHeaders))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for HttpHeaders {}

impl HttpContext for HttpHeaders {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        for (name, value) in self.get_http_request_headers() {
            say(format!("  -> {name}: {value}"));
        }
        if self.get_http_request_header(":path").is_some_and(|path| path == "/hello") {
            let headers = vec![("Hello", "World"), ("Powered-By", "proxy-wasm")];
            self.send_http_response(200, headers, Some(b"Hello, World!\n"));
            return Action::Pause;
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        for (name, value) in self.get_http_response_headers() {
            say(format!("  <- {name}: {value}"));
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        say("completed");
    }
}
