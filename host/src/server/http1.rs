//! A client's connection that speaks HTTP/1.1 or HTTP/1.0.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

use super::{
    Door, Site,
    connection::{Line, Served},
    guarded::Guarded,
    watch::{Verdict, Watch},
};
use crate::{
    body::Body,
    plugin::exchange::Connection,
    proxy::{self, Closed, Unread, interim::Interim},
};

/// Headers that the parser takes without being told; fewer are counted by the proxy.
const PARSER_HEADERS: usize = 100;

const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Serves requests until either side closes, the sweep decides, or what comes is not HTTP.
pub async fn converse(
    site: &Rc<Site>,
    first: Bytes,
    stream: impl Line,
    facts: Connection,
    door: &Rc<Door>,
    watch: Rc<Watch>,
) {
    let (peer, facts) = (facts.peer, Arc::new(facts));
    let snapshot = site.worker.view().snapshot.clone();
    let (header_bytes, header_count) = (snapshot.limits.header_bytes, snapshot.limits.header_count);
    let guarded = Guarded::http1(first, stream, header_bytes, watch.clone());

    let (tunnel, client) = (RefCell::new(None), watch.clone() as Rc<dyn Interim>);
    let service = service_fn(|request: Request<Incoming>| {
        let (watch, facts, tunnel, client) = (&watch, &facts, &tunnel, &client);
        async move {
            let busy = watch.busy();
            let request = request.map(Body::from);
            let answer =
                proxy::handle(site.worker.view(), &site.journal, door.id, facts, request, client).await;
            // What the library is told ends the connection.
            let mut response = answer?;
            match response.body().tunnel() {
                Some(agreed) => *tunnel.borrow_mut() = Some((agreed, watch.busy())),
                None => watch.resume(),
            }
            if watch.is_leaving() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Closed>(response.map(|outgoing| Served::new(outgoing, busy)))
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_header_size(header_bytes).max_buf_size(header_bytes);
    builder.half_close(snapshot.entrance(door.id).is_some_and(|entrance| entrance.half_close));
    if header_count > PARSER_HEADERS {
        builder.max_headers(header_count);
    }
    let mut connection = builder.serve_connection(TokioIo::new(guarded), service);
    let why = loop {
        tokio::select! {
            biased;
            result = &mut connection => {
                let Err(error) = result else { break None };
                tracing::debug!(%peer, "connection: {error}");
                match error.is_parse() {
                    true if error.is_parse_too_large() => break Some(Unread::TooLarge),
                    true => break Some(Unread::Malformed),
                    false => return,
                }
            }
            verdict = watch.verdict() => match verdict {
                Verdict::ShutDown => Pin::new(&mut connection).graceful_shutdown(),
                Verdict::Idle => return,
                Verdict::SlowHead => break Some(Unread::TooSlow),
                Verdict::SlowReader => {
                    return tracing::debug!(%peer, "connection: the client does not take its answer");
                }
                Verdict::Flood(_) | Verdict::Malformed(_) => return,
            },
        }
    };
    let parts = connection.into_parts();
    let Some(why) = why else {
        if let Some((tunnel, _busy)) = tunnel.take() {
            let stream = parts.io.into_inner().unguarded(parts.read_buf);
            // In a box: other connections have no room for it.
            let mut tunnel = Box::pin(tunnel.run(stream));
            loop {
                tokio::select! {
                    biased;
                    () = &mut tunnel => return,
                    // It ends when either side wants it to, or with the process.
                    verdict = watch.verdict() => if verdict == Verdict::SlowReader { return },
                }
            }
        }
        return;
    };
    proxy::unread(&site.worker.view(), peer.ip(), why, &parts.read_buf, watch.waited());
    // To anything else the parser has answered.
    if why == Unread::TooSlow {
        let refused = parts.io.into_inner().refuse(SLOW_HEAD);
        let _ = tokio::time::timeout(Duration::from_secs(1), refused).await;
    }
}
