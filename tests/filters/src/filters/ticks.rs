//! A timer: three ticks after the configuration, none after a request, one after another request.

use std::time::Duration;

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::ContextType,
};

use crate::host::{REQUEST_HEADERS, get_property, get_value, set_tick_period};

#[derive(Default)]
pub struct Root {
    ticks: usize,
}

struct Ticks;

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        set_tick_period(10);
        true
    }

    fn on_tick(&mut self) {
        self.ticks += 1;
        if self.ticks.is_multiple_of(3) {
            set_tick_period(0);
            get_value(REQUEST_HEADERS, ":path");
            get_property(&["request", "path"]);
            get_property(&["plugin_name"]);
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Ticks))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Ticks {}

impl HttpContext for Ticks {
    fn on_log(&mut self) {
        // The timer of the root context, though a stream sets it; at its end, so that no tick comes amid its callbacks.
        let _ = proxy_wasm::hostcalls::set_tick_period(Duration::from_millis(10));
    }
}
