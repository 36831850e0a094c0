//! Envoy's filters: core modules for the proxy-wasm ABI, unmodified. Where the ABI's text and Envoy differ, this
//! follows Envoy; what differs from Envoy is told in README.md beside this file.

mod abi;
mod call;
mod context;
mod imports;
mod module;
mod pairs;
mod proto;
mod share;
mod stream;
mod vm;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{compile::Sha256Digest, fuse::Fuse, store::PluginContext};
use crate::{
    capability::shared::Lease,
    config::Breaker,
    plugin::{
        BodyVerdict, Call, Factory, Failure, Filter, Phases, Stage, Stock, Summary, Verdict,
        exchange::Exchange, services::Services,
    },
    telemetry::numbers::PluginNumbers,
};
pub use context::RootSettings;
pub use module::{Guest, Linked, link, version};
use stream::{Context, Direction, Seat};
use vm::Vm;

/// How one plugin of the config is run.
pub struct Settings {
    pub breaker: Breaker,
    pub guest: Arc<Guest>,
    pub root: Arc<RootSettings>,
    /// Of the module's bytes.
    pub digest: Sha256Digest,
    /// VMs on each worker; a crash ends the streams of one of them.
    pub vms: usize,
}

/// All that a worker needs for a configured filter.
pub struct Template {
    pub context: Arc<PluginContext>,
    settings: Settings,
    linked: Linked,
    key: share::Key,
    /// It does something without requests.
    is_lively: bool,
    /// What filters with its `vm_id` share.
    _lease: Lease,
}

impl Template {
    /// Starts a VM on trial, which then is thrown away; as Envoy does.
    pub fn start(
        linked: Linked,
        context: Arc<PluginContext>,
        settings: Settings,
    ) -> Result<Arc<Self>, Failure> {
        let lease = context.capabilities.shared.clone().lease(&settings.guest.vm_id);
        let vm = Vm::start(&linked, settings.guest.clone(), &context, Arc::default())?;
        let root = vm.add_root(context.clone(), settings.root.clone(), Services::none())?;
        let is_lively = vm.is_lively(root);
        let mut key = Sha256::new();
        let Guest { vm_id, vm_config, environment, .. } = &*settings.guest;
        key.update(settings.digest);
        key.update(format!("{vm_id:?} {vm_config:?} {environment:?} {:?}", context.limits));
        let key = key.finalize().into();
        Ok(Arc::new(Template { context, settings, linked, key, is_lively, _lease: lease }))
    }
}

/// A template under the identity of its bytes, settings and config.
pub struct ProxyWasmFactory {
    pub template: Arc<Template>,
    pub identity: u64,
}

impl Factory for ProxyWasmFactory {
    fn name(&self) -> &Arc<str> {
        &self.template.context.name
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    fn filter(&self, stock: &mut dyn Stock) -> Rc<dyn Filter> {
        let (template, numbers) = (self.template.clone(), stock.numbers(self.name()));
        let slot = || Slot {
            seat: RefCell::new(None),
            fuse: Fuse::new(
                template.settings.breaker.clone(),
                template.context.name.clone(),
                numbers.clone(),
            ),
        };
        Rc::new(ProxyWasmFilter {
            identity: self.identity,
            slots: (0..template.settings.vms).map(|_| slot()).collect(),
            next: Cell::new(0),
            services: stock.services(),
            numbers: numbers.clone(),
            template: template.clone(),
        })
    }
}

/// One configured filter on one worker.
struct ProxyWasmFilter {
    identity: u64,
    template: Arc<Template>,
    services: Services,
    numbers: Arc<PluginNumbers>,
    slots: Vec<Slot>,
    /// The slot of the next stream.
    next: Cell<usize>,
}

/// A place for a VM: a new one comes in the place of one that has ended.
struct Slot {
    seat: RefCell<Option<Rc<Seat>>>,
    fuse: Fuse,
}

impl ProxyWasmFilter {
    /// The filter in its VM, which is started where there is none or the last one has ended.
    fn seat(&self, number: usize) -> Result<Rc<Seat>, Failure> {
        let slot = &self.slots[number];
        let is_alive = |seat: &Rc<Seat>| seat.vm.is_alive();
        if slot.fuse.is_closed()
            && let Some(seat) = slot.seat.borrow().as_ref().filter(|seat| is_alive(seat))
        {
            return Ok(seat.clone());
        }
        if !slot.fuse.allow(Stage::Request) {
            return Err(Failure::Broken);
        }
        if let Some(seat) = slot.seat.borrow().as_ref().filter(|seat| is_alive(seat)) {
            return Ok(seat.clone());
        }
        let seat = self.start(number).inspect_err(|failure| slot.fuse.failed(Stage::Request, failure))?;
        // The last one ends outside of the borrow.
        let last = slot.seat.replace(Some(seat.clone()));
        drop(last);
        Ok(seat)
    }

