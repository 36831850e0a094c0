//! One check of an endpoint: a connection of its own, and what is asked on it.

use std::{io, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, uri::Scheme};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    Address, Endpoint,
    pool::{self, http2::Ride},
};
use crate::{
    body::{Body, BodyError},
    config::{self, Health, Probe, Protocol},
    grpc,
};

/// What is looked at of an answer's body.
const MAX_BODY: usize = 64 << 10;

/// An error says what is wrong.
pub async fn check(endpoint: &Endpoint, health: &Health, upstream: &config::Upstream) -> Result<(), String> {
    let mut address = endpoint.address.clone();
    if let (Address::Ip(address), Some(port)) = (&mut address, health.port) {
        address.set_port(port);
    }
    let checked = async {
        let by_http2 = upstream.protocol == Protocol::Http2 || matches!(health.probe, Probe::Grpc { .. });
        match &upstream.tls {
            Some(tls) if health.probe != Probe::Tcp => {
                let config = if by_http2 { tls.http2() } else { tls.http1() };
                let stream = pool::secured(&address, &endpoint.authority, tls, config).await;
                ask(stream, endpoint, &health.probe, by_http2.then_some(Scheme::HTTPS)).await
            }
            _ => {
                let stream = pool::connect(&address).await;
                ask(stream, endpoint, &health.probe, by_http2.then_some(Scheme::HTTP)).await
            }
        }
    };
    let limit = health.timeout;
    timeout(limit, checked).await.unwrap_or_else(|_| Err(format!("no answer within {}", shown(limit))))
}

fn shown(limit: Duration) -> String {
    format!("{} ms", limit.as_millis())
}

/// By HTTP/2 where there is a scheme for it.
async fn ask<S>(
    stream: io::Result<S>,
    endpoint: &Endpoint,
    probe: &Probe,
    http2: Option<Scheme>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    match probe {
        Probe::Tcp => Ok(()),
        Probe::Http { method, target, host, headers, status, body } => {
            let host = host.as_deref().unwrap_or(&endpoint.authority);
            let mut request = Request::new(Body::Empty);
            *request.method_mut() = method.clone();
            *request.uri_mut() = target.clone().into();
            *request.headers_mut() = own_headers(headers, host);
            let response = send(stream, request, http2).await?;
            let found = response.status().as_u16();
            if !status.iter().any(|range| range.contains(&found)) {
                return Err(format!("status {found}"));
            }
            let Some(wanted) = body else { return Ok(()) };
            let mut content = response.into_body();
            let content = content.read_up_to(MAX_BODY).await.map_err(told)?.bytes;
            match memchr::memmem::find(&content, wanted.as_bytes()) {
                Some(_) => Ok(()),
                None => Err("the body is another".to_owned()),
            }
        }
        Probe::Grpc { service, host } => {
            let host = host.as_deref().unwrap_or(&endpoint.authority);
            serving(stream, service, host, http2).await
        }
    }
}

async fn send<S>(stream: S, request: Request<Body>, http2: Option<Scheme>) -> Result<Response<Body>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let Some(scheme) = http2 else {
        let mut sender = pool::http1(stream, ()).await.map_err(told)?;
        return Ok(sender.send_request(request).await.map_err(told)?.map(Body::from));
    };
    let mut ride = Ride::alone(stream).await.map_err(told)?;
    let sent = ride.send(Box::new(request), &scheme).await;
    sent.map_err(|failed| told(failed.error))
}

fn own_headers(headers: &HeaderMap, host: &str) -> HeaderMap {
    let mut headers = headers.clone();
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.entry(header::HOST).or_insert(host);
    }
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("wasmgate-health"));
    headers
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// `HealthCheckRequest` of grpc.health.v1.
#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

async fn serving<S>(stream: S, service: &str, host: &str, http2: Option<Scheme>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let uri: Uri = format!("http://{host}/grpc.health.v1.Health/Check").parse().map_err(told)?;
    let mut request =
        Request::new(Body::Full(grpc::frame(&Question { service: service.to_owned() }.encode_to_vec())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let response = send(stream, request, http2).await?;
    if response.status() != 200 {
        return Err(format!("status {}", response.status().as_u16()));
    }
    if let Some(status) = response.headers().get(grpc::STATUS).filter(|status| *status != "0") {
        return Err(format!("gRPC status {}", String::from_utf8_lossy(status.as_bytes())));
    }
    let content = response.into_body().collect(MAX_BODY).await;
    let content = content.map_err(|error: BodyError| error.to_string())?;
    let message = content.get(5..).unwrap_or_default();
    match Answer::decode(message).map_err(told)?.status {
        SERVING => Ok(()),
        status => Err(format!("it is not serving ({status})")),
    }
}
