//! A connection without HTTP: what comes is told, changed and, where it says so, closed.

use proxy_wasm::{
    traits::{Context, RootContext, StreamContext},
    types::{Action, ContextType},
};

use crate::host::{
    ALL, DOWNSTREAM, UPSTREAM, close_stream, continue_stream, get_buffer, get_property, set_buffer,
};

pub struct Root;

struct Tcp;

impl Context for Root {}

impl RootContext for Root {
    fn create_stream_context(&self, _: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Tcp))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}

impl Context for Tcp {}

impl StreamContext for Tcp {
    fn on_new_connection(&mut self) -> Action {
        get_property(&["source", "address"]);
        get_property(&["request", "path"]);
        Action::Continue
    }

    fn on_downstream_data(&mut self, _: usize, _: bool) -> Action {
        let data = get_buffer(DOWNSTREAM, 0, ALL).unwrap_or_default();
        match data.as_slice() {
            b"close" => _ = close_stream(2),
            b"close upstream" => _ = close_stream(3),
            b"pause" => return Action::Pause,
            b"pausegoon" => _ = continue_stream(2),
            b"resume upstream" => _ = continue_stream(3),
            b"" => {}
            _ => _ = set_buffer(DOWNSTREAM, ALL, 0, b"+"),
        }
        Action::Continue
    }

    fn on_upstream_data(&mut self, _: usize, _: bool) -> Action {
        if get_buffer(UPSTREAM, 0, ALL).is_some_and(|data| !data.is_empty()) {
            set_buffer(UPSTREAM, 0, 0, b"-");
        }
        Action::Continue
    }
}
