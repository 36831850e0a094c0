//! Contexts around those of a filter, which tell every callback: when it comes, with what, and what the filter
//! answers where that is not "continue".

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext, StreamContext},
    types::{Action, ContextType, PeerType},
};

use crate::{
    filters,
    host::{begin, property, say},
};

/// The root context of the filter that the root id names.
pub struct Root {
    id: u32,
    inner: Option<Box<dyn RootContext>>,
}

struct Http(Box<dyn HttpContext>);

struct Tcp(Box<dyn StreamContext>);

fn acted(action: Action) -> Action {
    if action != Action::Continue {
        say(format!("-> {action:?}"));
    }
    action
}

fn agreed(yes: bool) -> bool {
    if !yes {
        say("-> false");
    }
    yes
}

impl Root {
    pub fn new(id: u32) -> Self {
        begin("root on_context_create");
        Root { id, inner: None }
    }

    fn inner(&mut self) -> &mut dyn RootContext {
        let id = self.id;
        let find = || {
            let root_id = property(&["plugin_root_id"]).unwrap_or_default();
            filters::root(&String::from_utf8_lossy(&root_id), id)
        };
        &mut **self.inner.get_or_insert_with(find)
    }
}

/// What all kinds of contexts have, of the same name.
macro_rules! context {
    ($kind:literal, $type:ty, |$self:ident| $inner:expr) => {
        impl Context for $type {
            fn on_http_call_response(&mut $self, token: u32, headers: usize, body: usize, trailers: usize) {
                begin(format!(concat!($kind, " on_http_call_response({}, {}, {})"), headers, body, trailers));
                $inner.on_http_call_response(token, headers, body, trailers);
            }

            fn on_grpc_call_response(&mut $self, token: u32, status: u32, size: usize) {
                begin(format!(concat!($kind, " on_grpc_call_response({}, {})"), status as i32, size));
                $inner.on_grpc_call_response(token, status, size);
            }

            fn on_grpc_stream_initial_metadata(&mut $self, token: u32, count: u32) {
                begin(format!(concat!($kind, " on_grpc_stream_initial_metadata({})"), count));
                $inner.on_grpc_stream_initial_metadata(token, count);
            }

            fn on_grpc_stream_message(&mut $self, token: u32, size: usize) {
                begin(format!(concat!($kind, " on_grpc_stream_message({})"), size));
                $inner.on_grpc_stream_message(token, size);
            }

            fn on_grpc_stream_trailing_metadata(&mut $self, token: u32, count: u32) {
                begin(format!(concat!($kind, " on_grpc_stream_trailing_metadata({})"), count));
                $inner.on_grpc_stream_trailing_metadata(token, count);
            }

            fn on_grpc_stream_close(&mut $self, token: u32, status: u32) {
                begin(format!(concat!($kind, " on_grpc_stream_close({})"), status as i32));
                $inner.on_grpc_stream_close(token, status);
            }

            fn on_foreign_function(&mut $self, function: u32, size: usize) {
                begin(format!(concat!($kind, " on_foreign_function({}, {})"), function, size));
                $inner.on_foreign_function(function, size);
            }

            fn on_done(&mut $self) -> bool {
                begin(concat!($kind, " on_done"));
                agreed($inner.on_done())
            }
        }

        impl Drop for $type {
            fn drop(&mut self) {
                begin(concat!($kind, " on_delete"));
            }
        }
    };
}

context!("root", Root, |self| self.inner());
context!("http", Http, |self| self.0);
context!("tcp", Tcp, |self| self.0);

impl RootContext for Root {
    fn on_vm_start(&mut self, size: usize) -> bool {
        begin(format!("root on_vm_start({size})"));
        agreed(self.inner().on_vm_start(size))
    }

    fn on_configure(&mut self, size: usize) -> bool {
        begin(format!("root on_configure({size})"));
        agreed(self.inner().on_configure(size))
    }

    fn on_tick(&mut self) {
        begin("root on_tick");
        self.inner().on_tick();
    }

    fn on_queue_ready(&mut self, queue: u32) {
        begin("root on_queue_ready");
        self.inner().on_queue_ready(queue);
    }

    fn on_log(&mut self) {
        begin("root on_log");
        self.inner().on_log();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        begin("http on_context_create");
        let inner = self.inner.as_ref()?.create_http_context(id)?;
        Some(Box::new(Http(inner)))
    }

    fn create_stream_context(&self, id: u32) -> Option<Box<dyn StreamContext>> {
        begin("tcp on_context_create");
        let inner = self.inner.as_ref()?.create_stream_context(id)?;
        Some(Box::new(Tcp(inner)))
    }

    fn get_type(&self) -> Option<ContextType> {
        self.inner.as_ref()?.get_type()
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, count: usize, end: bool) -> Action {
        begin(format!("http on_request_headers({count}, {end})"));
        acted(self.0.on_http_request_headers(count, end))
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        begin(format!("http on_request_body({size}, {end})"));
        acted(self.0.on_http_request_body(size, end))
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        begin(format!("http on_request_trailers({count})"));
        acted(self.0.on_http_request_trailers(count))
    }

    fn on_http_response_headers(&mut self, count: usize, end: bool) -> Action {
        begin(format!("http on_response_headers({count}, {end})"));
        acted(self.0.on_http_response_headers(count, end))
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        begin(format!("http on_response_body({size}, {end})"));
        acted(self.0.on_http_response_body(size, end))
    }

    fn on_http_response_trailers(&mut self, count: usize) -> Action {
        begin(format!("http on_response_trailers({count})"));
        acted(self.0.on_http_response_trailers(count))
    }

    fn on_log(&mut self) {
        begin("http on_log");
        self.0.on_log();
    }
}

impl StreamContext for Tcp {
    fn on_new_connection(&mut self) -> Action {
        begin("tcp on_new_connection");
        acted(self.0.on_new_connection())
    }

    fn on_downstream_data(&mut self, size: usize, end: bool) -> Action {
        begin(format!("tcp on_downstream_data({size}, {end})"));
        acted(self.0.on_downstream_data(size, end))
    }

    fn on_downstream_close(&mut self, peer: PeerType) {
        begin(format!("tcp on_downstream_close({peer:?})"));
        self.0.on_downstream_close(peer);
    }

    fn on_upstream_data(&mut self, size: usize, end: bool) -> Action {
        begin(format!("tcp on_upstream_data({size}, {end})"));
        acted(self.0.on_upstream_data(size, end))
    }

    fn on_upstream_close(&mut self, peer: PeerType) {
        begin(format!("tcp on_upstream_close({peer:?})"));
        self.0.on_upstream_close(peer);
    }

    fn on_log(&mut self) {
        begin("tcp on_log");
        self.0.on_log();
    }
}
