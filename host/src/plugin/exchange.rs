//! One request and its response as plugins see them, and the rules of what they may change when.
//! It does not know where messages come from or go to.

mod key;

use std::{
    any::Any,
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    ops::{Deref, DerefMut, Range},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version, header,
    uri::{Authority, PathAndQuery},
};

use tokio::time::Instant;

use super::{
    BodyMode,
    audit::Account,
    headers::{Additions, Refusal},
    interrupt::Interrupt,
    rollout,
};
use crate::{grpc, telemetry::trace::Trace};

pub use key::cookie;

/// Longest variable or its name, and most variables of one request.
const MAX_VAR: usize = 64 * 1024;
const MAX_VARS: usize = 64;

/// The state of one request, owned by whoever works on it: the proxy, or for the time of a call
/// the guest's store. It moves by pointer.
pub struct Exchange {
    state: Option<Box<State>>,
    /// What filters keep with the request until it is over, each under a key of its own.
    kept: Vec<(Key, Rc<dyn Kept>)>,
    /// Where a filter has asked for it.
    interrupt: Option<Rc<Interrupt>>,
}

/// What a filter keeps with a request.
pub trait Kept: Any {
    /// The request is over, and this the last look at it.
    fn end(&self, exchange: &mut Exchange);
}

/// A filter's identity and its place in the chain.
pub type Key = (u64, usize);

#[derive(Clone)]
pub struct State {
    pub request: RequestHead,
    pub response: Option<ResponseHead>,
    pub connection: Arc<Connection>,
    pub client_ip: IpAddr,
    pub route: Arc<str>,
    /// A plugin has changed what the route was found by: it is to be looked up again.
    pub reroute: bool,
    /// The route's own upstream.
    pub route_upstream: Option<Arc<str>>,
    /// When the request came.
    pub begun: Instant,
    /// How it is written, where it is a call of gRPC.
    pub grpc: Option<grpc::Kind>,
    /// The request's Accept, where its headers went to the upstream.
    pub accept: Option<HeaderValue>,
    pub params: Params,
    /// Chosen by a plugin in place of the route's; a name the proxy knows.
    pub upstream: Option<Arc<str>>,
    pub phase: Phase,
    /// Nothing follows in the message of the phase that runs but trailers.
    pub ends: bool,
    /// Trailers of the bodies that have come to their end.
    pub request_trailers: Option<Box<HeaderMap>>,
    pub response_trailers: Option<Box<HeaderMap>>,
    /// The plugin that is called, by its place in the chain.
    pub place: usize,
    /// Upstream and endpoint that the request was sent to.
    pub asked: Option<(Arc<str>, Arc<str>)>,
    /// How often it was sent.
    pub attempts: u32,
    /// Set in a head phase by the plugin that is being called, taken by the chain after it.
    pub body_mode: Option<BodyMode>,
    /// How many plugins of the chain saw the request.
    pub seen: usize,
    /// Places of the plugins that failed: they are not asked again.
    pub failed: Vec<usize>,
    /// Of plugins that are rolled out: which version the request got, by the roll-out's identity.
    pub versions: Vec<(u64, rollout::Version)>,
    /// Of the plugin that is being called, taken by the chain after it.
    pub account: Account,
    /// Where traces are on.
    pub trace: Option<Box<Trace>>,
    /// What plugins have the answer say, whoever makes it.
    pub answer_headers: Additions,
    vars: Vec<(Box<str>, Box<[u8]>)>,
}

/// What plugins may change now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Request,
    /// `open`: the head was not sent upstream yet.
    RequestBody {
        open: bool,
    },
    Response,
    /// `open`: the head was not sent to the client yet.
    ResponseBody {
        open: bool,
    },
    Log,
}

#[derive(Clone)]
pub struct RequestHead {
    pub method: Method,
    pub version: Version,
    /// As the client named it.
    pub authority: Authority,
    /// Path and query as matched.
    pub target: PathAndQuery,
    pub headers: HeaderMap,
    /// What a plugin wants sent upstream in their place.
    pub send_authority: Option<Authority>,
    pub send_target: Option<PathAndQuery>,
}

