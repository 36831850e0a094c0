//! Addresses outside of the memory, and numbers that mean nothing.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use crate::host::{map_size, say, status_name, text, with_bad_addresses, with_odd_addresses};

pub struct Pointers;

impl Context for Pointers {}

impl HttpContext for Pointers {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        for (call, status) in with_bad_addresses() {
            say(format!("{call} = {}", status_name(status)));
        }
        say(format!("at odd addresses: {}", with_odd_addresses().map_or("none".into(), |name| text(&name))));
        map_size(99);
        Action::Continue
    }
}
