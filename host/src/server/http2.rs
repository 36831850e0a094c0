//! A client's connection that speaks HTTP/2 (RFC 9113): many requests at a time, each a task of its own.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{self, SendResponse},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body::{Body as HttpBody, SizeHint};

use super::{
    Door, Site,
    connection::{Line, Served},
    duplex::Duplex,
    frames::Allowance,
    guarded::Guarded,
    watch::{LAST_CALL, Verdict, Watch},
};
use crate::{
    body::{Body, BodyError, Over, PIECE, Patience, Polled, Pump, Stream, strip_foreign},
    clock,
    config::Limits,
    plugin::exchange::Connection,
    proxy::{self, interim::Interim},
};

/// What a client may send of one body before it is taken from it, and of all together: what is kept for it at most.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What DATA frames that were not taken yet may cost beside their bytes, by the library's count: some thousand small
/// messages of a stream that is held back.
const SMALL_FRAMES: usize = 2 << 20;

/// How long it may take to say so where something ends early.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Serves requests until either side closes, the sweep decides, or what comes is not HTTP/2.
pub async fn converse(
    site: &Rc<Site>,
    first: Bytes,
    stream: impl Line,
    facts: Connection,
    door: &Rc<Door>,
    watch: Rc<Watch>,
) {
    let peer = facts.peer;
    watch.announces_its_end();
    let limits = site.worker.view().snapshot.limits.clone();
    let allowance = Rc::new(Allowance::new(limits.streams));
    let guarded = Guarded::http2(first, stream, allowance.clone(), watch.clone());
    let calls = Calls { site: site.clone(), door: door.id, facts: Arc::new(facts), watch, allowance };
    let watch = &calls.watch;
    let shaken = tokio::select! {
        biased;
        shaken = builder(&limits).handshake(guarded) => shaken,
        _ = watch.verdict() => return,
    };
    let mut connection = match shaken {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%peer, "connection: {error}"),
    };
    let mut told = None;
    let reason = loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    calls.allowance.request();
                    // In a box: the runtime moves what it runs several times.
                    tokio::task::spawn_local(Box::pin(calls.clone().answer(request, respond)));
                }
                Some(Err(error)) => {
                    // The library has limits of its own.
                    if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                        door.numbers.http2_floods.add(1);
                    }
                    return tracing::debug!(%peer, "connection: {error}");
                }
                None => return,
            },
            verdict = watch.verdict() => match verdict {
                // What is under way then is answered, and the client knows what is not.
                Verdict::ShutDown | Verdict::Idle => {
                    connection.graceful_shutdown();
                    let told: Instant = *told.get_or_insert_with(clock::now);
                    // What was answered may still be on its way.
                    let is_idle = !watch.is_busy() && !connection.has_streams();
                    if is_idle && clock::now().saturating_duration_since(told) > LAST_CALL {
                        break Reason::NO_ERROR;
                    }
                }
                Verdict::SlowHead => break Reason::NO_ERROR,
                Verdict::Malformed(what) => {
                    tracing::debug!(%peer, "connection: {what}");
                    break Reason::PROTOCOL_ERROR;
                }
                Verdict::Flood(what) => {
                    tracing::debug!(%peer, "connection: {what}");
                    door.numbers.http2_floods.add(1);
                    break Reason::ENHANCE_YOUR_CALM;
                }
                Verdict::SlowReader => {
                    return tracing::debug!(%peer, "connection: the client does not take its answers");
                }
            },
        }
    };
    connection.abrupt_shutdown(reason);
    let ended = async { while let Some(Ok(_)) = connection.accept().await {} };
    let _ = tokio::time::timeout(LAST_WORD, ended).await;
}