#[derive(Clone)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Why it is not the upstream's: a word for it, or what the plugin that answered had to say.
    pub local: Option<Cow<'static, str>>,
}

impl ResponseHead {
    pub fn from_upstream(&self) -> bool {
        self.local.is_none()
    }
}

/// Facts of a client's connection.
#[derive(Debug)]
pub struct Connection {
    /// Tells connections of this process apart.
    pub id: u64,
    pub peer: SocketAddr,
    /// The peer's address as a header has it.
    pub peer_ip: HeaderValue,
    pub local: SocketAddr,
    pub tls: Option<Tls>,
}

/// Facts of a client's TLS connection.
#[derive(Debug)]
pub struct Tls {
    pub version: String,
    pub cipher: String,
    pub sni: Option<String>,
    pub alpn: Option<String>,
    pub client_certificate: Option<Vec<u8>>,
    /// What X-Forwarded-Client-Cert is to say to upstreams: none where it is left alone, and none in it where there is
    /// nothing to be said.
    pub client_header: Option<Option<HeaderValue>>,
}

/// Values of the route's path parameters, as ranges of the path.
#[derive(Clone, Default)]
pub struct Params(pub Vec<(Box<str>, Range<usize>)>);

impl Exchange {
    pub fn new(state: Box<State>) -> Self {
        Exchange { state: Some(state), kept: Vec::new(), interrupt: None }
    }

    /// Hands the state to a guest's store, which must [`Self::restore`] it on every way out.
    pub fn lend(&mut self) -> Option<Box<State>> {
        self.state.take()
    }

    pub fn restore(&mut self, state: Box<State>) {
        self.state = Some(state);
    }

    /// All of it, for whoever goes on with it; what stays behind is of no use.
    pub fn take(&mut self) -> Option<Exchange> {
        let state = Some(self.state.take()?);
        Some(Exchange { state, kept: std::mem::take(&mut self.kept), interrupt: self.interrupt.take() })
    }

    /// The way to end the request from outside of a phase.
    pub fn interrupt(&mut self) -> Rc<Interrupt> {
        self.interrupt.get_or_insert_default().clone()
    }

    /// The same, where a filter has asked for it.
    pub fn interrupted(&self) -> Option<Rc<Interrupt>> {
        self.interrupt.clone()
    }

    pub fn keep(&mut self, key: Key, value: Rc<dyn Kept>) {
        self.kept.push((key, value));
    }

    pub fn kept<T: Any>(&self, key: Key) -> Option<Rc<T>> {
        let (_, value) = self.kept.iter().find(|(known, _)| *known == key)?;
        let value: Rc<dyn Any> = value.clone();
        value.downcast().ok()
    }

    /// Another one that looks the same, to be changed without consequence.
    pub fn copy(&mut self) -> Exchange {
        // What happens to the copy is not the request's.
        let trace = self.trace.take();
        let copy = Exchange { state: self.state.clone(), kept: self.kept.clone(), interrupt: None };
        self.trace = trace;
        copy
    }

    /// Keeps on what filters began to keep with a copy.
    pub fn keep_on(&mut self, copy: Exchange) {
        let is_new = |(key, _): &&(Key, Rc<dyn Kept>)| !self.kept.iter().any(|(known, _)| known == key);
        let new: Vec<_> = copy.kept.iter().filter(is_new).cloned().collect();
        self.kept.extend(new);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.state.is_some() {
            // Those that are shared with a copy end with the last of both.
            let kept = std::mem::take(&mut self.kept).into_iter();
            let last = kept.filter(|(_, value)| Rc::strong_count(value) == 1);
            last.for_each(|(_, value)| value.end(self));
        }
    }
}

impl Deref for Exchange {
    type Target = State;

    #[expect(clippy::expect_used, reason = "lend() and restore() come in pairs, within one call")]
    fn deref(&self) -> &State {
        self.state.as_ref().expect("the state is lent to a guest")
    }
}

