//! Does not start, in the way that its config says.

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::ContextType,
};

use super::observe::Observe;

pub struct Root;

fn starts(config: Option<Vec<u8>>) -> bool {
    match config.as_deref() {
        Some(b"false") => false,
        Some(b"trap") => panic!("as asked"),
        _ => true,
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_vm_start(&mut self, _: usize) -> bool {
        starts(self.get_vm_configuration())
    }

    fn on_configure(&mut self, _: usize) -> bool {
        starts(self.get_plugin_configuration())
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Observe))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
