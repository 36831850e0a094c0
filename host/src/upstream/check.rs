//! One check of an endpoint: a connection of its own, and what is asked on it.

use std::{io, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    Address, Endpoint,
    pool::{self, http2},
};
use crate::{
    body::{Body, BodyError, grpc_frame},
    config::{Health, Probe},
    tls::Connector,
};

/// What is looked at of an answer's body.
const MAX_BODY: usize = 64 << 10;

/// An error says what is wrong.
pub async fn check(endpoint: &Endpoint, health: &Health, tls: Option<&Connector>) -> Result<(), String> {
    let checked = async {
        let config = tls.and_then(|tls| match &health.probe {
            Probe::Http { .. } => Some((tls, tls.http1())),
            Probe::Grpc { .. } => Some((tls, tls.http2())),
            Probe::Tcp => None,
        });
        let mut address = endpoint.address.clone();
        if let (Address::Ip(address), Some(port)) = (&mut address, health.port) {
            address.set_port(port);
        }
        match config {
            Some((tls, config)) => {
                let stream = pool::secured(&address, &endpoint.authority, tls, config).await;
                ask(stream, endpoint, &health.probe).await
            }
            None => ask(pool::connect(&address).await, endpoint, &health.probe).await,
        }
    };
    let limit = health.timeout;
    timeout(limit, checked).await.unwrap_or_else(|_| Err(format!("no answer within {}", shown(limit))))
}

fn shown(limit: Duration) -> String {
    format!("{} ms", limit.as_millis())
}

async fn ask<S>(stream: io::Result<S>, endpoint: &Endpoint, probe: &Probe) -> Result<(), String>
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
            let mut sender = pool::http1(stream, ()).await.map_err(told)?;
            let response = sender.send_request(request).await.map_err(told)?;
            let found = response.status().as_u16();
            if !status.iter().any(|range| range.contains(&found)) {
                return Err(format!("status {found}"));
            }
            let Some(wanted) = body else { return Ok(()) };
            let mut content = Body::from(response.into_body());
            let (content, _) = content.read_up_to(MAX_BODY).await.map_err(told)?;
            match memchr::memmem::find(&content, wanted.as_bytes()) {
                Some(_) => Ok(()),
                None => Err("the body is another".to_owned()),
            }
        }
        Probe::Grpc { service, host } => {
            let host = host.as_deref().unwrap_or(&endpoint.authority);
            serving(stream, service, host).await
        }
    }
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

async fn serving<S>(stream: S, service: &str, host: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut sender = http2::handshake(stream).await.map_err(told)?;
    let uri: Uri = format!("http://{host}/grpc.health.v1.Health/Check").parse().map_err(told)?;
    let mut request =
        Request::new(Body::Full(grpc_frame(&Question { service: service.to_owned() }.encode_to_vec())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let response = sender.send_request(request).await.map_err(told)?;
    if response.status() != 200 {
        return Err(format!("status {}", response.status().as_u16()));
    }
    if let Some(status) = response.headers().get("grpc-status").filter(|status| *status != "0") {
        return Err(format!("gRPC status {}", String::from_utf8_lossy(status.as_bytes())));
    }
    let content = Body::from(response.into_body()).collect(MAX_BODY).await;
    let content = content.map_err(|error: BodyError| error.to_string())?;
    let message = content.get(5..).unwrap_or_default();
    match Answer::decode(message).map_err(told)?.status {
        SERVING => Ok(()),
        status => Err(format!("it is not serving ({status})")),
    }
}