impl DerefMut for Exchange {
    #[expect(clippy::expect_used, reason = "lend() and restore() come in pairs, within one call")]
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_mut().expect("the state is lent to a guest")
    }
}

impl RequestHead {
    /// As received, or as a plugin has set it.
    pub fn current_target(&self) -> &PathAndQuery {
        self.send_target.as_ref().unwrap_or(&self.target)
    }

    /// Whether a browser asks if it may send a request (Fetch Standard, section 3.3.2).
    pub fn is_preflight(&self) -> bool {
        self.method == Method::OPTIONS
            && self.headers.contains_key(header::ORIGIN)
            && self.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }
}

impl Connection {
    pub fn new(peer: SocketAddr, local: SocketAddr, tls: Option<Tls>) -> Self {
        let text = peer.ip().to_canonical().to_string();
        // Digits, letters, dots and colons.
        let peer_ip = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown"));
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Connection { id: COUNT.fetch_add(1, Relaxed), peer, peer_ip, local, tls }
    }
}

impl State {
    pub fn new(request: RequestHead, connection: Arc<Connection>, client_ip: IpAddr) -> Self {
        State {
            request,
            response: None,
            connection,
            client_ip,
            route: Arc::from(""),
            reroute: false,
            route_upstream: None,
            begun: Instant::now(),
            grpc: None,
            accept: None,
            params: Params::default(),
            upstream: None,
            phase: Phase::Request,
            ends: false,
            request_trailers: None,
            response_trailers: None,
            place: 0,
            asked: None,
            attempts: 0,
            body_mode: None,
            seen: 0,
            failed: Vec::new(),
            versions: Vec::new(),
            account: Account::default(),
            trace: None,
            answer_headers: Additions::default(),
            vars: Vec::new(),
        }
    }

