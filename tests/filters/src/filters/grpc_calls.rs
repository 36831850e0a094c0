//! Single gRPC calls: `x-do: WHICH`. The request goes on with the answer.

use std::time::Duration;

use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{
    ALL, GRPC_INITIAL, GRPC_MESSAGE, GRPC_TRAILING, continue_stream, get_buffer, get_pairs, get_status,
    grpc_cancel, grpc_close, grpc_send, say,
};

#[derive(Default)]
pub struct Calls {
    token: u32,
}

impl Context for Calls {
    fn on_grpc_call_response(&mut self, _: u32, status: u32, _: usize) {
        get_buffer(GRPC_MESSAGE, 0, ALL);
        get_pairs(GRPC_INITIAL);
        get_pairs(GRPC_TRAILING);
        // After success it is that of some other call.
        if status != 0 {
            get_status();
        }
        continue_stream(0);
    }
}

impl HttpContext for Calls {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let wish = wish();
        let (upstream, method, timeout) = match wish.as_str() {
            "unknown" => ("nowhere", "Echo", 5000),
            "refused" => ("refused", "Echo", 5000),
            "timeout" => ("grpc", "Never", 50),
            "cancel" => ("grpc", "Never", 5000),
            "close" => ("grpc", "Never", 5000),
            "service" => (GOOGLE, "Echo", 5000),
            method => ("grpc", method, 5000),
        };
        let metadata: Vec<(&str, &[u8])> =
            vec![("x-meta", b"1"), ("x-meta", b"2"), ("X-Upper", b"V"), ("x-bin", &[0, 1, 255])];
        let metadata = if wish == "Metadata" { metadata } else { vec![] };
        let message: &[u8] = if wish == "Empty" { b"" } else { b"hello" };
        let timeout = Duration::from_millis(timeout);
        let called =
            hostcalls::dispatch_grpc_call(upstream, "test.Test", method, metadata, Some(message), timeout);
        match called {
            Err(status) => {
                say(format!("dispatch_grpc_call({wish}) = {status:?}"));
                Action::Continue
            }
            Ok(token) => {
                say(format!("dispatch_grpc_call({wish}) = Ok"));
                self.token = token;
                self.end(&wish)
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        // A call that is over, or was cancelled, is not known any more.
        grpc_cancel(self.token);
        Action::Continue
    }
}

impl Calls {
    fn end(&self, wish: &str) -> Action {
        match wish {
            "cancel" => _ = grpc_cancel(self.token),
            "close" => _ = grpc_close(self.token),
            "Echo" => {
                // It is no stream.
                grpc_send(self.token, b"more", false);
                return Action::Pause;
            }
            _ => return Action::Pause,
        }
        Action::Continue
    }
}

/// `GrpcService { envoy_grpc { cluster_name: "grpc" } }` of Envoy's own protocol.
const GOOGLE: &str = "\n\x06\n\x04grpc";
