//! The life of a request. It knows routes, chains and upstreams, and not that plugins are
//! WebAssembly, nor where connections come from.

mod admission;
mod body;
mod error;
mod forwarded;
mod headers;
mod journey;
mod outgoing;
mod target;

use std::{rc::Rc, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;

use crate::{
    body::Body,
    plugin::{
        chain::Outcome,
        exchange::{Connection, Phase, ResponseHead},
    },
    snapshot::View,
};
use error::ProxyError;
use journey::Journey;

pub use admission::Admission;
pub use body::Outgoing;
pub use journey::{Ended, Journal};
pub use target::normalise;

/// Answers one request. The only way a request goes: checks and route, plugins forward, upstream,
/// plugins reversed, answer. The log comes when the last byte is sent or the client is gone.
pub async fn handle(
    view: Rc<View>,
    journal: &Journal,
    door: u32,
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    let (head, body) = request.into_parts();
    let admission = Admission::check(head, &view.snapshot, connection, door);
    let (journey, refused) = Journey::begin(view, journal, admission);
    let body = body::from_client(&journey, body);

    let answer = match refused {
        Some(refusal) => Err(refusal),
        None => match request_phase(&journey, body).await {
            Ok(body) => forward(&journey, body).await,
            Err(error) => Err(error),
        },
    };
    let body = match answer {
        Ok(body) => body,
        Err(error) => local_answer(&journey, error).await,
    };
    response_phase(journey, body).await
}

/// The chain forward, and the request's body past the plugins that asked for it.
async fn request_phase(journey: &Rc<Journey>, body: Body) -> Result<Body, ProxyError> {
    let chain = journey.chain();
    let mut exchange = journey.exchange().await;
    let outcome = chain.request(&mut exchange).await;
    drop(exchange);
    match outcome {
        Outcome::Respond(local) => Err(local.into()),
        Outcome::Next(taps) if taps.is_empty() => Ok(body),
        Outcome::Next(taps) => body::tap_request(journey, &taps, body).await,
    }
}

/// Sends the request to an endpoint and puts the head of its response into the exchange.
async fn forward(journey: &Rc<Journey>, body: Body) -> Result<Body, ProxyError> {
    let cluster = journey.upstream().await.ok_or(ProxyError::NoUpstream)?;
    let endpoint = cluster.pick().ok_or(ProxyError::NoEndpoint)?;
    let timeouts = &cluster.spec.timeouts;
    let request = outgoing::request(journey, &cluster.spec, endpoint, body).await?;
    journey.asked(&cluster.spec.name, &endpoint.address);

    let wait = timeouts.total.map_or(timeouts.read, |total| total.min(timeouts.read));
    let attempt = cluster.numbers.begin();
    let sent = tokio::time::timeout(wait, endpoint.send(request)).await;
    let (response, connection) = match sent {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(journey.cut_short().unwrap_or(ProxyError::Upstream(error))),
        Err(_) => return Err(ProxyError::UpstreamTimeout),
    };

    let (head, incoming) = response.into_parts();
    attempt.answered(head.status);
    let body = body::from_upstream(incoming, connection, timeouts, journey.started);
    let (status, mut map) = (head.status, head.headers);
    let mut exchange = journey.exchange().await;
    if let Some(trace) = &mut exchange.trace {
        trace.end_attempt(Some(status.as_u16()), None);
    }
    let present = headers::Present::of(&map);
    if present.length && present.coding {
        return Err(ProxyError::AmbiguousResponse);
    }
    present.strip_hop_by_hop(&mut map);
    forwarded::append_via(&mut map, head.version, &journey.snapshot().forwarding);
    exchange.response = Some(ResponseHead { status, headers: map, from_upstream: true });
    Ok(body)
}

/// An answer of the gateway's own, written in the form that the client accepts.
async fn local_answer(journey: &Rc<Journey>, error: ProxyError) -> Body {
    if let ProxyError::Upstream(error) = &error {
        tracing::debug!(route = &*journey.route().name, "upstream: {error}");
    }
    let local = error.into_response();
    let mut exchange = journey.exchange().await;
    if let Some(trace) = &mut exchange.trace {
        trace.end_attempt(None, Some(local.code.to_string()));
    }
    journey.write_local(&mut exchange, *local)
}

/// The chain reversed, and the response's body past the plugins that asked for it.
async fn response_phase(journey: Rc<Journey>, mut body: Body) -> Response<Outgoing> {
    let chain = journey.chain();
    let mut exchange = journey.exchange().await;
    exchange.phase = Phase::Response;
    let taps =
        chain.response(&mut exchange, |exchange, local| body = journey.write_local(exchange, *local)).await;
    drop(exchange);
    if !taps.is_empty() {
        body = body::tap_response(&journey, &taps, body).await;
    }
    let (head, method) = journey.take_response_head(!taps.is_empty()).await;
    Outgoing::response(journey, head, &method, body)
}
