//! One VM: how it starts, how it is called, how it ends. Callbacks are short by contract and run on the
//! worker's own stack; what takes longer than the plugin's time limit ends the VM.
//!
//! As in Envoy, a trap ends the VM as a whole, with all streams that are in it. Host functions never call
//! back into the guest, its allocator apart: what they lead to comes after the callback.

#[cfg(test)]
mod fuzz;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use wasmtime::{Store, TypedFunc, UpdateDeadline, WasmParams, WasmResults};

use super::{
    context::{Ending, Id, Mode, Pairs, Reply, Root, RootSettings, Side, Stream, VmData},
    imports::grpc::Event,
    module::{Exports, Finder, Guest, HeadersCallback, Linked},
};
use crate::{
    plugin::{Failure, interrupt::Interrupt, services::Services},
    telemetry::numbers::PluginNumbers,
    wasm::{instance::brief, limits::Limiter, store::PluginContext},
};

pub struct Vm {
    live: RefCell<Live>,
    /// Why it ended.
    end: RefCell<Option<Failure>>,
    time: Duration,
    host_bytes: usize,
}

struct Live {
    store: Store<VmData>,
    exports: Exports,
}

/// A call that a guest made has its answer.
pub struct CallAnswer {
    pub headers: Pairs,
    pub body: Bytes,
    pub trailers: Pairs,
}

/// The status of calls that broke off.
const BROKEN_CONNECTION: u32 = 11;

/// How long a root that says it is not done may take until it says so.
const PARKED: Duration = Duration::from_secs(10);

impl Vm {
    /// Instantiates the module and runs its start functions.
    pub fn start(
        linked: &Linked,
        guest: Arc<Guest>,
        plugin: &Arc<PluginContext>,
        numbers: Arc<PluginNumbers>,
    ) -> Result<Rc<Vm>, Failure> {
        let limits = &plugin.limits;
        let limiter = Limiter::new(limits.memory, numbers);
        let mut error = None;
        // The store knows its VM, so that what it calls for can come back to it.
        let vm = Rc::new_cyclic(|vm| {
            let mut store = Store::new(
                linked.pre.module().engine(),
                VmData::new(guest, plugin.clone(), vm.clone(), limiter),
            );
            store.limiter(|data| &mut data.limiter);
            store.epoch_deadline_callback(|mut context| {
                let clock = &mut context.data_mut().clock;
                Ok(match clock.tick() {
                    true => {
                        clock.running_since().now();
                        UpdateDeadline::Continue(1)
                    }
                    false => UpdateDeadline::Interrupt,
                })
            });
            prepare(&mut store, limits.time, limits.host_bytes);
            let exports = initialize(linked, &mut store).unwrap_or_else(|why| {
                error = Some(failure(store.data(), &why));
                Exports::default()
            });
            store.data_mut().end_lines();
            Vm {
                live: RefCell::new(Live { store, exports }),
                end: RefCell::new(None),
                time: limits.time,
                host_bytes: limits.host_bytes,
            }
        });
        match error {
            Some(error) => Err(error),
            None => {
                vm.with(|data| data.mode = Mode::Running);
                Ok(vm)
            }
        }
    }

    /// Adds a configured filter: its root context is created, started and configured.
    pub fn add_root(
        &self,
        plugin: Arc<PluginContext>,
        settings: Arc<RootSettings>,
        services: Services,
    ) -> Result<Id, Failure> {
        let (vm_size, size) =
            self.with(|data| (data.guest.vm_config.len() as u32, settings.config.len() as u32));
        let id = self.with(|data| {
            let id = data.new_id();
            let root = Root {
                plugin,
                settings,
                services,
                configuring: false,
                tick: None,
                timer: 0,
                status: 0,
                has_queue: false,
                expressions: Default::default(),
                ending: Ending::No,
                ended: Rc::default(),
            };
            data.roots.insert(id, root);
            id
        });
        let started = (|| {
            self.call(id, |exports| &exports.context_create, (id, 0))?;
            if self.call(id, |exports| &exports.vm_start, (id, vm_size))? == Some(0) {
                return Err(Failure::Error("proxy_on_vm_start is false".to_owned()));
            }
            self.with_root(id, |root| root.configuring = true);
            if self.call(id, |exports| &exports.configure, (id, size))? == Some(0) {
                return Err(Failure::Error("proxy_on_configure is false".to_owned()));
            }
            Ok(())
        })();
        self.with_root(id, |root| root.configuring = false);
        started.inspect_err(|_| _ = self.with(|data| data.roots.remove(&id))).map(|()| id)
    }

