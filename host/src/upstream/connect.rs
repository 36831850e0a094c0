//! Connections to one endpoint from one worker: opened when needed, kept for a while, never
//! shared by two requests at a time, never reused after anything went wrong.

use std::{
    cell::RefCell,
    fmt, io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::Spec;
use crate::{
    body::{Body, BodyError},
    clock,
    config::KeepAlive,
    telemetry::numbers::UpstreamNumbers,
};

mod http2;

pub struct Endpoint {
    pub address: Arc<str>,
    connect_timeout: Duration,
    idle: Rc<Idle>,
    /// The connection that calls by HTTP/2 share.
    shared: http2::Shared,
    numbers: Arc<UpstreamNumbers>,
}

/// Connections that wait for a request, the last used one last.
struct Idle {
    keep: KeepAlive,
    connections: RefCell<Vec<(SendRequest<Body>, Instant)>>,
}

/// A connection under way; goes back to the idle ones only by [`Self::release`].
pub struct Connection {
    sender: SendRequest<Body>,
    idle: Rc<Idle>,
}

/// Why there is no response.
#[derive(Debug)]
pub enum Error {
    Connect(io::Error),
    ConnectTimeout,
    /// The connection broke before the response's head.
    Reset(hyper::Error),
    /// What came is not an HTTP response.
    Protocol(hyper::Error),
    /// The request's own body ended the exchange; [`Self::body_error`] tells how.
    RequestBody(hyper::Error),
}

impl Endpoint {
    pub fn new(address: Arc<str>, spec: &Spec, numbers: Arc<UpstreamNumbers>) -> Self {
        let idle = Idle { keep: spec.keep_alive.clone(), connections: RefCell::default() };
        let (connect_timeout, idle) = (spec.timeouts.connect, Rc::new(idle));
        Endpoint { address, connect_timeout, idle, shared: http2::Shared::default(), numbers }
    }

    /// Sends on a kept connection or a new one. A kept one that turns out to be closed before
    /// anything was sent on it is replaced silently.
    pub async fn send(&self, mut request: Request<Body>) -> Result<(Response<Incoming>, Connection), Error> {
        loop {
            let (mut connection, reused) = match self.idle.take().await {
                Some(connection) => (connection, true),
                None => (self.connect().await?, false),
            };
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(Error::from_hyper(error.into_error())),
                },
            }
        }
    }

    async fn open(&self) -> Result<TcpStream, Error> {
        let open = async {
            let stream = TcpStream::connect(&*self.address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = match timeout(self.connect_timeout, open).await {
            Ok(stream) => stream.map_err(Error::Connect)?,
            Err(_) => return Err(Error::ConnectTimeout),
        };
        self.numbers.connections.add(1);
        Ok(stream)
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let stream = self.open().await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::from_hyper)?;
        // Ends with the connection; an error reaches the request that waits on it.
        tokio::task::spawn_local(async move {
            let _ = driver.await;
        });
        Ok(Connection { sender, idle: self.idle.clone() })
    }
}

impl Idle {
    async fn take(self: &Rc<Self>) -> Option<Connection> {
        loop {
            let (mut sender, since) = self.connections.borrow_mut().pop()?;
            if clock::now().saturating_duration_since(since) > self.keep.idle {
                // The others are older.
                self.connections.borrow_mut().clear();
                return None;
            }
            // Not ready yet only for the moment in which the last response's end is settled.
            if sender.is_ready() || (!sender.is_closed() && sender.ready().await.is_ok()) {
                return Some(Connection { sender, idle: self.clone() });
            }
        }
    }
}

impl Connection {
    /// Keeps the connection for another request. Only after the response's body came to its end.
    pub fn release(self) {
        let mut idle = self.idle.connections.borrow_mut();
        if !self.sender.is_closed() && idle.len() < self.idle.keep.connections {
            idle.push((self.sender, clock::now()));
        }
    }
}

impl Error {
    pub fn body_error(&self) -> Option<&BodyError> {
        let Error::RequestBody(error) = self else { return None };
        std::error::Error::source(error)?.downcast_ref()
    }

    fn from_hyper(error: hyper::Error) -> Self {
        if error.is_user() {
            return Error::RequestBody(error);
        }
        match error.is_parse() {
            true => Error::Protocol(error),
            false => Error::Reset(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Connect(error) => write!(f, "cannot connect: {error}"),
            Error::ConnectTimeout => f.write_str("no connection in time"),
            Error::Reset(error) => write!(f, "connection lost before the response: {error}"),
            Error::Protocol(error) => write!(f, "not an HTTP response: {error}"),
            Error::RequestBody(error) => write!(f, "the request's body broke off: {error}"),
        }
    }
}
