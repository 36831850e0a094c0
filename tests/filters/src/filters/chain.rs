//! One of several in a chain: the plugin's config is its name. It tells when it is called, and can stop or answer in
//! its place: `x-do: NAME:WHAT`.

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use super::wish;
use crate::host::{
    Answer, REQUEST_HEADERS, RESPONSE_HEADERS, add, close_stream, get_property, get_value, set_property,
};

#[derive(Default)]
pub struct Root {
    name: String,
}

struct Chain {
    name: String,
    what: String,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let config = self.get_plugin_configuration().unwrap_or_default();
        self.name = String::from_utf8_lossy(&config).into_owned();
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Chain { name: self.name.clone(), what: String::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Chain {}

impl HttpContext for Chain {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let wish = wish();
        let own = wish.split_once(':').filter(|(name, _)| *name == self.name);
        self.what = own.map(|(_, what)| what.to_owned()).unwrap_or_default();
        get_value(REQUEST_HEADERS, "x-chain");
        get_property(&["chain"]);
        add(REQUEST_HEADERS, "x-chain", self.name.as_bytes());
        set_property(&["chain"], self.name.as_bytes());
        match self.what.as_str() {
            "answer" => _ = Answer::default().send(),
            "close" => _ = close_stream(0),
            _ => {}
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        get_value(RESPONSE_HEADERS, "x-chain");
        get_property(&["chain"]);
        add(RESPONSE_HEADERS, "x-chain", self.name.as_bytes());
        match self.what.as_str() {
            "answer-late" => _ = Answer::default().send(),
            "close-late" => _ = close_stream(1),
            _ => {}
        }
        Action::Continue
    }
}
