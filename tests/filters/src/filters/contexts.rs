//! Acts on streams from outside of their callbacks: a tick of the root context makes a paused stream go on, answer
//! or end. `x-do: WHAT`.

use std::{cell::RefCell, rc::Rc, time::Duration};

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use super::wish;
use crate::host::{
    Answer, REQUEST_HEADERS, add, close_stream, continue_stream, get_pairs, get_property, get_value, say,
    set_effective_context, status_name,
};

/// Streams that wait, with what they wait for.
type Waiting = Rc<RefCell<Vec<(u32, String)>>>;

pub struct Root {
    id: u32,
    waiting: Waiting,
}

struct Waiter {
    id: u32,
    root: u32,
    waiting: Waiting,
}

impl Root {
    pub fn new(id: u32) -> Self {
        Root { id, waiting: Waiting::default() }
    }
}

fn enter(name: &str, id: u32) {
    say(format!("set_effective_context({name}) = {}", status_name(set_effective_context(id))));
}

impl Context for Root {}

impl RootContext for Root {
    fn on_tick(&mut self) {
        self.set_tick_period(Duration::ZERO);
        for (id, what) in self.waiting.take() {
            enter("stream", id);
            match what.as_str() {
                "change" => {
                    get_pairs(REQUEST_HEADERS);
                    add(REQUEST_HEADERS, "x-ticked", b"1");
                    get_property(&["request", "path"]);
                    continue_stream(0);
                }
                "answer" => _ = Answer::default().send(),
                "close" => _ = close_stream(0),
                "back" => {
                    enter("root", self.id);
                    get_value(REQUEST_HEADERS, ":path");
                    get_property(&["request", "path"]);
                    enter("stream", id);
                    get_value(REQUEST_HEADERS, ":path");
                    enter("unknown", 99_999);
                    get_value(REQUEST_HEADERS, ":path");
                    continue_stream(0);
                }
                _ => _ = continue_stream(0),
            }
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Waiter { id, root: self.id, waiting: self.waiting.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Waiter {}

impl HttpContext for Waiter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let wish = wish();
        if wish == "root" {
            enter("root", self.root);
            get_value(REQUEST_HEADERS, ":path");
            get_property(&["request", "path"]);
            enter("stream", self.id);
            get_value(REQUEST_HEADERS, ":path");
            return Action::Continue;
        }
        self.waiting.borrow_mut().push((self.id, wish));
        // The timer is the root's, whoever sets it.
        let _ = proxy_wasm::hostcalls::set_tick_period(Duration::from_millis(10));
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        // What the last callback made effective is forgotten.
        get_property(&["response", "code"]);
        Action::Continue
    }
}
