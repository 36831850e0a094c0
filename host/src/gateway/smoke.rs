//! The request that a plugin has to stand before it gets others.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, StatusCode, Version, header, uri::Authority};

use crate::{
    config::Smoke,
    plugin::{
        Alone, Factory, Failure, LocalResponse, Verdict,
        exchange::{Connection, Exchange, Phase, RequestHead, ResponseHead, State},
    },
};

/// A filter that calls others waits for an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends it through the plugin's request and response phase; the error says what was wrong.
pub async fn stand(factory: &dyn Factory, smoke: &Smoke) -> Result<(), String> {
    let stood = tokio::time::timeout(PATIENCE, pass(factory, smoke)).await;
    stood.unwrap_or_else(|_| Err("comes to no end".to_owned()))
}

async fn pass(factory: &dyn Factory, smoke: &Smoke) -> Result<(), String> {
    let filter = factory.filter(&mut Alone::default());
    let phases = filter.phases();
    let mut exchange = Exchange::new(Box::new(state(smoke)));
    exchange.ends = true;
    let upstream = ResponseHead { status: StatusCode::OK, headers: HeaderMap::new(), local: None };
    exchange.response = Some(upstream);
    if phases.request {
        let verdict = filter.request(&mut exchange).await;
        answer(&mut exchange, verdict)?;
    }
    exchange.phase = Phase::Response;
    if phases.response {
        let verdict = filter.response(&mut exchange).await;
        answer(&mut exchange, verdict)?;
    }
    let status = exchange.response.as_ref().map(|head| head.status.as_u16());
    match (smoke.status, status) {
        (Some(expected), Some(found)) if expected != found => {
            Err(format!("comes out with the status {found}, expected {expected}"))
        }
        _ => Ok(()),
    }
}

fn answer(exchange: &mut Exchange, verdict: Result<Verdict, Failure>) -> Result<(), String> {
    match verdict.map_err(|failure| failure.to_string())? {
        Verdict::Next => Ok(()),
        Verdict::Close => Err("closes the connection".to_owned()),
        Verdict::Respond(local) => {
            let LocalResponse { status, headers, code, .. } = *local;
            exchange.response = Some(ResponseHead { status, headers, local: Some(code) });
            Ok(())
        }
    }
}

fn state(smoke: &Smoke) -> State {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let authority = smoke.headers.get(header::HOST).and_then(|host| host.as_bytes().try_into().ok());
    let head = RequestHead {
        method: smoke.method.clone(),
        version: Version::HTTP_11,
        authority: authority.unwrap_or(Authority::from_static("localhost")),
        target: smoke.target.clone(),
        headers: smoke.headers.clone(),
        send_authority: None,
        send_target: None,
    };
    let connection = Connection::new(SocketAddr::new(local, 0), SocketAddr::new(local, 0), None);
    State::new(head, Arc::new(connection), local)
}
