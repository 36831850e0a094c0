//! Warm instances of one configured plugin on one worker. A lease is taken out by value and comes
//! back only after success; whatever else happens to it, the instance is gone.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::time::timeout;

use super::{allowance::Allowance, fuse::Fuse, instance::Instance, native::Template};
use crate::{
    capability::{http_call::Caller, redis::Link},
    plugin::{Failure, Stage},
    sync::{Place, Places},
    telemetry::numbers::PluginNumbers,
};

pub struct Pool {
    template: Arc<Template>,
    /// Last in, first out: the instance whose pages are still in the cache.
    #[expect(clippy::vec_box, reason = "they move in and out by pointer")]
    idle: RefCell<Vec<Box<Instance>>>,
    /// Bounds the instances.
    slots: Places,
    /// Bounds the guests that run at once, so that the worker has time for others.
    running: Places,
    fuse: Fuse,
    /// Whether instances are kept between calls.
    keeps: Cell<bool>,
    numbers: Arc<PluginNumbers>,
    /// By which the guests' calls are made, where they may make any.
    caller: Option<Caller>,
    /// To the guests' store, where that is a Redis.
    link: Option<Arc<Link>>,
}

pub struct Lease<'a> {
    pub instance: Box<Instance>,
    stage: Stage,
    /// None while it waits for the host.
    running: Option<Place<'a>>,
    _slot: Place<'a>,
}

impl Pool {
    pub fn new(
        template: Arc<Template>,
        numbers: Arc<PluginNumbers>,
        caller: Option<Caller>,
        link: Option<Arc<Link>>,
    ) -> Self {
        let limits = template.limits();
        Pool {
            idle: RefCell::default(),
            slots: Places::new(limits.instances),
            running: Places::new(limits.running),
            fuse: Fuse::new(
                template.settings.breaker.clone(),
                template.context.name.clone(),
                numbers.clone(),
            ),
            keeps: Cell::new(!template.settings.fresh),
            numbers,
            caller,
            link,
            template,
        }
    }

    pub fn numbers(&self) -> &PluginNumbers {
        &self.numbers
    }

    pub fn template(&self) -> &Template {
        &self.template
    }

    /// A warm instance, where one is idle and nothing stands in the way: the short way of almost
    /// every call.
    pub fn warm(&self, stage: Stage) -> Option<Lease<'_>> {
        if !self.fuse.is_closed() {
            return None;
        }
        let (slot, running) = (self.slots.try_take()?, self.running.try_take()?);
        let instance = self.idle.borrow_mut().pop()?;
        Some(Lease { instance, stage, running: Some(running), _slot: slot })
    }

    /// A warm instance, or a new one; waits for a free place up to the plugin's limit.
    pub async fn lease(&self, stage: Stage) -> Result<Lease<'_>, Failure> {
        if !self.fuse.allow(stage) {
            return Err(Failure::Broken);
        }
        let slot = self.place(&self.slots).await?;
        // Before a place to run: who waits for other workers must not keep this one's guests from running.
        let cold = self.idle.borrow().is_empty();
        let mut permit = if cold { self.template.permit().await? } else { None };
        let running = self.place(&self.running).await?;
        let warm = self.idle.borrow_mut().pop();
        let instance = match warm {
            Some(instance) => instance,
            None => {
                if !cold {
                    permit = self.template.permit().await?;
                }
                let fresh = self.template.instantiate(self.numbers.clone()).await;
                let mut instance = fresh.inspect_err(|failure| self.failed(stage, failure))?;
                instance.permit = permit;
                let host = instance.store.data_mut();
                host.caller.clone_from(&self.caller);
                host.link.clone_from(&self.link);
                instance
            }
        };
        Ok(Lease { instance, stage, running: Some(running), _slot: slot })
    }

    /// Runs a call of a leased instance. While it waits for the host, another guest may run.
    pub async fn run<'a, T>(
        &'a self,
        lease: &mut Lease<'a>,
        call: impl AsyncFnOnce(&mut Instance) -> T,
    ) -> T {
        let Lease { instance, running, .. } = lease;
        let waiting = instance.store.data().waiting.clone();
        let mut call = pin!(call(instance));
        loop {
            let polled = poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Pending if !waiting.is_so() => Poll::Pending,
                polled => Poll::Ready(polled),
            });
            if let Poll::Ready(done) = polled.await {
                return done;
            }
            *running = None;
            // The call has seen to it that this task is woken.
            let mut woken = false;
            poll_fn(|_| if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending })
                .await;
            *running = Some(match self.running.try_take() {
                Some(place) => place,
                None => self.running.take().await,
            });
        }
    }

    pub fn give_back(&self, lease: Lease<'_>) {
        self.fuse.success(lease.stage);
        if self.keeps.get() && !self.is_wanted() {
            self.idle.borrow_mut().push(lease.instance);
        }
    }

    /// Gives up the instances that are kept, where another worker waits for their places.
    pub fn relieve(&self) {
        if self.is_wanted() {
            self.idle.borrow_mut().clear();
        }
    }

    fn is_wanted(&self) -> bool {
        self.template.context.allowance.as_ref().is_some_and(Allowance::is_wanted)
    }

    pub fn retire(&self) {
        self.keeps.set(false);
        self.idle.borrow_mut().clear();
    }

    /// Counts a failure against the plugin's breaker.
    pub fn failed(&self, stage: Stage, failure: &Failure) {
        self.fuse.failed(stage, failure);
    }

    async fn place<'a>(&self, places: &'a Places) -> Result<Place<'a>, Failure> {
        match places.try_take() {
            Some(place) => Ok(place),
            None => {
                let waited = timeout(self.template.limits().wait, places.take()).await;
                waited.map_err(|_| Failure::Saturated)
            }
        }
    }
}
