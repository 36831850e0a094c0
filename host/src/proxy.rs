//! The life of a request. It knows routes, chains and upstreams, and not that plugins are
//! WebAssembly, nor where connections come from.

mod admission;
mod attempt;
mod body;
mod destination;
mod error;
mod forwarded;
mod headers;
pub mod interim;
mod journey;
mod mirror;
mod outgoing;
mod target;
pub mod tunnel;
mod unread;

use std::{rc::Rc, sync::Arc};

use http::{Request, Response, StatusCode, header};
use http_body::Body as _;

use crate::{
    body::Body,
    grpc::Kind,
    plugin::{
        LocalResponse,
        chain::Outcome,
        exchange::{Connection, Exchange, ResponseHead},
    },
    snapshot::View,
    upstream::answer,
};
use attempt::{Answer, Unanswered};
use destination::Destination;
use error::ProxyError;
use interim::Interim;
use journey::Journey;
use tunnel::Agreed;

pub use admission::{Admission, read_target};
pub use body::Outgoing;
pub use journey::{Ended, Journal};
pub use unread::{Unread, unread};

/// Answers one request. The only way a request goes: checks and route, plugins forward, upstream,
/// plugins reversed, answer. The log comes when the last byte is sent or the client is gone.
pub async fn handle(
    view: Rc<View>,
    journal: &Journal,
    door: u32,
    connection: &Arc<Connection>,
    request: Request<Body>,
    client: &Rc<dyn Interim>,
) -> Result<Response<Outgoing>, Closed> {
    let (head, body) = request.into_parts();
    let admission = Admission::check(head, &view.snapshot, connection, door);
    let (journey, refused) = Journey::begin(view, journal, door, admission, client);
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
        Err(ProxyError::Closed) => return Err(journey.closed()),
        Err(error) => local_answer(&journey, error).await,
    };
    response_phase(journey, body).await
}

/// The chain forward, and the request's body past the plugins that asked for it.
async fn request_phase(journey: &Rc<Journey>, body: Body) -> Result<Body, ProxyError> {
    let chain = journey.chain();
    let mut exchange = journey.exchange().await;
    exchange.ends = body.is_end_stream();
    let taps = match chain.request(&mut exchange).await {
        Outcome::Next(taps) => taps,
        Outcome::Respond(local) => return Err(local.into()),
        Outcome::Close => return Err(ProxyError::Closed),
    };
    if chain.has_request() && exchange.grpc != Some(Kind::Grpc) {
        // Of what came as something else, as gRPC-Web, a plugin may have made a call of gRPC.
        let kind = Kind::of(&exchange.request.headers);
        journey.accepts_trailers.update(|accepts| accepts || kind == Some(Kind::Grpc));
        exchange.grpc = kind.or(exchange.grpc);
    }
    if exchange.reroute && !journey.reroute(&mut exchange) {
        return Err(ProxyError::NoRoute);
    }
    drop(exchange);
    match taps.is_empty() {
        true => Ok(body),
        false => body::tap_request(journey, &taps, body).await,
    }
}

/// Sends the request to its upstream and puts the head of the response into the exchange.
async fn forward(journey: &Rc<Journey>, body: Body) -> Result<Body, ProxyError> {
    let Destination { cluster, fallback, cookie } = Destination::of(journey).await?;
    let mut letter = outgoing::letter(journey, body).await?;
    mirror::copy(journey, &mut letter);
    // Boxes keep what few requests need out of the room that all of them have.
    let sent = match journey.interrupt().await {
        None => attempt::send(journey, &cluster, letter).await,
        Some(interrupt) => Box::pin(attempt::send_unless(interrupt, journey, &cluster, letter)).await,
    };
    let answer = match (sent.map_err(|unanswered| *unanswered), fallback) {
        (Err(Unanswered { letter: Some(letter), .. }), Some(fallback)) => {
            Box::pin(attempt::send(journey, &fallback, letter)).await.map_err(|unanswered| unanswered.error)
        }
        (sent, _) => sent.map_err(|unanswered| unanswered.error),
    }?;

    let Answer { head, body, connection, ticket, begun, sticky } = answer;
    let body = match head.status {
        StatusCode::SWITCHING_PROTOCOLS => {
            let agreed = Box::pin(Agreed::of(journey, &head.headers, connection, ticket)).await?;
            *journey.agreed.borrow_mut() = Some(agreed);
            Body::Empty
        }
        _ => answer::body(body, connection, Some(ticket), begun),
    };
    let (status, mut map) = (head.status, head.headers);
    let mut exchange = journey.exchange().await;
    let present = headers::Present::of(&map);
    if present.length && present.coding {
        return Err(ProxyError::AmbiguousResponse);
    }
    present.strip_hop_by_hop(&mut map);
    forwarded::append_via(&mut map, head.version, &journey.snapshot().forwarding);
    for cookie in [cookie, sticky].into_iter().flatten() {
        map.append(header::SET_COOKIE, cookie);
    }
    exchange.response = Some(ResponseHead { status, headers: map, local: None });
    Ok(body)
}

/// An answer of the gateway's own, written in the form that the client accepts.
async fn local_answer(journey: &Rc<Journey>, error: ProxyError) -> Body {
    if let ProxyError::Upstream(error) = &error {
        tracing::debug!(route = &*journey.route().name, "upstream: {error}");
    }
    let local = error.into_response();
    let mut exchange = journey.exchange().await;
    journey.write_local(&mut exchange, *local)
}

/// The chain reversed, and the response's body past the plugins that asked for it.
async fn response_phase(journey: Rc<Journey>, mut body: Body) -> Result<Response<Outgoing>, Closed> {
    let chain = journey.chain();
    let mut exchange = journey.exchange().await;
    exchange.begin_response();
    exchange.ends = !body::has_body(&exchange, &body);
    let write = |exchange: &mut Exchange, local: Box<LocalResponse>| {
        body = journey.write_local(exchange, *local);
        exchange.ends = !body::has_body(exchange, &body);
    };
    let Some(taps) = chain.response(&mut exchange, write).await else {
        return Err(journey.closed());
    };
    drop(exchange);
    if !taps.is_empty() {
        let Some(tapped) = body::tap_response(&journey, &taps, body).await else {
            return Err(journey.closed());
        };
        body = tapped;
    }
    let (head, method) = journey.take_response_head(!taps.is_empty()).await;
    Ok(Outgoing::response(journey, head, &method, body))
}

/// The client gets no answer: its connection ends here.
#[derive(Debug)]
pub struct Closed;

impl std::error::Error for Closed {}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ended by a plugin")
    }
}
