//! One table: every error with its status and its word for logs and metrics. And one renderer for
//! every answer of the gateway's own.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{
    body::{Body, BodyError},
    grpc,
    limiter::TooFast,
    plugin::{
        LocalResponse,
        exchange::{ResponseHead, State},
    },
    upstream::{Refused, pool},
};

/// Of the methods that the gateway itself knows; others pass.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

const OVERLOADED: &str = "upstream_overloaded";
const OVERLOADED_FIELD: HeaderName = HeaderName::from_static("x-gateway-overloaded");

#[derive(Debug)]
pub enum ProxyError {
    /// Not a request with one meaning.
    Refused(StatusCode, &'static str),
    /// More requests than the listener takes, and when it takes another one.
    Overloaded(Duration),
    /// The same of one client.
    TooManyRequests(Duration),
    /// More connections than a client may have.
    TooManyConnections,
    /// The host has another certificate than the connection.
    Misdirected,
    NoRoute,
    /// One of its plugins could not be loaded.
    RouteDisabled,
    UriTooLong,
    HeadersTooLarge,
    BodyTooLarge,
    BodyTimedOut,
    BodyMalformed,
    Expectation,
    /// OPTIONS that may go no further, which is answered.
    LastForward,
    Loop,
    NoUpstream,
    NoEndpoint,
    /// The upstream's breaker is open.
    CircuitOpen {
        retry_after: Duration,
    },
    /// The upstream has a limit, and is at it.
    UpstreamOverloaded,
    Upstream(pool::Error),
    UpstreamTimeout,
    /// Content-Length beside Transfer-Encoding, or a coding that is not one chunked (RFC 9112, section 6.3).
    AmbiguousResponse,
    /// 101 without having been asked for it, or for something else (RFC 9110, section 7.8).
    Switched,
    ResponseTooLarge,
    ResponseBroken,
    /// What a plugin decided.
    Local(Box<LocalResponse>),
    /// A plugin ended the connection: there is no answer.
    Closed,
}

impl From<Refused> for ProxyError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Open { retry_after } => ProxyError::CircuitOpen { retry_after },
            Refused::Overloaded => ProxyError::UpstreamOverloaded,
        }
    }
}

impl From<Box<LocalResponse>> for ProxyError {
    fn from(local: Box<LocalResponse>) -> Self {
        ProxyError::Local(local)
    }
}

impl From<TooFast> for ProxyError {
    fn from(too_fast: TooFast) -> Self {
        match too_fast {
            TooFast::All(wait) => ProxyError::Overloaded(wait),
            TooFast::Client(wait) => ProxyError::TooManyRequests(wait),
        }
    }
}

impl ProxyError {
    pub fn into_response(self) -> Box<LocalResponse> {
        if let ProxyError::Local(local) = self {
            return local;
        }
        let (status, code, detail) = self.row();
        let mut response = LocalResponse::error(status, code, detail);
        if matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NO_CONTENT) {
            response.headers.insert(header::ALLOW, HeaderValue::from_static(ALLOWED));
        }
        let wait = match &self {
            ProxyError::CircuitOpen { retry_after } => Some(*retry_after),
            ProxyError::Overloaded(wait) | ProxyError::TooManyRequests(wait) => Some(*wait),
            _ => None,
        };
        if let Some(wait) = wait {
            // Rounded up: at that time it is worth a try.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        if code == OVERLOADED {
            response.headers.insert(OVERLOADED_FIELD, HeaderValue::from_static("1"));
        }
        // What follows on the connection may not be what it seems, or is nothing that anybody wants to read.
        if matches!(
            status,
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::PAYLOAD_TOO_LARGE
        ) {
            response.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Box::new(response)
    }

