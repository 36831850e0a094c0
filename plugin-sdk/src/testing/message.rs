//! What the client and the upstream send in a test.

use super::exchange::{Exchange, Phase, RequestHead, ResponseHead, State};
use super::fields::{Fields, Trailers};
use crate::{BodyMode, Client, Tls};

/// A request as the client sends it: over plain HTTP from 127.0.0.1 to "localhost", on the route
/// "test".
///
/// ```
/// use wasmgate_sdk::testing::Request;
///
/// let exchange = Request::new("PUT", "/users/7?dry=1")
///     .header("x-tag", "a")
///     .client_ip("203.0.113.9")
///     .path_param("id", "7")
///     .var("consumer", "alice")
///     .build();
/// let request = exchange.request();
/// assert_eq!(request.client().ip, "203.0.113.9");
/// assert_eq!(request.path_param("id").as_deref(), Some("7"));
/// assert_eq!(request.var_str("consumer").as_deref(), Some("alice"));
/// ```
#[derive(Debug)]
pub struct Request {
    pub(super) head: RequestHead,
    pub(super) body: Vec<Vec<u8>>,
}

impl Request {
    /// A request with this method, path and query.
    ///
    /// ```
    /// let request = wasmgate_sdk::testing::Request::new("DELETE", "/users/7");
    /// assert_eq!(request.build().request().method(), "DELETE");
    /// ```
    pub fn new(method: &str, path_with_query: &str) -> Self {
        let head = RequestHead {
            method: method.to_string(),
            scheme: "http".to_string(),
            authority: "localhost".to_string(),
            target: path_with_query.to_string(),
            path_params: Vec::new(),
            route: "test".to_string(),
            fields: Fields::default(),
            trailers: Trailers::default(),
            body_mode: BodyMode::None,
            upstream: None,
            client: Client {
                ip: "127.0.0.1".to_string(),
                peer: "127.0.0.1:50000".to_string(),
                local: "127.0.0.1:8080".to_string(),
            },
            tls: None,
            vars: Default::default(),
            answer_headers: Fields::default(),
        };
        Request { head, body: Vec::new() }.authority("localhost")
    }

    /// A GET.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/x?y").build();
    /// assert_eq!(exchange.request().path_with_query(), "/x?y");
    /// ```
    pub fn get(path_with_query: &str) -> Self {
        Request::new("GET", path_with_query)
    }

    /// A POST with a body.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::post("/x", "hello").build();
    /// assert_eq!(exchange.request().method(), "POST");
    /// ```
    pub fn post(path_with_query: &str, body: impl Into<Vec<u8>>) -> Self {
        Request::new("POST", path_with_query).body(body)
    }

    /// Host and port that the client asks for.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/").authority("api.test:8443").build();
    /// assert_eq!(exchange.request().header_str("host").as_deref(), Some("api.test:8443"));
    /// ```
    pub fn authority(mut self, authority: &str) -> Self {
        self.head.authority = authority.to_string();
        self.head.fields.replace("host", authority.as_bytes());
        self
    }