    /// A new stream context; the guest learns of it at once.
    pub fn add_stream(&self, root: Id, interrupt: Rc<Interrupt>) -> Result<Id, Failure> {
        let id = self.with(|data| {
            let id = data.new_id();
            data.streams.insert(id, Box::new(Stream::new(root, interrupt)));
            id
        });
        if let Err(failure) = self.call(id, |exports| &exports.context_create, (id, root)) {
            self.with(|data| data.streams.remove(&id));
            return Err(failure);
        }
        Ok(id)
    }

    /// The end of a stream context: done, then delete.
    pub fn finish_stream(&self, id: Id) {
        if self.is_alive() {
            let ended = self.call(id, |exports| &exports.done, id);
            let ended = ended.and_then(|_| self.call(id, |exports| &exports.delete, id));
            self.report(ended, id);
        }
    }

    pub fn forget_stream(&self, id: Id) {
        self.with(|data| data.streams.remove(&id));
    }

    /// The end of a root context. One that is not done yet has some time to say so.
    pub fn end_root(self: &Rc<Self>, id: Id) {
        let done = self.call(id, |exports| &exports.done, id);
        if !matches!(done, Ok(Some(0))) {
            self.report(done, id);
            return self.delete_root(id);
        }
        let parked = self.with(|data| {
            let root = data.roots.get_mut(&id)?;
            root.ending = Ending::Waiting;
            Some((root.services.tasks.clone(), root.ended.clone()))
        });
        if let Some((tasks, ended)) = parked {
            let vm = self.clone();
            tasks.spawn(async move {
                let _ = tokio::time::timeout(PARKED, ended.notified()).await;
                vm.delete_root(id);
            });
        }
    }

    fn delete_root(&self, id: Id) {
        let deleted = self.call(id, |exports| &exports.delete, id);
        self.report(deleted, id);
        self.with(|data| data.roots.remove(&id));
    }

    pub fn is_alive(&self) -> bool {
        self.end.borrow().is_none()
    }

    /// Fails where it has ended.
    pub fn check(&self) -> Result<(), Failure> {
        match self.is_alive() {
            true => Ok(()),
            false => Err(self.after_its_end()),
        }
    }

    /// Whether a root has begun something that goes on without requests.
    pub fn is_lively(&self, root: Id) -> bool {
        self.with(|data| {
            let calls = !data.http_calls.is_empty() || !data.conversations.is_empty();
            calls || data.roots.get(&root).is_some_and(|root| root.tick.is_some() || root.has_queue)
        })
    }

    /// Looks at what the host holds for it, or changes it.
    pub fn with<T>(&self, act: impl FnOnce(&mut VmData) -> T) -> T {
        act(self.live.borrow_mut().store.data_mut())
    }

    fn with_root<T>(&self, id: Id, act: impl FnOnce(&mut Root) -> T) -> Option<T> {
        self.with(|data| data.roots.get_mut(&id).map(act))
    }

    pub fn with_stream<T>(&self, id: Id, act: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.with(|data| data.streams.get_mut(&id).map(|stream| act(stream)))
    }

    pub fn with_side<T>(
        &self,
        id: Id,
        side: fn(&mut Stream) -> &mut Side,
        act: impl FnOnce(&mut Side) -> T,
    ) -> Option<T> {
        self.with_stream(id, |stream| act(side(stream)))
    }