    fn row(&self) -> (StatusCode, &'static str, &'static str) {
        use ProxyError as E;
        use StatusCode as S;
        match self {
            E::Refused(S::METHOD_NOT_ALLOWED, detail) => {
                (S::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            }
            E::Refused(S::NOT_IMPLEMENTED, detail) => (S::NOT_IMPLEMENTED, "not_implemented", detail),
            E::Refused(status, detail) => (*status, "bad_request", detail),
            E::Overloaded(_) => {
                (S::SERVICE_UNAVAILABLE, "overloaded", "There are more requests than can be taken now.")
            }
            E::TooManyRequests(_) => {
                (S::TOO_MANY_REQUESTS, "too_many_requests", "The client sends too many requests.")
            }
            E::TooManyConnections => {
                (S::SERVICE_UNAVAILABLE, "too_many_connections", "The client has too many connections.")
            }
            E::Misdirected => (
                S::MISDIRECTED_REQUEST,
                "misdirected_request",
                "The host has another certificate than this connection.",
            ),
            E::NoRoute => (S::NOT_FOUND, "route_not_found", "No route matches the request."),
            E::RouteDisabled => (S::SERVICE_UNAVAILABLE, "route_disabled", "The route is out of order."),
            E::UriTooLong => (S::URI_TOO_LONG, "uri_too_long", "The target is too long."),
            E::HeadersTooLarge => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "The request has too many headers.")
            }
            E::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "payload_too_large", "The body is too long."),
            E::BodyTimedOut => (S::REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time."),
            E::BodyMalformed => (S::BAD_REQUEST, "bad_request", "The body is malformed or broke off."),
            E::Expectation => {
                (S::EXPECTATION_FAILED, "expectation_failed", "Only 100-continue can be expected.")
            }
            E::LastForward => (S::NO_CONTENT, "max_forwards", "The request may go no further."),
            E::Loop => (S::LOOP_DETECTED, "loop_detected", "The request runs in a circle."),
            E::NoUpstream => (S::SERVICE_UNAVAILABLE, "no_upstream", "The route has no upstream."),
            E::NoEndpoint => (S::SERVICE_UNAVAILABLE, "no_healthy_upstream", "No endpoint is available."),
            E::CircuitOpen { .. } => {
                (S::SERVICE_UNAVAILABLE, "circuit_open", "The upstream is out of order for a while.")
            }
            E::UpstreamOverloaded => (S::SERVICE_UNAVAILABLE, OVERLOADED, "The upstream has too much to do."),
            E::Upstream(error) => upstream_row(error),
            E::UpstreamTimeout => {
                (S::GATEWAY_TIMEOUT, "upstream_timeout", "The upstream did not answer in time.")
            }
            E::ResponseTooLarge => (
                S::BAD_GATEWAY,
                "response_too_large",
                "The upstream's answer is longer than a plugin may buffer.",
            ),
            E::AmbiguousResponse => {
                (S::BAD_GATEWAY, "upstream_protocol_error", "The upstream's answer has no one length.")
            }
            E::Switched => (
                S::BAD_GATEWAY,
                "upstream_protocol_error",
                "The upstream switches protocols without being asked.",
            ),
            E::ResponseBroken => (S::BAD_GATEWAY, "upstream_reset", "The upstream's answer broke off."),
            E::Local(local) => (local.status, LocalResponse::PLUGIN, ""),
            E::Closed => (S::INTERNAL_SERVER_ERROR, "plugin_closed", "A plugin ended the connection."),
        }
    }

    /// What the end of the request's body means.
    pub fn from_request_body(error: &BodyError) -> Self {
        match error {
            BodyError::TooLarge => ProxyError::BodyTooLarge,
            BodyError::TimedOut => ProxyError::BodyTimedOut,
            BodyError::Transport(_) | BodyError::Cut => ProxyError::BodyMalformed,
        }
    }

    /// What the end of the response's body means, where its head was not sent yet.
    pub fn from_response_body(error: &BodyError) -> Self {
        match error {
            BodyError::TooLarge => ProxyError::ResponseTooLarge,
            BodyError::TimedOut => ProxyError::UpstreamTimeout,
            BodyError::Transport(_) | BodyError::Cut => ProxyError::ResponseBroken,
        }
    }
}

pub fn upstream_row(error: &pool::Error) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match error {
        pool::Error::ConnectTimeout => ProxyError::UpstreamTimeout.row(),
        pool::Error::Overloaded => ProxyError::UpstreamOverloaded.row(),
        pool::Error::Connect(_) => {
            (S::BAD_GATEWAY, "upstream_connect_failed", "The upstream cannot be reached.")
        }
        pool::Error::Reset(_) => {
            (S::BAD_GATEWAY, "upstream_reset", "The upstream closed the connection without an answer.")
        }
        pool::Error::Refused(_) => {
            (S::BAD_GATEWAY, "upstream_refused", "The upstream did not take the request.")
        }
        pool::Error::Protocol(_) => {
            (S::BAD_GATEWAY, "upstream_protocol_error", "The upstream's answer is not HTTP.")
        }
        pool::Error::RequestBody(_) => ProxyError::BodyMalformed.row(),
    }
}

