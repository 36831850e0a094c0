//! Warm instances of one configured plugin on one worker. A lease is taken out by value and comes
//! back only after success; whatever else happens to it, the instance is gone.

use std::{cell::RefCell, future::Future, sync::Arc, time::Instant};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{instance::Instance, native::Template};
use crate::plugin::{Failure, Stage, breaker::Breaker};

pub struct Pool {
    template: Arc<Template>,
    /// Last in, first out: the instance whose pages are still in the cache.
    #[expect(clippy::vec_box, reason = "they move in and out by pointer")]
    idle: RefCell<Vec<Box<Instance>>>,
    /// Bounds the instances.
    slots: Semaphore,
    /// Bounds the guests that run at once, so that the worker has time for others.
    running: Semaphore,
    breaker: RefCell<Breaker>,
}

pub struct Lease<'a> {
    pub instance: Box<Instance>,
    stage: Stage,
    _running: SemaphorePermit<'a>,
    _slot: SemaphorePermit<'a>,
}

impl Pool {
    pub fn new(template: Arc<Template>) -> Self {
        let limits = template.limits();
        Pool {
            idle: RefCell::default(),
            slots: Semaphore::new(limits.instances as usize),
            running: Semaphore::new(limits.running as usize),
            breaker: RefCell::new(Breaker::new(template.settings.breaker.clone())),
            template,
        }
    }

    pub fn template(&self) -> &Template {
        &self.template
    }

    /// A warm instance, or a new one; waits for a free place up to the plugin's limit.
    pub async fn lease(&self, stage: Stage) -> Result<Lease<'_>, Failure> {
        if !self.breaker.borrow_mut().allow(stage, Instant::now) {
            return Err(Failure::Broken);
        }
        let slot = self.permit(&self.slots).await?;
        let running = self.permit(&self.running).await?;
        let warm = self.idle.borrow_mut().pop();
        let instance = match warm {
            Some(instance) => instance,
            None => {
                let fresh = self.template.instantiate().await;
                fresh.inspect_err(|failure| self.failed(stage, failure))?
            }
        };
        Ok(Lease { instance, stage, _running: running, _slot: slot })
    }

    pub fn give_back(&self, lease: Lease<'_>) {
        self.breaker.borrow_mut().success(lease.stage);
        if !self.template.settings.fresh {
            self.idle.borrow_mut().push(lease.instance);
        }
    }

    /// Counts a failure against the plugin's breaker.
    pub fn failed(&self, stage: Stage, failure: &Failure) {
        if self.breaker.borrow_mut().failure(stage, Instant::now()) {
            let name = &*self.template.context.name;
            tracing::warn!(plugin = name, "the breaker takes the plugin out: it {failure}");
        }
    }

    async fn permit<'a>(&self, semaphore: &'a Semaphore) -> Result<SemaphorePermit<'a>, Failure> {
        match semaphore.try_acquire() {
            Ok(permit) => Ok(permit),
            Err(_) => self.waited(semaphore.acquire()).await,
        }
    }

    async fn waited<T, E>(&self, wait: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        match timeout(self.template.limits().wait, wait).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Failure::Saturated),
        }
    }
}
