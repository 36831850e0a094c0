//! A plugin's breaker on one worker, with its place in the metrics and its line in the log.

use std::{cell::RefCell, sync::Arc, time::Instant};

use crate::{
    config,
    plugin::{Failure, Stage, breaker::Breaker},
    telemetry::numbers::PluginNumbers,
};

pub struct Fuse {
    breaker: RefCell<Breaker>,
    plugin: Arc<str>,
    numbers: Arc<PluginNumbers>,
}

impl Fuse {
    pub fn new(settings: config::Breaker, plugin: Arc<str>, numbers: Arc<PluginNumbers>) -> Self {
        Fuse { breaker: RefCell::new(Breaker::new(settings)), plugin, numbers }
    }

    pub fn is_closed(&self) -> bool {
        self.breaker.borrow().is_closed()
    }

    pub fn allow(&self, stage: Stage) -> bool {
        self.with_breaker(|breaker| breaker.allow(stage, Instant::now))
    }

    pub fn success(&self, stage: Stage) {
        self.with_breaker(|breaker| breaker.success(stage));
    }

    pub fn failed(&self, stage: Stage, failure: &Failure) {
        if self.with_breaker(|breaker| breaker.failure(stage, Instant::now())) {
            tracing::warn!(plugin = &*self.plugin, "the breaker takes the plugin out: it {failure}");
        }
    }

    fn with_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.borrow_mut();
        let before = breaker.is_closed();
        let result = act(&mut breaker);
        match (before, breaker.is_closed()) {
            (true, false) => self.numbers.open.add(1),
            (false, true) => self.numbers.open.subtract(1),
            _ => {}
        }
        result
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        if !self.breaker.get_mut().is_closed() {
            self.numbers.open.subtract(1);
        }
    }
}
