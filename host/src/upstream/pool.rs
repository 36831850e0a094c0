//! Connections to one endpoint from one worker: opened when needed, kept for a while. Those of HTTP/1.1 are never shared by
//! two requests at a time, and never reused after anything went wrong.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response, Version, uri::Scheme};
use hyper::client::conn::{
    TrySendError,
    http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{Notify, oneshot},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Address, Endpoint, Gauges, Upstream};
use crate::{
    body::Body,
    clock,
    config::{KeepAlive, Protocol},
    sync::Mutex,
    telemetry::numbers::{EndpointNumbers, UpstreamNumbers},
    tls::Connector,
};

pub(super) mod http2;

use http2::{Carriers, Ride};

pub struct Pool {
    pub endpoint: Arc<Endpoint>,
    pub numbers: Arc<EndpointNumbers>,
    /// Of the upstream as a whole.
    total: Arc<UpstreamNumbers>,
    upstream: RefCell<Arc<Upstream>>,
    keep: Cell<KeepAlive>,
    /// Open connections.
    open: Rc<Cell<u32>>,
    /// One of them has become idle.
    freed: Notify,
    /// Connections that wait for a request, the last used one last.
    idle: RefCell<Vec<(SendRequest<Body>, Instant)>>,
    carriers: http2::Carriers,
    /// Held while a connection is opened that many are to share.
    opening: Mutex<()>,
    /// What the endpoint has chosen where it had the choice.
    chosen: Cell<Option<Version>>,
}

/// A request at an endpoint, from the moment in which it was chosen to the end of its answer.
struct Visit(Rc<Pool>);

/// A connection under way; goes back to the idle ones only by [`Self::release`].
pub struct Connection {
    sender: Sender,
    visit: Visit,
    /// It may be used again: the library would send no chunks to an endpoint that has answered by HTTP/1.0, and no body
    /// without a length.
    again: bool,
    switched: Option<oneshot::Receiver<Switched>>,
}

/// A connection that goes on in another protocol.
pub struct Switched {
    pub stream: Box<dyn Transport>,
    /// What has come of it already.
    pub first: Bytes,
    _opened: Opened,
}

/// What a request is sent on.
enum Sender {
    Http1(SendRequest<Body>),
    Http2(Ride),
}

pub type Sent = Result<(Response<Body>, Connection), Failed>;

/// No response came. The request is there again where nothing of it was sent.
pub struct Failed {
    pub error: Error,
    pub unsent: Option<Box<Request<Body>>>,
}

/// Why there is no response.
#[derive(Debug)]
pub enum Error {
    Connect(io::Error),
    ConnectTimeout,
    /// There were too many connections for too long, or too many requests that wait for one.
    Overloaded,
    /// The endpoint has not looked at the request.
    Refused(Cause),
    /// The connection broke before the response's head.
    Reset(Cause),
    /// What came is not an HTTP response.
    Protocol(Cause),
    /// The request's own body ended the exchange.
    RequestBody(Cause),
}