    /// Adds a header after the others. What a client may send, a plugin may not always set: here
    /// nothing is refused.
    ///
    /// ```
    /// let request = wasmgate_sdk::testing::Request::get("/").header("a", "1").header("A", "2");
    /// assert_eq!(request.build().request().header_all("a").len(), 2);
    /// ```
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.fields.receive(name, value.as_ref());
        self
    }

    /// The body, in one piece.
    ///
    /// ```
    /// let request = wasmgate_sdk::testing::Request::new("PUT", "/x").body("hello");
    /// # let _ = request;
    /// ```
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        self.body_pieces([body])
    }

    /// The body, in the pieces in which it arrives.
    ///
    /// ```
    /// let request = wasmgate_sdk::testing::Request::new("PUT", "/x").body_pieces(["hel", "lo"]);
    /// # let _ = request;
    /// ```
    pub fn body_pieces(mut self, pieces: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.body = pieces.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a trailer, which the plugin may see when the body has ended.
    ///
    /// ```
    /// let request = wasmgate_sdk::testing::Request::new("PUT", "/x").body("{}").trailer("content-digest", "sha-256=:abc=:");
    /// # let _ = request;
    /// ```
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.trailers.fields.receive(name, value.as_ref());
        self
    }

    /// Address of the client after the trusted proxies were taken off.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/").client_ip("2001:db8::1").build();
    /// assert_eq!(exchange.request().client().ip, "2001:db8::1");
    /// ```
    pub fn client_ip(mut self, ip: &str) -> Self {
        self.head.client.ip = ip.to_string();
        self
    }

    /// A TLS connection with these facts; the scheme becomes "https".
    ///
    /// ```
    /// use wasmgate_sdk::{Tls, testing};
    ///
    /// let tls = Tls {
    ///     version: "TLSv1.3".to_string(),
    ///     cipher: "TLS13_AES_256_GCM_SHA384".to_string(),
    ///     sni: Some("localhost".to_string()),
    ///     alpn: None,
    ///     client_certificate: None,
    /// };
    /// let exchange = testing::Request::get("/").tls(tls).build();
    /// assert_eq!(exchange.request().scheme(), "https");
    /// ```
    pub fn tls(mut self, tls: Tls) -> Self {
        self.head.scheme = "https".to_string();
        self.head.tls = Some(tls);
        self
    }

    /// Name of the matched route.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/").route("users").build();
    /// assert_eq!(exchange.request().route(), "users");
    /// ```
    pub fn route(mut self, name: &str) -> Self {
        self.head.route = name.to_string();
        self
    }

    /// Adds a `{name}` of the matched route's path.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/users/7").path_param("id", "7").build();
    /// assert_eq!(exchange.request().path_params(), [("id".to_string(), "7".to_string())]);
    /// ```
    pub fn path_param(mut self, name: &str, value: &str) -> Self {
        self.head.path_params.push((name.to_string(), value.to_string()));
        self
    }

    /// Sets a variable, as a plugin before this one would have.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/").var("plan", "gold").build();
    /// assert_eq!(exchange.request().var_str("plan").as_deref(), Some("gold"));
    /// ```
    pub fn var(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.vars.insert(name.to_string(), value.as_ref().to_vec());
        self
    }

    /// Adds a header that a plugin before this one has the answer say.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/").answer_header("x-cache", "miss").build();
    /// assert_eq!(exchange.request().answer_header("x-cache").as_deref(), Some("miss"));
    /// ```
    pub fn answer_header(mut self, name: &str, value: &str) -> Self {
        self.head.answer_headers.replace(name, value.as_bytes());
        self
    }

    /// The request in the request phase, for a function that takes one. To run a whole plugin give
    /// the request to [`Loaded::send`](super::Loaded::send).
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/").build();
    /// assert!(exchange.request().set_header("x", "y").is_ok());
    /// ```
    pub fn build(self) -> Exchange {
        Exchange::new(self.into_state(Vec::new()))
    }

    pub(super) fn into_state(self, upstreams: Vec<String>) -> State {
        State {
            phase: Phase::Request,
            request: self.head,
            response: ResponseHead::new(200, false),
            upstreams,
        }
    }
}

/// A response as the upstream sends it.
///
/// ```
/// use wasmgate_sdk::testing::Response;
///
/// let response = Response::new(200).header("content-type", "text/plain").body("hello");
/// # let _ = response;
/// ```
#[derive(Debug)]
pub struct Response {
    pub(super) head: ResponseHead,
    pub(super) body: Vec<Vec<u8>>,
}

impl Response {
    /// A response with this status and nothing else.
    ///
    /// ```
    /// let response = wasmgate_sdk::testing::Response::new(404);
    /// # let _ = response;
    /// ```
    pub fn new(status: u16) -> Self {
        Response { head: ResponseHead::new(status, true), body: Vec::new() }
    }

    /// Adds a header after the others; nothing is refused.
    ///
    /// ```
    /// let response = wasmgate_sdk::testing::Response::new(200).header("set-cookie", "a=1");
    /// # let _ = response;
    /// ```
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.fields.receive(name, value.as_ref());
        self
    }

    /// The body, in one piece.
    ///
    /// ```
    /// let response = wasmgate_sdk::testing::Response::new(200).body("hello");
    /// # let _ = response;
    /// ```
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        self.body_pieces([body])
    }

    /// The body, in the pieces in which it arrives.
    ///
    /// ```
    /// let response = wasmgate_sdk::testing::Response::new(200).body_pieces(["hel", "lo"]);
    /// # let _ = response;
    /// ```
    pub fn body_pieces(mut self, pieces: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.body = pieces.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a trailer, which the plugin may see when the body has ended.
    ///
    /// ```
    /// let response = wasmgate_sdk::testing::Response::new(200).body("{}").trailer("grpc-status", "0");
    /// # let _ = response;
    /// ```
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.trailers.fields.receive(name, value.as_ref());
        self
    }
}