    /// Calls the guest for a context; none where it has no such callback.
    pub fn call<P: WasmParams, R: WasmResults>(
        &self,
        context: Id,
        callback: impl FnOnce(&Exports) -> &Option<TypedFunc<P, R>>,
        parameters: P,
    ) -> Result<Option<R>, Failure> {
        self.enter(context, |live| {
            let Some(function) = callback(&live.exports) else { return Ok(None) };
            function.call(&mut live.store, parameters).map(Some)
        })
    }

    /// Calls for a head: with or without the flag for its end, as the guest has it.
    pub fn call_headers(
        &self,
        context: Id,
        callback: impl FnOnce(&Exports) -> &Option<HeadersCallback>,
        (headers, ends): (u32, bool),
    ) -> Result<Option<u32>, Failure> {
        self.enter(context, |live| match callback(&live.exports) {
            None => Ok(None),
            Some(HeadersCallback::Two(function)) => {
                function.call(&mut live.store, (context, headers)).map(Some)
            }
            Some(HeadersCallback::Three(function)) => {
                function.call(&mut live.store, (context, headers, ends.into())).map(Some)
            }
        })
    }

    fn enter<R>(
        &self,
        context: Id,
        call: impl FnOnce(&mut Live) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        self.check()?;
        let Ok(mut live) = self.live.try_borrow_mut() else {
            return Err(Failure::Trap("was called from within a call".to_owned()));
        };
        prepare(&mut live.store, self.time, self.host_bytes);
        let data = live.store.data_mut();
        let before = (data.current, data.effective);
        (data.current, data.effective) = (context, context);
        let result = call(&mut live);
        let data = live.store.data_mut();
        data.end_lines();
        (data.current, data.effective) = before;
        data.limiter.numbers.host_calls.add(std::mem::take(&mut data.calls));
        let result = result.map_err(|error| failure(data, &error));
        drop(live);
        result.inspect_err(|failure| self.end(failure.clone()))
    }

    /// What a stream of a VM learns that something else has ended.
    fn after_its_end(&self) -> Failure {
        match &*self.end.borrow() {
            Some(failure) => Failure::Trap(format!("its VM has ended: it {failure}")),
            None => Failure::Trap("its VM has ended".to_owned()),
        }
    }

    /// From now on nothing in it is called; who waits for it learns that.
    fn end(&self, failure: Failure) {
        *self.end.borrow_mut() = Some(failure);
        if let Ok(mut live) = self.live.try_borrow_mut() {
            let data = live.store.data_mut();
            data.http_calls.clear();
            data.conversations.clear();
            data.streams.values().for_each(|stream| stream.wake.notify_one());
            data.roots.values().for_each(|root| root.ended.notify_one());
        }
    }

    /// Says in the log that a callback failed on which no request waits.
    fn report<T>(&self, result: Result<T, Failure>, context: Id) {
        let Err(failure) = result else { return };
        let name = self.with(|data| {
            let root = data.streams.get(&context).map_or(context, |stream| stream.root);
            data.roots.get(&root).map(|root| root.plugin.name.clone())
        });
        tracing::warn!(plugin = name.as_deref().unwrap_or_default(), "the plugin {failure}");
    }

    /// The timer of a root; false where it is over.
    pub fn tick(&self, root: Id, timer: u32) -> bool {
        let counts = |data: &mut VmData| {
            let known = data.roots.get(&root);
            known.is_some_and(|root| root.timer == timer && root.tick.is_some())
        };
        if !self.is_alive() || !self.with(counts) {
            return false;
        }
        let ticked = self.call(root, |exports| &exports.tick, root);
        self.report(ticked, root);
        self.is_alive() && self.with(counts)
    }

    /// There is something in a queue that the root has registered; false where the root is gone.
    pub fn queue_ready(&self, root: Id, queue: u32) -> bool {
        if !self.is_alive() || !self.with(|data| data.roots.contains_key(&root)) {
            return false;
        }
        let called = self.call(root, |exports| &exports.queue_ready, (root, queue));
        self.report(called, root);
        true
    }

