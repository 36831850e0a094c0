//! Takes gRPC requests only, and asks a gRPC service about each, reflection apart.

use std::time::Duration;

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::{Action, GrpcStatusCode},
};

use crate::{filters::wish, host::say};

pub struct GrpcAuthRandom;

impl Context for GrpcAuthRandom {
    fn on_grpc_call_response(&mut self, _: u32, status: u32, _: usize) {
        if status.is_multiple_of(2) {
            say("Access granted.");
            return self.resume_http_request();
        }
        say("Access forbidden.");
        let metadata: Vec<(&str, &[u8])> = vec![("Powered-By", b"proxy-wasm")];
        self.send_grpc_response(GrpcStatusCode::Aborted, Some("Aborted by Proxy-Wasm!"), metadata);
    }
}

impl HttpContext for GrpcAuthRandom {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let content_type = self.get_http_request_header("content-type").unwrap_or_default();
        if !content_type.starts_with("application/grpc") {
            let body = Some(&b"Service accessible only to gRPC clients.\n"[..]);
            self.send_http_response(503, vec![("Powered-By", "proxy-wasm")], body);
            return Action::Pause;
        }
        let path = self.get_http_request_header(":path").unwrap_or_default();
        if path.starts_with("/grpc.reflection") {
            return Action::Continue;
        }
        // Which status it is is the request's to say, for a test wants to know.
        let wish = wish();
        let (message, second) = (Some(wish.as_bytes()), Duration::from_secs(1));
        let called =
            self.dispatch_grpc_call("grpc", "grpcbin.GRPCBin", "RandomError", vec![], message, second);
        say(format!("called: {}", called.is_ok()));
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header("Powered-By", Some("proxy-wasm"));
        Action::Continue
    }
}
