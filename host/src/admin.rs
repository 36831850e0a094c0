//! The admin listener: what an operator and a Prometheus read. Reads only; it runs beside the
//! workers, on the main thread.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::{drain::Signal, telemetry::metrics::Metrics};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/healthz`, `/readyz` and `/metrics` until the process ends: probes want answers during the drain too.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, drain: Signal) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let (metrics, drain) = (metrics.clone(), drain.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &metrics, &drain);
                async { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, drain: &Signal) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served here\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" if drain.is_draining() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "draining\n".to_owned())
        }
        "/readyz" => text(StatusCode::OK, "text/plain", "ready\n".to_owned()),
        "/metrics" => match metrics.page() {
            Ok(page) => text(StatusCode::OK, OPENMETRICS, page),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "text/plain", "see /healthz, /readyz and /metrics\n".to_owned()),
    }
}

fn text(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    response
}
