//! Shared queues: the root context registers one and takes from it what requests put there.

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use super::wish;
use crate::host::{dequeue, enqueue, register_queue, resolve_queue};

#[derive(Default)]
pub struct Root {
    /// One that is told of, and one that nobody empties.
    queues: Vec<u32>,
}

struct Queues;

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        self.queues.extend(register_queue("jobs"));
        self.queues.extend(register_queue("jobs"));
        true
    }

    fn on_queue_ready(&mut self, queue: u32) {
        let known = self.queues.iter().filter(|known| **known == queue).count();
        crate::host::say(format!("the queue was registered {known} times under this number"));
        // To the end: one item may have been told of after two were there.
        while dequeue(queue).is_some() {}
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Queues))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Queues {}

impl HttpContext for Queues {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        match wish().as_str() {
            "one" => put("queues", &[b"item"]),
            "several" => put("", &[b"first", b"second", b"third"]),
            "empty-item" => put("", &[b""]),
            "foreign" => {
                resolve_queue("another", "jobs");
                resolve_queue("", "none");
                resolve_queue("", "");
            }
            _ => {
                dequeue(99_999);
                enqueue(99_999, b"item");
                dequeue(0);
            }
        }
        Action::Continue
    }
}

fn put(vm: &str, items: &[&[u8]]) {
    if let Some(queue) = resolve_queue(vm, "jobs") {
        for item in items {
            enqueue(queue, item);
        }
    }
}