/// Head and body of a local answer. An error without a body of its own gets one in the form that
/// the client prefers; one for a client of gRPC becomes the end of its call.
pub fn render(mut local: LocalResponse, state: &State) -> (ResponseHead, Body) {
    if let (true, Some(kind)) = (local.status.as_u16() >= 400, state.grpc) {
        local.end_call(kind, grpc_status(&local));
    }
    let mut headers = local.headers;
    let is_error = local.status.as_u16() >= 400;
    let body = match local.body {
        None if is_error => {
            let request_id = state.var("request-id").map(String::from_utf8_lossy);
            let form = Form::of(state.request.headers.get(header::ACCEPT).or(state.accept.as_ref()));
            let text = form.write(local.status, &local.code, local.detail.as_deref(), request_id);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
            headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
            Bytes::from(text)
        }
        body => body.unwrap_or_default(),
    };
    let has_body =
        !matches!(local.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) && !body.is_empty();
    let body = if has_body {
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        Body::Full(body)
    } else {
        headers.remove(header::CONTENT_LENGTH);
        Body::Empty
    };
    let why = match local.code == LocalResponse::PLUGIN {
        true => local.detail.unwrap_or_default(),
        false => local.code,
    };
    (ResponseHead { status: local.status, headers, local: Some(why) }, body)
}

/// What a client of gRPC makes of an error of HTTP, and what it better knows of the gateway's own ones.
fn grpc_status(local: &LocalResponse) -> u32 {
    match local.status {
        _ if local.code == LocalResponse::PLUGIN => grpc::of_http(local.status),
        StatusCode::GATEWAY_TIMEOUT => grpc::DEADLINE_EXCEEDED,
        StatusCode::PAYLOAD_TOO_LARGE => grpc::RESOURCE_EXHAUSTED,
        status => grpc::of_http(status),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Problem,
    Html,
    Text,
}

impl Form {
    /// The first of the best that Accept names (RFC 9110, section 12.5.1); problem+json where it names none.
    fn of(accept: Option<&HeaderValue>) -> Form {
        let accept = accept.and_then(|value| value.to_str().ok());
        let ranges = accept.unwrap_or_default().split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let form = match parts.next()?.to_ascii_lowercase().as_str() {
                "application/problem+json" | "application/json" | "application/*" | "*/*" => Form::Problem,
                "text/html" => Form::Html,
                "text/plain" | "text/*" => Form::Text,
                _ => return None,
            };
            let q = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
            Some((form, q))
        });
        let best =
            ranges.fold((Form::Problem, 0.0), |best, range| if range.1 > best.1 { range } else { best });
        best.0
    }

    fn media_type(self) -> &'static str {
        match self {
            Form::Problem => "application/problem+json",
            Form::Html => "text/html; charset=utf-8",
            Form::Text => "text/plain; charset=utf-8",
        }
    }

    fn write(
        self,
        status: StatusCode,
        code: &str,
        detail: Option<&str>,
        request_id: Option<Cow<'_, str>>,
    ) -> String {
        let title = status.canonical_reason().unwrap_or("Error");
        let detail = detail.unwrap_or(title);
        match self {
            Form::Problem => {
                let mut problem = json!({
                    "type": format!("urn:wasmgate:error:{code}"),
                    "title": title,
                    "status": status.as_u16(),
                    "detail": detail,
                    "code": code,
                    "message": detail,
                });
                if let Some(id) = request_id {
                    problem["request_id"] = id.into();
                }
                problem.to_string()
            }
            Form::Html => {
                let (title, detail) = (escape(title), escape(detail));
                let number = status.as_u16();
                format!(
                    "<!doctype html><title>{number} {title}</title><h1>{number} {title}</h1><p>{detail}</p>\n"
                )
            }
            Form::Text => format!("{} {title}: {detail}\n", status.as_u16()),
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &'static str) -> Form {
        Form::of(Some(&HeaderValue::from_static(accept)))
    }

    #[test]
    fn negotiates_the_error_body() {
        assert_eq!(Form::of(None), Form::Problem);
        assert_eq!(form("*/*"), Form::Problem);
        assert_eq!(form("text/html,application/xhtml+xml,*/*;q=0.8"), Form::Html);
        assert_eq!(form("text/html;q=0.4, text/plain;q=0.5"), Form::Text);
        assert_eq!(form("image/png"), Form::Problem);
        assert_eq!(form("text/html;q=0"), Form::Problem);
    }

    #[test]
    fn html_is_escaped() {
        let html = Form::Html.write(StatusCode::FORBIDDEN, "x", Some("<script>"), None);
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }
}
