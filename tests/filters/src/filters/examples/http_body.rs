//! Gathers the response's body and redacts it where it holds a secret.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

pub struct HttpBody;

impl Context for HttpBody {}

impl HttpContext for HttpBody {
    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        // The length may change, and this is the last moment at which headers can.
        self.set_http_response_header("content-length", None);
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        if !end {
            return Action::Pause;
        }
        if let Some(body) = self.get_http_response_body(0, size)
            && String::from_utf8_lossy(&body).contains("secret")
        {
            let redacted = format!("Original message body ({size} bytes) redacted.\n");
            self.set_http_response_body(0, size, redacted.as_bytes());
        }
        Action::Continue
    }
}
