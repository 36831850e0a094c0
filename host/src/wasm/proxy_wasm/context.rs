//! What the host holds for one VM: its root contexts, its streams, and what is at hand for the callback that
//! runs.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use wasmtime::{Memory, TypedFunc};

use super::{
    abi::{Answer, Fault, Status},
    imports::{foreign::expression::Expressions, grpc::Conversation},
    module::Guest,
    vm::Vm,
};
use crate::{
    config::Node,
    plugin::{
        LocalResponse, Summary,
        exchange::State,
        interrupt::{Interrupt, Ruling},
        services::Services,
    },
    telemetry::series::Series,
    wasm::{
        limits::{Clock, Limiter},
        store::PluginContext,
    },
};

/// The id of a root or stream context in its VM.
pub type Id = u32;

/// By ids, which this host gives out in turn: there is nothing to defend against.
pub type ById<T> = HashMap<Id, T, BuildHasherDefault<IdHasher>>;

#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u32(&mut self, id: u32) {
        // Fibonacci hashing: neighbours are spread over the table.
        self.0 = u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(self.0 as u32 ^ u32::from(byte)));
    }
}

/// Calls of one VM that are under way at a time.
const MAX_CALLS: usize = 10_000;

/// A header map that is the guest's for the time of a callback.
pub type Pairs = Vec<(Bytes, Bytes)>;

pub struct VmData {
    pub guest: Arc<Guest>,
    pub vm: Weak<Vm>,
    pub memory: Option<Memory>,
    pub allocate: Option<TypedFunc<u32, u32>>,
    pub mode: Mode,
    pub limiter: Limiter,
    pub clock: Clock,
    /// Host functions that the guest has called in this callback.
    pub calls: u64,
    /// Bytes that host functions may still move in this callback.
    pub bytes_left: usize,
    pub roots: ById<Root>,
    pub streams: ById<Box<Stream>>,
    /// The context that was called, and the one on whose behalf the guest acts.
    pub current: Id,
    pub effective: Id,
    next_id: Id,
    next_token: u32,
    /// Calls that are under way, by token: the root that they belong to.
    pub http_calls: HashMap<u32, Id>,
    pub conversations: HashMap<u32, Conversation>,
    /// What a call was answered with, for the time of its callback.
    pub reply: Reply,
    /// By place.
    pub metrics: Vec<Series>,
    /// Properties that were declared, and of what kind.
    pub declared: HashMap<String, i32>,
    /// What was written to standard output and error since the last end of a line.
    pub output: [Vec<u8>; 2],
    /// The plugin that the VM was started for.
    plugin: Arc<PluginContext>,
}

/// What the guest may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The module's own start functions run.
    Starting,
    Running,
    /// The host asks for memory, from within a host function.
    Allocating,
}

#[derive(Default)]
pub struct Reply {
    pub headers: Option<Pairs>,
    pub body: Option<Bytes>,
    pub trailers: Option<Pairs>,
    /// Of gRPC.
    pub initial: Option<Pairs>,
    pub message: Option<Bytes>,
    pub trailing: Option<Pairs>,
    /// What is to be said of its status.
    pub status_message: Bytes,
}

/// A configured filter in its VM.
pub struct Root {
    pub plugin: Arc<PluginContext>,
    pub settings: Arc<RootSettings>,
    pub services: Services,
    /// Only while the root is configured.
    pub configuring: bool,
    pub tick: Option<Duration>,
    /// The timer that counts; the ones before end.
    pub timer: u32,
    /// That of the last call that failed, or of the last gRPC call: as in Envoy, no HTTP call that goes well changes it.
    pub status: u32,
    /// It takes items from queues.
    pub has_queue: bool,
    pub expressions: Expressions,
    pub ending: Ending,
    pub ended: Rc<Notify>,
}

/// How far a root is with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    No,
    /// It said that it is not done yet.
    Waiting,
    Done,
}

/// What makes a root another one.
pub struct RootSettings {
    pub root_id: String,
    pub config: Bytes,
    /// Names of upstreams as the guest knows them, where they are not the same.
    pub clusters: Vec<(String, Arc<str>)>,
    /// The route is looked up again where the guest changes a request's head.
    pub reroute: bool,
    pub node: Arc<Node>,
}