fn builder(limits: &Limits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        // A browser that leaves a page cancels all there is in one breath.
        .max_pending_accept_reset_streams(limits.streams as usize)
        .max_header_list_size(limits.header_bytes.try_into().unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(PIECE)
        .data_frame_budget(SMALL_FRAMES)
        .enable_connect_protocol();
    builder
}

/// What all requests of a connection share.
#[derive(Clone)]
struct Calls {
    site: Rc<Site>,
    door: u32,
    facts: Arc<Connection>,
    watch: Rc<Watch>,
    allowance: Rc<Allowance>,
}

/// By which a request is answered.
struct Respond(RefCell<SendResponse<Bytes>>);

impl Interim for Respond {
    fn send(&self, status: StatusCode, headers: HeaderMap) {
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        strip_foreign(answer.headers_mut());
        // It does no harm if it is not sent: nobody waits for it without end.
        let _ = self.0.borrow_mut().send_informational(answer);
    }
}

impl Calls {
    async fn answer(self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let busy = self.watch.busy();
        let respond = Rc::new(Respond(RefCell::new(respond)));
        let client = respond.clone() as Rc<dyn Interim>;
        let (mut head, incoming) = request.into_parts();
        let connects = connects(&mut head);
        let whole = Rc::new(Cell::new(connects || incoming.is_end_stream()));
        let mut incoming = Some(incoming);
        let body = match incoming.take_if(|_| !whole.get()) {
            None => Body::Empty,
            Some(incoming) => {
                let waits = head.headers.contains_key(header::EXPECT).then(|| respond.clone());
                let stream = Stream::new(incoming, &head.headers);
                Body::boxed(Upload { stream, waits, whole: whole.clone() })
            }
        };
        let request = Request::from_parts(head, body);
        let view = self.site.worker.view();
        let send = view.snapshot.limits.send;
        let handled = proxy::handle(view, &self.site.journal, self.door, &self.facts, request, &client);
        // Long answers need its room no more.
        let handled = Box::pin(handled);
        let Some(answer) = unless_reset(handled, &respond).await else { return };
        self.allowance.answer();
        let Ok(response) = answer else {
            // Ended by a plugin.
            return respond.0.borrow_mut().send_reset(Reason::INTERNAL_ERROR);
        };
        let (head, outgoing) = response.map(|outgoing| Served::new(outgoing, busy)).into_parts();
        let mut response = Response::from_parts(head, ());
        let headers = response.headers_mut();
        strip_foreign(headers);
        if let Some(tunnel) = outgoing.tunnel() {
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            *response.status_mut() = StatusCode::OK;
            let sent = respond.0.borrow_mut().send_response(response, false);
            if let (Ok(stream), Some(incoming)) = (sent, incoming) {
                tunnel.run(Duplex::new(incoming, stream)).await;
            }
            return;
        }
        headers.entry(header::DATE).or_insert_with(date);
        let ends = outgoing.is_end_stream();
        let Ok(stream) = respond.0.borrow_mut().send_response(response, ends) else { return };
        let patience = Some(Patience::new(send, None));
        let mut pump = Pump { stream, body: outgoing, ahead: 0, patience };
        let sent = if ends { Ok(()) } else { pump.run(|bytes| self.allowance.moved(bytes)).await };
        let Pump { mut stream, body: mut outgoing, .. } = pump;
        match sent {
            Ok(()) => {}
            Err(Over::Reset) => stream.send_reset(Reason::CANCEL),
            Err(Over::Broken(_)) => stream.send_reset(Reason::INTERNAL_ERROR),
            Err(Over::TooSlow) => {
                outgoing.cut();
                stream.send_reset(Reason::CANCEL);
            }
        }
        drop(outgoing);
        if !whole.get() {
            linger(&mut stream).await;
        }
    }
}

/// Makes a request that asks for another protocol (RFC 8441, section 4) one as HTTP/1.1 has it; whether it is one.
fn connects(head: &mut request::Parts) -> bool {
    let protocol = head.extensions.get::<h2::ext::Protocol>();
    let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_str(protocol.as_str()).ok()) else {
        return false;
    };
    if protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
        // Its answer, which an upstream is bound to give, proves nothing here.
        let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
        if let Ok(key) = HeaderValue::try_from(key) {
            head.headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
    }
    head.method = Method::GET;
    head.extensions.insert(proxy::tunnel::Protocol(protocol));
    true
}

/// A client that was answered before it has sent all is asked to send no more (RFC 9113, section 8.1), but not in one
/// breath: some then take the answer for nothing.
async fn linger(stream: &mut SendStream<Bytes>) {
    let ended = poll_fn(|cx| stream.poll_reset(cx));
    let _ = tokio::time::timeout(LAST_WORD, ended).await;
}

/// The answer; none where the client wants none any more: what was reset before its turn is not begun.
async fn unless_reset<T>(mut handled: Pin<Box<impl Future<Output = T>>>, respond: &Rc<Respond>) -> Option<T> {
    poll_fn(|cx| {
        let reset = respond.0.borrow_mut().poll_reset(cx);
        match reset {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => handled.as_mut().poll(cx).map(Some),
        }
    })
    .await
}

/// The body of a request.
struct Upload {
    stream: Stream,
    /// To whom 100 (Continue) is said when the body is first asked for (RFC 9110, section 10.1.1).
    waits: Option<Rc<Respond>>,
    whole: Rc<Cell<bool>>,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if let Some(respond) = self.waits.take() {
            respond.send(StatusCode::CONTINUE, HeaderMap::new());
        }
        let polled = Pin::new(&mut self.stream).poll_frame(cx);
        self.whole.set(self.stream.is_end_stream());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.size_hint()
    }
}

/// The time as Date has it, formatted once a second.
fn date() -> HeaderValue {
    thread_local! {
        static DATE: RefCell<Option<(Instant, HeaderValue)>> = const { RefCell::new(None) };
    }
    DATE.with_borrow_mut(|cached| {
        let now = clock::now();
        match cached {
            Some((since, date)) if now.saturating_duration_since(*since) < Duration::from_secs(1) => {
                date.clone()
            }
            _ => {
                let text = httpdate::fmt_http_date(SystemTime::now());
                let date = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
                *cached = Some((now, date.clone()));
                date
            }
        }
    })
}