    fn start(&self, number: usize) -> Result<Rc<Seat>, Failure> {
        let Template { context, settings, linked, key, .. } = &*self.template;
        let start = || Vm::start(linked, settings.guest.clone(), context, self.numbers.clone());
        let vm = share::vm(*key, number, start)?;
        let root = vm.add_root(context.clone(), settings.root.clone(), self.services.clone())?;
        Ok(Rc::new(Seat { vm, root, number }))
    }

    /// The request's context, which is made with the first phase.
    fn context(&self, exchange: &mut Exchange) -> Result<Rc<Context>, Failure> {
        let key = (self.identity, exchange.place);
        if let Some(context) = exchange.kept::<Context>(key) {
            return Ok(context);
        }
        let count = self.slots.len();
        let first = self.next.replace((self.next.get() + 1) % count);
        let mut seats = (0..count).map(|place| self.seat((first + place) % count));
        let seat =
            seats.find(|seat| !matches!(seat, Err(Failure::Broken))).unwrap_or(Err(Failure::Broken))?;
        let context = Context::open(seat.clone(), exchange.interrupt());
        let context =
            context.inspect_err(|failure| self.slots[seat.number].fuse.failed(Stage::Request, failure));
        let context = Rc::new(context?);
        exchange.keep(key, context.clone());
        Ok(context)
    }

    /// Runs a phase, times it and tells the breaker what came of it.
    async fn phase<T>(
        &self,
        stage: Stage,
        exchange: &mut Exchange,
        run: impl AsyncFnOnce(&Context, &mut Exchange) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let numbers = &self.numbers.phases[stage as usize];
        let timer = numbers.begin();
        let context = self.context(exchange)?;
        let was_alive = context.vm().is_alive();
        let result = run(&context, exchange).await;
        if let Some(started) = timer {
            numbers.duration.observe(started.elapsed());
        }
        let fuse = &self.slots[context.seat.number].fuse;
        match &result {
            Ok(_) => fuse.success(stage),
            // One crash is one failure, however many streams it ends.
            Err(failure) if was_alive => fuse.failed(stage, failure),
            Err(_) => {}
        }
        result
    }

    /// Keeps the VMs going, also those that end while no request comes.
    async fn keep_alive(filter: std::rc::Weak<Self>) {
        const PAUSE: Duration = Duration::from_millis(100);
        loop {
            let Some(this) = filter.upgrade() else { return };
            let seats: Vec<_> = (0..this.slots.len()).filter_map(|number| this.seat(number).ok()).collect();
            let all = seats.len() == this.slots.len();
            drop(this);
            let vms: Vec<_> = seats.iter().map(|seat| Rc::downgrade(&seat.vm)).collect();
            drop(seats);
            loop {
                tokio::time::sleep(PAUSE).await;
                let lives = |vm: &std::rc::Weak<Vm>| vm.upgrade().is_some_and(|vm| vm.is_alive());
                if !all || !vms.iter().all(lives) {
                    break;
                }
            }
        }
    }
}

impl Filter for ProxyWasmFilter {
    fn phases(&self) -> Phases {
        self.template.linked.facts.phases()
    }

    fn request<'a>(&'a self, exchange: &'a mut Exchange) -> Call<'a, Verdict> {
        let taps = self.phases().request_body;
        Box::pin(self.phase(Stage::Request, exchange, async move |context, exchange| {
            context.head(Direction::Request, exchange, taps).await
        }))
    }

    fn request_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict> {
        let limit = self.template.context.limits.body;
        Box::pin(self.phase(Stage::RequestBody, exchange, async move |context, exchange| {
            context.body(Direction::Request, exchange, chunk, end, limit).await
        }))
    }

    fn response<'a>(&'a self, exchange: &'a mut Exchange) -> Call<'a, Verdict> {
        let taps = self.phases().response_body;
        Box::pin(self.phase(Stage::Response, exchange, async move |context, exchange| {
            context.head(Direction::Response, exchange, taps).await
        }))
    }

    fn response_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict> {
        let limit = self.template.context.limits.body;
        Box::pin(self.phase(Stage::ResponseBody, exchange, async move |context, exchange| {
            context.body(Direction::Response, exchange, chunk, end, limit).await
        }))
    }

    fn log<'a>(&'a self, exchange: &'a mut Exchange, summary: &'a Summary) -> Call<'a, ()> {
        Box::pin(self.phase(Stage::Log, exchange, async move |context, exchange| {
            // What ended its VM has been told with another phase.
            match context.vm().is_alive() {
                true => context.log(exchange, summary),
                false => Ok(()),
            }
        }))
    }

    fn start(self: Rc<Self>) {
        // What fails is tried again with the first request, which its failure answers.
        (0..self.slots.len()).for_each(|number| _ = self.seat(number));
        if self.template.is_lively {
            self.services.tasks.spawn(Self::keep_alive(Rc::downgrade(&self)));
        }
    }

    /// Requests hold their VM by themselves.
    fn retire(&self) {
        self.slots.iter().for_each(|slot| drop(slot.seat.take()));
    }

    fn relieve(&self) {}
}
