//! Connections of HTTP/2 (RFC 9113) to one endpoint from one worker: a few, each for many requests at a time.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::{Rc, Weak},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Ping, Reason,
    client::{self, SendRequest},
};
use http::{
    Request, Response, Uri, Version, header,
    uri::{Authority, Parts, Scheme},
};
use http_body::Body as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{AbortHandle, spawn_local},
    time::{sleep, timeout},
};

use super::{Error, Failed};
use crate::{
    body::{Body, Over, PIECE, Pump, Stream, strip_foreign},
    clock,
    upstream::hints::Listener,
};

/// What an upstream may send of one answer before it is taken from it, and of all together: so much that those that are
/// not taken leave room for the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Bytes of a body that go out with the head: what any endpoint takes (RFC 9113, section 6.5.2), and one frame.
const AHEAD: usize = 16 << 10;

/// The longest head of an answer.
const HEADER_BYTES: u32 = 256 << 10;

/// How often a connection with requests under way is asked whether it is still there, and how long that may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections that there are.
#[derive(Default)]
pub struct Carriers(RefCell<Vec<Rc<Carrier>>>);

struct Carrier {
    sender: SendRequest<Bytes>,
    /// Requests that are on it.
    streams: Cell<u32>,
    /// When the last one came.
    used: Cell<Instant>,
    closed: Cell<bool>,
}

impl Carriers {
    /// A place on the connection with the most room; where none has room only if it may be `crowded`.
    pub fn ride(&self, idle: Duration, crowded: bool) -> Option<Ride> {
        let mut carriers = self.0.borrow_mut();
        carriers.retain(|carrier| {
            let unused = || clock::now().saturating_duration_since(carrier.used.get());
            !carrier.closed.get() && (carrier.streams.get() > 0 || unused() <= idle)
        });
        let carrier = carriers.iter().min_by_key(|carrier| carrier.streams.get())?;
        let has_room = (carrier.streams.get() as usize) < carrier.sender.current_max_send_streams();
        (has_room || crowded).then(|| Ride::on(carrier.clone()))
    }

    /// What is under way is finished, and nothing else comes.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

/// A place on a connection, for one request and its answer. With it ends what was not sent.
pub struct Ride {
    carrier: Rc<Carrier>,
    upload: Option<AbortHandle>,
}

impl Drop for Ride {
    fn drop(&mut self) {
        self.carrier.streams.update(|streams| streams - 1);
        if let Some(upload) = &self.upload {
            upload.abort();
        }
    }
}

impl Ride {
    fn on(carrier: Rc<Carrier>) -> Ride {
        carrier.streams.update(|streams| streams + 1);
        carrier.used.set(clock::now());
        Ride { carrier, upload: None }
    }

    /// On a new connection, which others share from now on. `held` is dropped with the connection.
    pub async fn on_new<S>(stream: S, carriers: &Carriers, held: impl Sized + 'static) -> Result<Ride, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let carrier = open(stream, held).await?;
        carriers.0.borrow_mut().push(carrier.clone());
        Ok(Ride::on(carrier))
    }

    /// On a connection of its own.
    pub async fn alone<S>(stream: S) -> Result<Ride, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        Ride::on_new(stream, &Carriers::default(), ()).await
    }

