//! A root context that greets, and tells the time and a lucky number with each tick.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, SystemTime},
};

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::ContextType,
};

use crate::{filters::observe::Observe, host::say};

pub struct HelloWorld;

impl Context for HelloWorld {}

impl RootContext for HelloWorld {
    fn on_vm_start(&mut self, _: usize) -> bool {
        say("Hello, World!");
        self.set_tick_period(Duration::from_millis(20));
        true
    }

    fn on_tick(&mut self) {
        let recent = self.get_current_time() > SystemTime::UNIX_EPOCH;
        // What is random must not be told, only that it was there.
        let lucky = RandomState::new().hash_one(7) % 256;
        say(format!("It is now: {recent}, the lucky number is below 256: {}", lucky < 256));
        self.set_tick_period(Duration::ZERO);
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Observe))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