pub type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Pool {
    pub fn new(
        endpoint: Arc<Endpoint>,
        numbers: Arc<EndpointNumbers>,
        total: Arc<UpstreamNumbers>,
        upstream: Arc<Upstream>,
    ) -> Self {
        Pool {
            endpoint,
            numbers,
            total,
            keep: Cell::new(upstream.settings.keep_alive),
            upstream: RefCell::new(upstream),
            open: Rc::default(),
            freed: Notify::new(),
            idle: RefCell::default(),
            carriers: Carriers::default(),
            opening: Mutex::new(()),
            chosen: Cell::new(None),
        }
    }

    /// Whose settings hold from now on.
    pub fn adopt(&self, upstream: &Arc<Upstream>) {
        self.keep.set(upstream.settings.keep_alive);
        let before = self.upstream.replace(upstream.clone());
        let (before, now) = (&before.settings, &upstream.settings);
        if !std::ptr::eq(before, now) && (&before.tls, before.protocol) != (&now.tls, now.protocol) {
            // They were opened to whoever was good enough then.
            self.idle.borrow_mut().clear();
            self.carriers.clear();
            self.chosen.set(None);
        }
    }

    /// Whether it gets requests. Otherwise its connections only keep others from having some.
    pub fn set_serving(&self, serving: bool) {
        let connections = self.upstream.borrow().settings.keep_alive.connections;
        let keep = KeepAlive { connections: if serving { connections } else { 0 }, ..self.keep.get() };
        self.keep.set(keep);
        if !serving {
            self.idle.borrow_mut().clear();
            self.carriers.clear();
        }
    }

    /// Requests of this worker that are there now.
    pub fn under_way(&self) -> u32 {
        (self.numbers.begun.get() - self.numbers.ended.get()) as u32
    }

    /// Sends on a kept connection or a new one. A kept one that turns out to be closed before
    /// anything was sent on it is replaced silently.
    pub fn send(self: Rc<Self>, request: Box<Request<Body>>) -> impl Future<Output = Sent> {
        let protocol = self.upstream.borrow().settings.protocol;
        self.send_by(protocol, request)
    }

    /// The same by a protocol that is not the configured one.
    pub async fn send_by(self: Rc<Self>, protocol: Protocol, mut request: Box<Request<Body>>) -> Sent {
        let visit = Visit::begin(self);
        // In boxes, here and where connections are made, so that requests that find one have no room for it.
        while !visit.0.shares(protocol) {
            let (mut sender, reused) = match visit.0.take_idle().await {
                Some(sender) => (sender, true),
                None => match Box::pin(visit.0.another(protocol)).await {
                    Ok((Sender::Http1(sender), reused)) => (sender, reused),
                    // It has chosen the other one this time.
                    Ok((Sender::Http2(_), _)) => continue,
                    Err(error) => return Err(Failed { error, unsent: Some(request) }),
                },
            };
            match sender.try_send_request(*request).await {
                Ok(response) => {
                    return Ok(visit.answered(response.map(Body::from), Sender::Http1(sender)));
                }
                Err(error) => match error.into() {
                    Failed { unsent: Some(unsent), .. } if reused => request = unsent,
                    failed => return Err(failed),
                },
            }
        }
        Box::pin(visit.send_shared(protocol, request)).await
    }

    /// Sends a request that asks to go on in another protocol: by HTTP/1.1, on a connection of its own.
    pub async fn switch(self: Rc<Self>, request: Box<Request<Body>>) -> Sent {
        let visit = Visit::begin(self);
        let (mut sender, switched) = match visit.0.own().await {
            Ok(own) => own,
            Err(error) => return Err(Failed { error, unsent: Some(request) }),
        };
        let response = sent_by_http1(&mut sender, *request).await?;
        let sender = Sender::Http1(sender);
        Ok((response, Connection { sender, visit, again: false, switched: Some(switched) }))
    }

    async fn own(&self) -> Result<(SendRequest<Body>, oneshot::Receiver<Switched>), Error> {
        let Some(opened) = Opened::new(self) else {
            self.total.overloaded.add(1);
            return Err(Error::Overloaded);
        };
        let (upstream, Endpoint { address, authority, .. }) =
            (self.upstream.borrow().clone(), &*self.endpoint);
        let stream: Box<dyn Transport> = match &upstream.settings.tls {
            Some(tls) => Box::new(self.open(secured(address, authority, tls, tls.http1())).await?),
            None => self.open(connect(address)).await?,
        };
        let (sender, mut driver) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::from_hyper)?;
        let (tell, told) = oneshot::channel();
        tokio::task::spawn_local(async move {
            if poll_fn(|cx| driver.poll_without_shutdown(cx)).await.is_ok() {
                let parts = driver.into_parts();
                let switched =
                    Switched { stream: parts.io.into_inner(), first: parts.read_buf, _opened: opened };
                // Nobody waits for it where the answer was another one.
                let _ = tell.send(switched);
            }
        });
        Ok((sender, told))
    }

    fn scheme(&self) -> Scheme {
        match self.upstream.borrow().settings.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        }
    }

    async fn take_idle(&self) -> Option<SendRequest<Body>> {
        loop {
            let (mut sender, since) = self.idle.borrow_mut().pop()?;
            if clock::now().saturating_duration_since(since) > self.keep.get().idle {
                // The others are older.
                self.idle.borrow_mut().clear();
                return None;
            }
            // Not ready yet only for the moment in which the last response's end is settled.
            if sender.is_ready() || (!sender.is_closed() && sender.ready().await.is_ok()) {
                return Some(sender);
            }
        }
    }

    /// Whether several requests are on a connection at a time, or may be.
    fn shares(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.chosen.get() != Some(Version::HTTP_11),
        }
    }

    /// One that has room for another request, or a new one. Who comes while it is opened waits for it.
    async fn shared(&self, protocol: Protocol) -> Result<(Sender, bool), Error> {
        let idle = self.keep.get().idle;
        if let Some(ride) = self.carriers.ride(idle, false) {
            return Ok((Sender::Http2(ride), true));
        }
        let _opening = self.opening.lock().await;
        if let Some(ride) = self.carriers.ride(idle, false) {
            return Ok((Sender::Http2(ride), true));
        }
        match Opened::new(self) {
            Some(opened) => Ok((Box::pin(self.connect(protocol, opened)).await?, false)),
            // As many as there may be: it waits within one of them.
            None => match self.carriers.ride(idle, true) {
                Some(ride) => Ok((Sender::Http2(ride), true)),
                None => self.another(protocol).await,
            },
        }
    }

    async fn another(&self, protocol: Protocol) -> Result<(Sender, bool), Error> {
        let opened = match Opened::new(self) {
            Some(opened) => opened,
            None => match self.wait().await? {
                Ok(sender) => return Ok((Sender::Http1(sender), true)),
                Err(opened) => opened,
            },
        };
        Ok((Box::pin(self.connect(protocol, opened)).await?, false))
    }

    async fn connect(&self, protocol: Protocol, opened: Opened) -> Result<Sender, Error> {
        let upstream = self.upstream.borrow().clone();
        if let Some(tls) = &upstream.settings.tls {
            let config = match protocol {
                Protocol::Http1 => tls.http1(),
                Protocol::Http2 => tls.http2(),
                Protocol::Auto => tls.either(),
            };
            let stream =
                self.open(secured(&self.endpoint.address, &self.endpoint.authority, tls, config)).await?;
            let version = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Version::HTTP_2,
                // Those who know nothing of the choice speak HTTP/1.1.
                _ if protocol == Protocol::Http2 => {
                    return Err(Error::Protocol("it does not offer HTTP/2".into()));
                }
                _ => Version::HTTP_11,
            };
            if protocol == Protocol::Auto {
                self.chosen.set(Some(version));
            }
            return self.begin(stream, version, opened).await;
        }
        let version = match protocol {
            Protocol::Http2 => Version::HTTP_2,
            Protocol::Http1 | Protocol::Auto => Version::HTTP_11,
        };
        match &self.endpoint.address {
            Address::Ip(address) => {
                let stream = self.open(connect_tcp(address)).await?;
                self.begin(stream, version, opened).await
            }
            Address::Unix(path) => {
                let stream = self.open(UnixStream::connect(path)).await?;
                self.begin(stream, version, opened).await
            }
        }
    }

    async fn begin<S>(&self, stream: S, version: Version, opened: Opened) -> Result<Sender, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        Ok(match version {
            Version::HTTP_2 => Sender::Http2(Ride::on_new(stream, &self.carriers, opened).await?),
            _ => Sender::Http1(http1(stream, opened).await?),
        })
    }

    /// Waits for a connection that becomes idle, or for a place for another one.
    async fn wait(&self) -> Result<Result<SendRequest<Body>, Opened>, Error> {
        let upstream = self.upstream.borrow().clone();
        let settings = &upstream.settings;
        let Some(_pending) = Pending::new(&upstream) else {
            self.total.overloaded.add(1);
            return Err(Error::Overloaded);
        };
        let end = tokio::time::Instant::now() + settings.timeouts.connect;
        loop {
            tokio::select! {
                () = self.freed.notified() => {}
                () = upstream.gauges.freed.notified() => {}
                () = tokio::time::sleep_until(end) => {
                    self.total.overloaded.add(1);
                    return Err(Error::Overloaded);
                }
            }
            if let Some(sender) = self.take_idle().await {
                return Ok(Ok(sender));
            }
            if let Some(opened) = Opened::new(self) {
                return Ok(Err(opened));
            }
        }
    }

    async fn open<S>(&self, connect: impl Future<Output = io::Result<S>>) -> Result<S, Error> {
        let limit = self.upstream.borrow().settings.timeouts.connect;
        let stream = match timeout(limit, connect).await {
            Ok(stream) => stream.map_err(Error::Connect)?,
            Err(_) => return Err(Error::ConnectTimeout),
        };
        self.total.connections.add(1);
        Ok(stream)
    }
}