    pub fn scheme(&self) -> &'static str {
        match self.connection.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        let (_, range) = self.params.0.iter().find(|(n, _)| &**n == name)?;
        self.request.target.path().get(range.clone())
    }

    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let path = self.request.target.path();
        self.params.0.iter().map(move |(name, range)| (&**name, path.get(range.clone()).unwrap_or_default()))
    }

    pub fn var(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.vars.iter().find(|(n, _)| &**n == name)?;
        Some(value)
    }

    pub fn vars(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.vars.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn same_vars(&self, other: &State) -> bool {
        self.vars == other.vars
    }

    pub fn set_var(&mut self, name: String, value: Vec<u8>) -> Result<(), Refusal> {
        match self.phase {
            Phase::Log => Err(Refusal::Immutable),
            _ => self.put_var(name, value),
        }
    }

    /// In any phase: those that come after the one for the log see it.
    pub fn put_var(&mut self, name: String, value: Vec<u8>) -> Result<(), Refusal> {
        if name.len() + value.len() > MAX_VAR {
            return Err(Refusal::TooLarge);
        }
        if name == "consumer" {
            self.account.announce();
        }
        let known = self.vars.len();
        match self.vars.iter_mut().find(|(n, _)| **n == *name) {
            Some((_, old)) => *old = value.into(),
            None if known >= MAX_VARS => return Err(Refusal::Exhausted),
            None => self.vars.push((name.into(), value.into())),
        }
        Ok(())
    }

    /// Whether there is room for these, where none means that there is to be none of the name.
    pub(super) fn check_vars(&self, names: &[&str], values: &[Option<String>]) -> Result<(), Refusal> {
        let too_large = |(name, value): (&&str, &Option<String>)| {
            value.as_ref().is_some_and(|value| name.len() + value.len() > MAX_VAR)
        };
        if names.iter().zip(values).any(too_large) {
            return Err(Refusal::TooLarge);
        }
        let others = self.vars.iter().filter(|(name, _)| !names.contains(&&**name)).count();
        let given = values.iter().flatten().count();
        if others + given > MAX_VARS { Err(Refusal::Exhausted) } else { Ok(()) }
    }

    /// Sets it, or takes it away.
    pub(super) fn replace_var(&mut self, name: &str, value: Option<Vec<u8>>) {
        let place = self.vars.iter().position(|(known, _)| **known == *name);
        match (place, value) {
            (Some(place), Some(value)) => self.vars[place].1 = value.into(),
            (Some(place), None) => _ = self.vars.remove(place),
            (None, Some(value)) => self.vars.push((name.into(), value.into())),
            (None, None) => {}
        }
    }

    /// Of the answer, as long as the request may be changed.
    pub fn set_answer_headers(&mut self, fields: Vec<(String, Vec<u8>)>) -> Result<(), Refusal> {
        self.request_mut()?;
        self.answer_headers.set(fields)
    }

    /// Begins the phase of the response, which says what plugins have asked for.
    pub fn begin_response(&mut self) {
        self.phase = Phase::Response;
        if let Some(response) = &mut self.response {
            self.answer_headers.move_to(&mut response.headers);
        }
    }

    /// The request, where it may still be changed.
    pub fn request_mut(&mut self) -> Result<&mut RequestHead, Refusal> {
        match self.phase {
            Phase::Request | Phase::RequestBody { open: true } => Ok(&mut self.request),
            _ => Err(Refusal::Immutable),
        }
    }

    /// The response, where it may still be changed.
    pub fn response_mut(&mut self) -> Result<&mut ResponseHead, Refusal> {
        match self.phase {
            Phase::Response | Phase::ResponseBody { open: true } => {
                self.response.as_mut().ok_or(Refusal::Immutable)
            }
            _ => Err(Refusal::Immutable),
        }
    }

    /// The request's trailers, where they have come and may still be changed.
    pub fn request_trailers_mut(&mut self) -> Result<&mut HeaderMap, Refusal> {
        match self.phase {
            Phase::RequestBody { .. } if self.ends => Ok(self.request_trailers.get_or_insert_default()),
            _ => Err(Refusal::Immutable),
        }
    }

    /// The same of the response.
    pub fn response_trailers_mut(&mut self) -> Result<&mut HeaderMap, Refusal> {
        match self.phase {
            Phase::ResponseBody { .. } if self.ends => Ok(self.response_trailers.get_or_insert_default()),
            _ => Err(Refusal::Immutable),
        }
    }

    pub fn set_method(&mut self, method: &str) -> Result<(), Refusal> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::InvalidValue)?;
        if method == Method::CONNECT {
            return Err(Refusal::Forbidden);
        }
        self.request_mut()?.method = method;
        Ok(())
    }

    pub fn set_authority(&mut self, authority: &str) -> Result<(), Refusal> {
        let authority: Authority = authority.parse().map_err(|_| Refusal::InvalidValue)?;
        if authority.as_str().contains('@') {
            return Err(Refusal::InvalidValue);
        }
        self.request_mut()?.send_authority = Some(authority);
        Ok(())
    }

    pub fn set_target(&mut self, target: &str) -> Result<(), Refusal> {
        if !target.starts_with('/') || target.contains('#') {
            return Err(Refusal::InvalidValue);
        }
        let target = target.parse().map_err(|_| Refusal::InvalidValue)?;
        self.request_mut()?.send_target = Some(target);
        Ok(())
    }

    pub fn set_upstream(&mut self, name: Arc<str>) -> Result<(), Refusal> {
        self.request_mut()?;
        self.upstream = Some(name);
        Ok(())
    }

    /// Three digits that may end an exchange; 1xx are the connection's own.
    pub fn set_status(&mut self, status: u16) -> Result<(), Refusal> {
        let status = final_status(status).ok_or(Refusal::InvalidValue)?;
        self.response_mut()?.status = status;
        Ok(())
    }

    /// `head` is the phase of the message whose body is asked for.
    pub fn set_body_mode(&mut self, head: Phase, mode: Option<BodyMode>) -> Result<(), Refusal> {
        if self.phase != head {
            return Err(Refusal::Immutable);
        }
        self.body_mode = mode;
        Ok(())
    }
}

/// A status that a plugin may answer with.
pub fn final_status(status: u16) -> Option<StatusCode> {
    if !(200..=599).contains(&status) {
        return None;
    }
    StatusCode::from_u16(status).ok()
}