/// One request and its response.
pub struct Stream {
    pub root: Id,
    /// For the time of a phase, also while it is paused.
    pub state: Option<Box<State>>,
    pub request: Side,
    pub response: Side,
    /// How the guest wants it to end.
    pub ruling: Option<Ruling>,
    /// A phase waits for the guest, or holds a body for it.
    pub waits: bool,
    pub wake: Rc<Notify>,
    pub interrupt: Rc<Interrupt>,
    /// The filter has been called for the response's head.
    pub response_reached: bool,
    /// Once the exchange is over.
    pub summary: Option<Summary>,
    /// For the time of the log callback.
    pub log_open: bool,
    /// The guest has changed what the route was found by.
    pub reroute: bool,
}

/// Where a head is not what it is in the gateway: calls of the guest succeed as in Envoy, and what cannot be sent is
/// told once the head is to go on.
#[derive(Default)]
pub struct Flaws {
    /// Pseudo headers that the guest has removed.
    pub missing: Vec<&'static str>,
    /// The guest has put in what is no HTTP.
    pub broken: bool,
    /// The scheme is the connection's; the guest sees the one that it has set.
    pub scheme: Option<String>,
}

impl Flaws {
    /// Envoy too can do without a scheme.
    pub fn are_fatal(&self) -> bool {
        self.broken || self.missing.iter().any(|name| *name != ":scheme")
    }
}

/// One direction of a stream.
#[derive(Default)]
pub struct Side {
    /// The head is the guest's to change: until it has gone on.
    pub head_open: bool,
    pub body_open: bool,
    pub trailers_open: bool,
    /// What the guest has made of the head that cannot be said in a head.
    pub flaws: Flaws,
    pub paused: bool,
    /// The guest has asked to go on.
    pub resumed: bool,
    /// A piece of the body as it came, where nothing is kept.
    pub chunk: Bytes,
    /// What is kept of the body.
    pub kept: BytesMut,
    /// The guest has changed what is kept or the piece.
    pub changed: bool,
}

impl Side {
    pub fn data(&self) -> &[u8] {
        if self.kept.is_empty() { &self.chunk } else { &self.kept }
    }

    pub fn push(&mut self, chunk: Bytes) {
        match self.kept.is_empty() {
            true => self.chunk = chunk,
            false => self.kept.extend_from_slice(&chunk),
        }
    }

    /// From now on pieces are kept.
    pub fn keep(&mut self) {
        if self.kept.is_empty() {
            self.kept = BytesMut::from(std::mem::take(&mut self.chunk));
        }
    }

    pub fn take(&mut self) -> Bytes {
        self.changed = false;
        match self.kept.is_empty() {
            true => std::mem::take(&mut self.chunk),
            false => self.kept.split().freeze(),
        }
    }

    /// See [`replaced`].
    pub fn replace(&mut self, start: usize, size: usize, bytes: &[u8]) -> Answer {
        let new = replaced(self.data(), start, size, bytes)?;
        self.changed = true;
        match self.kept.is_empty() {
            true => self.chunk = new.into(),
            false => self.kept = BytesMut::from(&new[..]),
        }
        Ok(())
    }
}

/// With bytes before all, in the place of what is in front, or behind all; not in the middle, as in Envoy.
pub fn replaced(data: &[u8], start: usize, size: usize, bytes: &[u8]) -> Answer<Vec<u8>> {
    match start {
        0 => Ok([bytes, &data[size.min(data.len())..]].concat()),
        _ if start >= data.len() => Ok([data, bytes].concat()),
        _ => Err(Status::BadArgument.into()),
    }
}

impl VmData {
    pub fn new(guest: Arc<Guest>, plugin: Arc<PluginContext>, vm: Weak<Vm>, limiter: Limiter) -> Self {
        VmData {
            guest,
            vm,
            memory: None,
            allocate: None,
            mode: Mode::Starting,
            limiter,
            clock: Clock::default(),
            calls: 0,
            bytes_left: 0,
            roots: ById::default(),
            streams: ById::default(),
            current: 0,
            effective: 0,
            next_id: 1,
            next_token: 0,
            http_calls: HashMap::new(),
            conversations: HashMap::new(),
            reply: Reply::default(),
            metrics: Vec::new(),
            declared: HashMap::new(),
            output: Default::default(),
            plugin,
        }
    }