    /// Sends the request; its body flows on while the answer comes.
    pub async fn send(
        &mut self,
        mut request: Box<Request<Body>>,
        scheme: &Scheme,
    ) -> Result<Response<Body>, Failed> {
        let mut sender = match self.carrier.sender.clone().ready().await {
            Ok(sender) => sender,
            Err(error) => {
                self.carrier.closed.set(true);
                return Err(Failed { error: Error::Refused(error.into()), unsent: Some(request) });
            }
        };
        let carrier = self.carrier.clone();
        let listener = Listener::of(&request);
        let failed = |error: Error| {
            // Whoever does not take one request takes no others, or not for now.
            carrier.closed.set(carrier.closed.get() || error.is_refusal());
            Err(Failed { error, unsent: None })
        };
        let Some(uri) = absolute(&request, scheme) else {
            return failed(Error::RequestBody("its authority is malformed".into()));
        };
        let body = std::mem::take(request.body_mut());
        let mut head = request.map(|_| ());
        *head.uri_mut() = uri;
        *head.version_mut() = Version::HTTP_2;
        head.headers_mut().remove(header::HOST);
        strip_foreign(head.headers_mut());
        let ends = body.is_end_stream();
        let (mut answer, stream) = match sender.send_request(head, ends) {
            Ok(sent) => sent,
            Err(error) => return failed(Error::Refused(error.into())),
        };
        let broken = Rc::new(Cell::new(false));
        let mut flowing = match ends {
            true => None,
            false => {
                let pump = Pump { stream, body, ahead: AHEAD, patience: None };
                Some(Box::pin(upload(pump, broken.clone())))
            }
        };
        let answer = poll_fn(|cx| {
            if flowing.as_mut().is_some_and(|flowing| flowing.as_mut().poll(cx).is_ready()) {
                flowing = None;
            }
            if let Some(listener) = listener {
                while let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
                    listener.tell(interim.status(), interim.headers());
                }
            }
            Pin::new(&mut answer).poll(cx)
        });
        let answer = answer.await;
        // Most bodies are whole before the answer comes.
        self.upload = flowing.map(|flowing| spawn_local(flowing).abort_handle());
        match answer {
            Ok(response) => {
                let (head, incoming) = response.into_parts();
                let body = match incoming.is_end_stream() {
                    true => Body::Empty,
                    false => Body::boxed(Stream::new(incoming, &head.headers)),
                };
                Ok(Response::from_parts(head, body))
            }
            Err(error) => failed(Error::from_http2(error, broken.get())),
        }
    }
}

/// The target as HTTP/2 has it: with the authority that Host names.
fn absolute(request: &Request<Body>, scheme: &Scheme) -> Option<Uri> {
    let uri = request.uri();
    let host = request.headers().get(header::HOST);
    let host = host.map(|host| Authority::try_from(host.as_bytes())).transpose().ok()?;
    let mut parts = Parts::default();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(host.or_else(|| uri.authority().cloned())?);
    parts.path_and_query = Some(uri.path_and_query()?.clone());
    Uri::from_parts(parts).ok()
}

async fn upload(mut pump: Pump<Body>, broken: Rc<Cell<bool>>) {
    // Where the endpoint wants no more, its answer tells why.
    if let Err(Over::Broken(error)) = pump.run(|_| {}).await {
        tracing::debug!("the request's body broke off: {error}");
        broken.set(true);
        pump.stream.send_reset(Reason::CANCEL);
    }
}

/// A new connection, which is driven on this worker until it ends.
async fn open<S>(stream: S, held: impl Sized + 'static) -> Result<Rc<Carrier>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_BYTES)
        .max_send_buffer_size(PIECE);
    let (sender, connection) =
        builder.handshake(stream).await.map_err(|error| Error::from_http2(error, false))?;
    let carrier = Rc::new(Carrier {
        sender,
        streams: Cell::new(0),
        used: Cell::new(clock::now()),
        closed: Cell::new(false),
    });
    spawn_local(drive(connection, Rc::downgrade(&carrier), held));
    Ok(carrier)
}

async fn drive<S>(mut connection: client::Connection<S, Bytes>, carrier: Weak<Carrier>, held: impl Sized)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pings = connection.ping_pong();
    let silent = async {
        let Some(mut pings) = pings else { return std::future::pending().await };
        loop {
            sleep(PING_INTERVAL).await;
            let busy = carrier.upgrade().is_some_and(|carrier| carrier.streams.get() > 0);
            if busy && !matches!(timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
                return;
            }
        }
    };
    tokio::select! {
        // An error reaches those that wait on it.
        _ = connection => {}
        () = silent => tracing::debug!("an upstream's connection is silent"),
    }
    if let Some(carrier) = carrier.upgrade() {
        carrier.closed.set(true);
    }
    drop(held);
}
