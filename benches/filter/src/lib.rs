//! Reads a request header, sets one under the name in its configuration, and sets a response header.

#![cfg(target_family = "wasm")]

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { name: String::new() }));
}}

struct Root {
    name: String,
}

struct Filter {
    name: String,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let config = self.get_plugin_configuration().unwrap_or_default();
        self.name = String::from_utf8_lossy(&config).into_owned();
        !self.name.is_empty()
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter { name: self.name.clone() }))
    }
}

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let host = self.get_http_request_header(":authority").unwrap_or_default();
        self.set_http_request_header(&self.name, Some(&host));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header(&self.name, Some("1"));
        Action::Continue
    }
}
