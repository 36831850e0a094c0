//! A root context that is not done when it is asked, but says so later.

use std::time::Duration;

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use crate::host::done;

pub struct Root;

struct Done;

impl Context for Root {
    fn on_done(&mut self) -> bool {
        self.set_tick_period(Duration::from_millis(10));
        false
    }
}

impl RootContext for Root {
    fn on_tick(&mut self) {
        self.set_tick_period(Duration::ZERO);
        done();
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Done))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Done {
    /// A stream does not wait for it.
    fn on_done(&mut self) -> bool {
        false
    }
}

impl HttpContext for Done {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        done();
        Action::Continue
    }
}