    /// An id that no context has.
    pub fn new_id(&mut self) -> Id {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1).max(1);
            if !self.roots.contains_key(&id) && !self.streams.contains_key(&id) {
                return id;
            }
        }
    }

    /// A token that no call has; its low bits tell its kind, as in Envoy. None while too many are under way.
    pub fn new_token(&mut self, kind: u32) -> Answer<u32> {
        if self.http_calls.len() + self.conversations.len() >= MAX_CALLS {
            return Err(Status::InternalFailure.into());
        }
        loop {
            self.next_token = self.next_token.wrapping_add(4).max(4);
            let token = self.next_token | kind;
            if !self.http_calls.contains_key(&token) && !self.conversations.contains_key(&token) {
                return Ok(token);
            }
        }
    }

    fn root_of(&self, id: Id) -> Option<Id> {
        match self.streams.get(&id) {
            Some(stream) => Some(stream.root),
            None => self.roots.contains_key(&id).then_some(id),
        }
    }

    /// The root on whose behalf the guest acts.
    pub fn root_id(&self) -> Answer<Id> {
        let root = self.root_of(self.effective).or_else(|| self.root_of(self.current));
        root.ok_or(Fault::Status(Status::BadArgument))
    }

    pub fn root(&mut self) -> Answer<&mut Root> {
        let id = self.root_id()?;
        self.roots.get_mut(&id).ok_or(Fault::Status(Status::BadArgument))
    }

    /// What `proxy_get_status` tells.
    pub fn set_status(&mut self, root: Id, code: u32, message: Bytes) {
        self.reply.status_message = message;
        if let Some(root) = self.roots.get_mut(&root) {
            root.status = code;
        }
    }

    /// The plugin that speaks; the VM's first one where no context was called.
    pub fn plugin(&self) -> &Arc<PluginContext> {
        let root = self.root_of(self.current).and_then(|id| self.roots.get(&id));
        root.map_or(&self.plugin, |root| &root.plugin)
    }

    /// The stream on whose behalf the guest acts, if it does so for one.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        match self.streams.contains_key(&self.effective) {
            true => self.streams.get_mut(&self.effective),
            false => self.streams.get_mut(&self.current),
        }
        .map(|stream| &mut **stream)
    }

    pub fn state(&mut self) -> Option<&mut State> {
        self.stream()?.state.as_deref_mut()
    }
}

impl Stream {
    pub fn new(root: Id, interrupt: Rc<Interrupt>) -> Self {
        Stream {
            root,
            state: None,
            request: Side::default(),
            response: Side::default(),
            ruling: None,
            waits: false,
            wake: Rc::default(),
            interrupt,
            response_reached: false,
            summary: None,
            log_open: false,
            reroute: false,
        }
    }

    /// Ends the stream: the phase that runs or waits does it, or else whoever waits for the upstream. The first
    /// one counts.
    pub fn rule(&mut self, ruling: Ruling) {
        if self.summary.is_some() {
            return;
        }
        if self.state.is_some() || self.waits {
            self.ruling.get_or_insert(ruling);
            self.wake.notify_one();
        } else {
            self.interrupt.raise(ruling);
        }
    }

    pub fn respond(&mut self, local: Box<LocalResponse>) {
        self.rule(Ruling::Respond(local));
    }

    /// Lets a side go on, now or once its callback has returned.
    pub fn resume(side: &mut Side, wake: &Notify) {
        if std::mem::take(&mut side.paused) {
            wake.notify_one();
        }
        side.resumed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(kept: bool) -> Side {
        let mut side = Side::default();
        side.push(Bytes::from_static(b"abc"));
        if kept {
            side.keep();
        }
        side
    }

    #[test]
    fn bytes_are_put_in_place_as_envoy_does() {
        for kept in [false, true] {
            for (start, size, expected) in [
                (0, 0, Ok("xyabc")),
                (0, 2, Ok("xyc")),
                (0, 3, Ok("xy")),
                (0, usize::MAX, Ok("xy")),
                (3, 0, Ok("abcxy")),
                (9, 9, Ok("abcxy")),
                (1, 1, Err(())),
            ] {
                let mut side = side(kept);
                let replaced = side.replace(start, size, b"xy").map_err(|_| ());
                assert_eq!(replaced.map(|()| side.take()), expected.map(Bytes::from), "{start} {size}");
            }
        }
    }

    #[test]
    fn what_is_kept_grows() {
        let mut side = side(true);
        side.push(Bytes::from_static(b"d"));
        assert_eq!(side.data(), b"abcd");
        assert_eq!(side.take(), "abcd");
        side.push(Bytes::from_static(b"e"));
        assert_eq!((side.take(), side.data()), (Bytes::from("e"), &b""[..]));
    }
}