/// An open connection, counted until it is dropped.
struct Opened {
    own: Rc<Cell<u32>>,
    gauges: Arc<Gauges>,
}

impl Opened {
    /// None where there are too many. A worker's first one to an endpoint is always allowed: those of other workers
    /// are of no use to it.
    fn new(pool: &Pool) -> Option<Opened> {
        let upstream = pool.upstream.borrow();
        let connections = &upstream.gauges.connections;
        match upstream.settings.limits.connections {
            Some(limit) if pool.open.get() > 0 => connections.enter(limit).then_some(())?,
            _ => connections.add(),
        }
        pool.open.update(|open| open + 1);
        Some(Opened { own: pool.open.clone(), gauges: upstream.gauges.clone() })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.own.update(|open| open - 1);
        self.gauges.connections.leave();
        self.gauges.freed.notify_one();
    }
}

/// A request that waits for a connection.
struct Pending(Arc<Gauges>);

impl Pending {
    fn new(upstream: &Upstream) -> Option<Pending> {
        let limit = upstream.settings.limits.pending.unwrap_or(u32::MAX);
        upstream.gauges.pending.enter(limit).then(|| Pending(upstream.gauges.clone()))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.leave();
    }
}

async fn connect_tcp(address: &std::net::SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection of either kind.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {}

/// A connection to somebody who has proved to be the endpoint.
pub(super) async fn secured(
    address: &Address,
    authority: &str,
    tls: &Connector,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<Box<dyn Transport>>> {
    let name = tls.name(authority);
    let name =
        name.ok_or_else(|| io::Error::other("its certificate can have no such name; `tls.name` says which"))?;
    TlsConnector::from(config).connect(name, connect(address).await?).await
}

pub(super) async fn connect(address: &Address) -> io::Result<Box<dyn Transport>> {
    Ok(match address {
        Address::Ip(address) => Box::new(connect_tcp(address).await?),
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

async fn sent_by_http1(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> Result<Response<Body>, Failed> {
    match sender.try_send_request(request).await {
        Ok(response) => Ok(response.map(Body::from)),
        Err(error) => Err(error.into()),
    }
}

impl From<TrySendError<Request<Body>>> for Failed {
    fn from(mut error: TrySendError<Request<Body>>) -> Self {
        let unsent = error.take_message().map(Box::new);
        Failed { error: Error::from_hyper(error.into_error()), unsent }
    }
}

/// The sender of a new connection, whose driver runs on this thread. `held` is dropped with the connection.
pub(super) async fn http1<S>(stream: S, held: impl Sized + 'static) -> Result<SendRequest<Body>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::from_hyper)?;
    // Ends with the connection; an error reaches the request that waits on it.
    tokio::task::spawn_local(async move {
        let _ = driver.await;
        drop(held);
    });
    Ok(sender)
}

impl Visit {
    fn begin(pool: Rc<Pool>) -> Self {
        pool.numbers.begun.add(1);
        Visit(pool)
    }

    fn answered(self, response: Response<Body>, sender: Sender) -> (Response<Body>, Connection) {
        let again = response.version() != Version::HTTP_10;
        (response, Connection { sender, visit: self, again, switched: None })
    }

    async fn send_shared(self, protocol: Protocol, mut request: Box<Request<Body>>) -> Sent {
        loop {
            let (mut sender, reused) = match self.0.shared(protocol).await {
                Ok(connection) => connection,
                Err(error) => return Err(Failed { error, unsent: Some(request) }),
            };
            let sent = match &mut sender {
                Sender::Http1(sender) => sent_by_http1(sender, *request).await,
                Sender::Http2(ride) => ride.send(request, &self.0.scheme()).await,
            };
            match sent {
                Ok(response) => return Ok(self.answered(response, sender)),
                Err(Failed { unsent: Some(unsent), .. }) if reused => request = unsent,
                Err(failed) => return Err(failed),
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.numbers.ended.add(1);
    }
}

impl Connection {
    pub fn endpoint(&self) -> &Endpoint {
        &self.visit.0.endpoint
    }

    /// How long to wait for a piece of an answer, and for all of it.
    pub fn times(&self) -> (Duration, Option<Duration>) {
        let timeouts = &self.visit.0.upstream.borrow().settings.timeouts;
        (timeouts.read, timeouts.total)
    }

    /// How long nothing may move once it goes on in another protocol.
    pub fn tunnel_time(&self) -> Duration {
        self.visit.0.upstream.borrow().settings.timeouts.tunnel
    }

    /// The connection itself, after an answer with 101; none where it was not asked for that.
    pub async fn switched(&mut self) -> Option<Switched> {
        self.switched.take()?.await.ok()
    }

    /// The answer ended before its end.
    pub fn broke_off(&self) {
        let pool = &self.visit.0;
        pool.numbers.failures.add(1);
        pool.total.broken_off.add(1);
        pool.upstream.borrow().broke_off(&pool.endpoint);
    }

    /// Keeps the connection for another request. Only after the response's body came to its end.
    pub fn release(self) {
        let Connection { sender, visit, again, .. } = self;
        let pool = &visit.0;
        pool.endpoint.row.trust();
        // Others are on it anyway, or it was for this request alone.
        let (Sender::Http1(sender), true) = (sender, again) else { return };
        let mut idle = pool.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < pool.keep.get().connections {
            idle.push((sender, clock::now()));
            pool.freed.notify_one();
        }
    }
}

impl Error {
    /// What the client or the gateway did is not held against the endpoint.
    pub fn blames_endpoint(&self) -> bool {
        !matches!(self, Error::RequestBody(_) | Error::Overloaded | Error::Refused(_))
    }

    pub fn is_refusal(&self) -> bool {
        matches!(self, Error::Refused(_))
    }

    fn from_hyper(error: hyper::Error) -> Self {
        match (error.is_user(), error.is_parse()) {
            (true, _) => Error::RequestBody(error.into()),
            (_, true) => Error::Protocol(error.into()),
            _ => Error::Reset(error.into()),
        }
    }

    /// `broken`: it was the request's body that ended the exchange.
    fn from_http2(error: h2::Error, broken: bool) -> Self {
        let refused = match error.reason() {
            Some(Reason::REFUSED_STREAM) => error.is_reset(),
            // What was sent before is answered.
            Some(Reason::NO_ERROR) => error.is_go_away(),
            _ => false,
        };
        match (broken, refused) {
            (true, _) => Error::RequestBody(error.into()),
            (_, true) => Error::Refused(error.into()),
            _ if error.is_library() => Error::Protocol(error.into()),
            _ => Error::Reset(error.into()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Connect(error) => write!(f, "cannot connect: {error}"),
            Error::ConnectTimeout => f.write_str("no connection in time"),
            Error::Overloaded => f.write_str("too many connections"),
            Error::Refused(error) => write!(f, "the request was not taken: {error}"),
            Error::Reset(error) => write!(f, "connection lost before the response: {error}"),
            Error::Protocol(error) => write!(f, "not an HTTP response: {error}"),
            Error::RequestBody(error) => write!(f, "the request's body broke off: {error}"),
        }
    }
}