    /// An HTTP call is over; without an answer where it broke off.
    pub fn http_answered(&self, token: u32, answer: Option<CallAnswer>) {
        let Some(root) = self.with(|data| data.http_calls.remove(&token)) else { return };
        let sizes = self.with(|data| match answer {
            Some(CallAnswer { headers, body, trailers }) => {
                let sizes = (headers.len() as u32, body.len() as u32, trailers.len() as u32);
                let (headers, body) = (Some(headers), Some(body));
                let trailers = Some(trailers).filter(|trailers| !trailers.is_empty());
                data.reply = Reply { headers, body, trailers, ..Reply::default() };
                sizes
            }
            None => {
                data.set_status(root, BROKEN_CONNECTION, Bytes::from_static(b"reset"));
                (0, 0, 0)
            }
        });
        let (headers, body, trailers) = sizes;
        let parameters = (root, token, headers, body, trailers);
        let called = self.call(root, |exports| &exports.http_call_response, parameters);
        self.report(called, root);
        self.forget_reply();
    }

    /// Something has come of a gRPC call.
    pub fn grpc_event(&self, token: u32, event: Event) {
        let is_last = event.is_last(token);
        let Some(root) = self.with(|data| data.grpc_root(token, &event)) else { return };
        let called = match event {
            Event::Initial(pairs) => {
                let count = pairs.len() as u32;
                self.with(|data| data.reply.initial = Some(pairs));
                self.call(root, |exports| &exports.grpc_initial_metadata, (root, token, count))
            }
            Event::Message(message) => {
                let size = message.len() as u32;
                self.with(|data| data.reply.message = Some(message));
                self.call(root, |exports| &exports.grpc_receive, (root, token, size))
            }
            Event::Trailing(pairs) => {
                let count = pairs.len() as u32;
                self.with(|data| data.reply.trailing = Some(pairs));
                self.call(root, |exports| &exports.grpc_trailing_metadata, (root, token, count))
            }
            Event::Close(code, message) => {
                self.with(|data| data.set_status(root, code, message));
                self.call(root, |exports| &exports.grpc_close, (root, token, code))
            }
        };
        self.report(called, root);
        if is_last {
            self.with(|data| data.conversations.remove(&token));
        }
        self.forget_reply();
    }

    fn forget_reply(&self) {
        self.with(|data| data.reply = Reply::default());
    }
}

/// Gives the next call its time and its bytes.
fn prepare(store: &mut Store<VmData>, time: Duration, bytes: usize) {
    let data = store.data_mut();
    data.clock.start(time);
    data.bytes_left = bytes;
    store.set_epoch_deadline(1);
}

/// The module's own start, in the order of Envoy: `_initialize` and then `main`, or else `_start`.
fn initialize(linked: &Linked, store: &mut Store<VmData>) -> wasmtime::Result<Exports> {
    let instance = linked.pre.instantiate(&mut *store)?;
    let memory = instance.get_memory(&mut *store, "memory");
    store.data_mut().memory = memory;
    let mut exports = Finder { store, instance: &instance };
    // `malloc` first, as Envoy does; but TinyGo's never lets go of what nobody frees.
    let allocate = match exports.find::<u32, u32>("proxy_on_memory_allocate")? {
        Some(allocate) => Some(allocate),
        None => exports.find("malloc")?,
    };
    let initialize = exports.find::<(), ()>("_initialize")?;
    let start = exports.find::<(), ()>("_start")?;
    let main = exports.find::<(u32, u32), u32>("main")?;
    let main_void = exports.find::<(), u32>("__main_void")?;
    store.data_mut().allocate = allocate;
    match (initialize, start) {
        (Some(initialize), _) => {
            initialize.call(&mut *store, ())?;
            match (main, main_void) {
                (Some(main), _) => _ = main.call(&mut *store, (0, 0))?,
                (None, Some(main)) => _ = main.call(&mut *store, ())?,
                (None, None) => {}
            }
        }
        (None, Some(start)) => start.call(&mut *store, ())?,
        (None, None) => {}
    }
    Exports::find(store, &instance)
}

fn failure(data: &VmData, error: &wasmtime::Error) -> Failure {
    if data.clock.is_out() {
        Failure::Deadline
    } else if data.limiter.refused {
        Failure::Memory
    } else {
        Failure::Trap(brief(error))
    }
}
