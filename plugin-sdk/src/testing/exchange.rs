//! One request with its response as the fake host owns them: two interfaces of the contract.
//! What can be changed follows from the phase; who calls which phase is not known here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::fields::{Fields, Trailers};
use crate::LocalResponse;
use crate::bindings::plugin::wasmgate::plugin::request::Identity;
use crate::host::types::{BodyMode, Client, Error, Header, Tls};
use crate::types::is_token;

type Result<T> = std::result::Result<T, Error>;

/// Bytes of a variable and its name, and variables of a request.
const MAX_VAR: usize = 64 * 1024;
const MAX_VARS: usize = 64;

/// What the gateway lets a plugin have of a body unless its config says otherwise.
const MAX_BODY: u32 = 1024 * 1024;

/// A request and its response, outside of any phase: what a function of a plugin that takes a
/// [`Request`](crate::Request) is tested with.
///
/// ```
/// use wasmgate_sdk::{Request, testing};
///
/// fn token(request: &Request) -> Option<String> {
///     Some(request.header_str("authorization")?.strip_prefix("Bearer ")?.to_string())
/// }
///
/// let exchange = testing::Request::get("/").header("authorization", "Bearer abc").build();
/// assert_eq!(token(&exchange.request()).as_deref(), Some("abc"));
/// ```
pub struct Exchange {
    pub(super) state: Rc<RefCell<State>>,
    request: Request,
    response: Response,
}

impl Exchange {
    pub(super) fn new(state: State) -> Self {
        let state = Rc::new(RefCell::new(state));
        Exchange { request: Request(state.clone()), response: Response(state.clone()), state }
    }

    /// The request, in the state in which it is now.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/").build();
    /// assert_eq!(exchange.request().method(), "GET");
    /// ```
    pub fn request(&self) -> crate::Request<'_> {
        crate::Request::new(&self.request)
    }

    /// The response, in the state in which it is now; before there is one, an empty 200.
    ///
    /// ```
    /// let exchange = wasmgate_sdk::testing::Request::get("/").build();
    /// assert_eq!(exchange.response().status(), 200);
    /// ```
    pub fn response(&self) -> crate::Response<'_> {
        crate::Response::new(&self.response)
    }
}

/// Where in its life the exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Request,
    RequestBody { sent: bool },
    Response,
    ResponseBody { sent: bool },
    Log,
}

#[derive(Debug)]
pub struct State {
    pub phase: Phase,
    pub request: RequestHead,
    pub response: ResponseHead,
    /// Upstreams that exist.
    pub upstreams: Vec<String>,
}

#[derive(Debug)]
pub struct RequestHead {
    pub method: String,
    pub scheme: String,
    pub authority: String,
    pub target: String,
    pub path_params: Vec<(String, String)>,
    pub route: String,
    pub fields: Fields,
    pub trailers: Trailers,
    pub body_mode: BodyMode,
    pub upstream: Option<String>,
    pub client: Client,
    pub tls: Option<Tls>,
    pub vars: BTreeMap<String, Vec<u8>>,
    /// What plugins have the answer say, whoever makes it.
    pub answer_headers: Fields,
}

#[derive(Debug)]
pub struct ResponseHead {
    pub status: u16,
    pub from_upstream: bool,
    pub fields: Fields,
    pub trailers: Trailers,
    pub body_mode: BodyMode,
}

impl ResponseHead {
    pub fn new(status: u16, from_upstream: bool) -> Self {
        let (fields, trailers) = Default::default();
        ResponseHead { status, from_upstream, fields, trailers, body_mode: BodyMode::None }
    }

    /// Whether the body phase is called for the response to this method (RFC 9110, section 6.4.1).
    pub fn has_body(&self, method: &str) -> bool {
        method != "HEAD" && !matches!(self.status, 204 | 304)
    }

    /// The head of an answer, unless it holds what the host refuses.
    pub fn local(answer: &LocalResponse) -> Result<Self> {
        let mut head = ResponseHead::new(check_status(answer.status)?, false);
        for (name, value) in &answer.headers {
            head.fields.append(name, value)?;
        }
        Ok(head)
    }
}

impl State {
    fn request(&mut self) -> Result<&mut RequestHead> {
        match self.phase {
            Phase::Request | Phase::RequestBody { sent: false } => Ok(&mut self.request),
            _ => Err(Error::Immutable),
        }
    }

    fn response(&mut self) -> Result<&mut ResponseHead> {
        match self.phase {
            Phase::Response | Phase::ResponseBody { sent: false } => Ok(&mut self.response),
            _ => Err(Error::Immutable),
        }
    }

    pub fn tell_client(&mut self) {
        for (name, value) in self.request.answer_headers.copy() {
            self.response.fields.replace(&name, &value);
        }
    }

    fn request_trailers(&mut self) -> Result<&mut Fields> {
        self.request.trailers.open(matches!(self.phase, Phase::RequestBody { .. }))
    }

    fn response_trailers(&mut self) -> Result<&mut Fields> {
        self.response.trailers.open(matches!(self.phase, Phase::ResponseBody { .. }))
    }
}

/// The interface `request` of the contract.
pub struct Request(Rc<RefCell<State>>);

impl Request {
    fn read<T>(&self, read: impl FnOnce(&RequestHead) -> T) -> T {
        read(&self.0.borrow().request)
    }

    pub fn method(&self) -> String {
        self.read(|head| head.method.clone())
    }

    pub fn set_method(&self, method: &str) -> Result<()> {
        if method == "CONNECT" {
            return Err(Error::Forbidden);
        }
        self.0.borrow_mut().request()?.method = checked(method, is_token(method.as_bytes()))?;
        Ok(())
    }

    pub fn scheme(&self) -> String {
        self.read(|head| head.scheme.clone())
    }

    pub fn authority(&self) -> String {
        self.read(|head| head.authority.clone())
    }

    pub fn set_authority(&self, authority: &str) -> Result<()> {
        let valid =
            !authority.is_empty() && authority.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@".contains(&b));
        self.0.borrow_mut().request()?.authority = checked(authority, valid)?;
        Ok(())
    }

    pub fn path_with_query(&self) -> String {
        self.read(|head| head.target.clone())
    }

    pub fn set_path_with_query(&self, target: &str) -> Result<()> {
        let valid = target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        self.0.borrow_mut().request()?.target = checked(target, valid)?;
        Ok(())
    }

    pub fn path_param(&self, name: &str) -> Option<String> {
        self.read(|head| head.path_params.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
    }

    pub fn path_params(&self) -> Vec<(String, String)> {
        self.read(|head| head.path_params.clone())
    }

    pub fn route(&self) -> String {
        self.read(|head| head.route.clone())
    }

    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.read(|head| head.fields.first(name))
    }

    pub fn header_all(&self, name: &str) -> Vec<Vec<u8>> {
        self.read(|head| head.fields.all(name))
    }

    pub fn headers(&self, names: &[&str]) -> Vec<Option<Vec<u8>>> {
        self.read(|head| names.iter().map(|name| head.fields.first(name)).collect())
    }

    pub fn headers_copy(&self) -> Vec<Header> {
        self.read(|head| head.fields.copy())
    }

    pub fn set_header(&self, name: &str, value: &[u8]) -> Result<()> {
        self.0.borrow_mut().request()?.fields.set(name, value)
    }

    pub fn append_header(&self, name: &str, value: &[u8]) -> Result<()> {
        self.0.borrow_mut().request()?.fields.append(name, value)
    }

    pub fn remove_header(&self, name: &str) -> Result<bool> {
        self.0.borrow_mut().request()?.fields.remove(name)
    }

    pub fn set_answer_headers(&self, headers: &[(&str, &[u8])]) -> Result<()> {
        let mut state = self.0.borrow_mut();
        let request = state.request()?;
        let mut fields = request.answer_headers.clone();
        headers.iter().try_for_each(|(name, value)| fields.set(name, value))?;
        request.answer_headers = fields;
        Ok(())
    }

    pub fn answer_header(&self, name: &str) -> Option<Vec<u8>> {
        self.read(|head| head.answer_headers.first(name))
    }

    pub fn identify(&self, identity: Identity<'_>) -> Result<()> {
        let Identity { consumer, custom_id, credential, groups, plan, claims, anonymous } = identity;
        if consumer.is_empty() || groups.iter().any(|group| group.contains(',')) {
            return Err(Error::InvalidValue);
        }
        let mut state = self.0.borrow_mut();
        let request = state.request()?;
        let joined = |by| (!groups.is_empty()).then(|| groups.join(by));
        let mut fields = request.fields.clone();
        fields.remove_fitting(&["x-consumer-*", "x-credential-identifier", "x-anonymous-consumer"]);
        let headers = [
            ("x-consumer-id", Some(consumer.to_string())),
            ("x-consumer-username", Some(consumer.to_string())),
            ("x-consumer-custom-id", custom_id.map(str::to_string)),
            ("x-credential-identifier", credential.map(str::to_string)),
            ("x-consumer-groups", joined(", ")),
            ("x-anonymous-consumer", anonymous.then(|| "true".to_string())),
        ];
        for (name, value) in headers {
            value.map_or(Ok(()), |value| fields.set(name, value.as_bytes()))?;
        }
        let vars = [
            ("consumer", Some(consumer.to_string())),
            ("credential", credential.map(str::to_string)),
            ("groups", joined(",")),
            ("plan", plan.map(str::to_string)),
            ("claims", claims.map(str::to_string)),
        ];
        let mut known = request.vars.clone();
        known.retain(|known, _| !vars.iter().any(|(name, _)| name == known));
        for (name, value) in vars {
            value.map_or(Ok(()), |value| set_var(&mut known, name, value.as_bytes()))?;
        }
        request.fields = fields;
        request.vars = known;
        Ok(())
    }

    pub fn set_body_mode(&self, mode: BodyMode) -> Result<()> {
        let mut state = self.0.borrow_mut();
        match state.phase {
            Phase::Request => state.request.body_mode = bounded(mode),
            _ => return Err(Error::Immutable),
        }
        Ok(())
    }

    pub fn trailers(&self) -> Vec<Header> {
        self.read(|head| head.trailers.copy())
    }

    pub fn set_trailer(&self, name: &str, value: &[u8]) -> Result<()> {
        self.0.borrow_mut().request_trailers()?.set(name, value)
    }

    pub fn remove_trailer(&self, name: &str) -> Result<bool> {
        self.0.borrow_mut().request_trailers()?.remove(name)
    }

    pub fn set_upstream(&self, name: &str) -> Result<()> {
        let mut state = self.0.borrow_mut();
        let known = state.upstreams.iter().any(|upstream| upstream == name);
        let request = state.request()?;
        if !known {
            return Err(Error::Unknown);
        }
        request.upstream = Some(name.to_string());
        Ok(())
    }

    pub fn client(&self) -> Client {
        self.read(|head| head.client.clone())
    }

    pub fn client_ip(&self) -> String {
        self.read(|head| head.client.ip.clone())
    }

    pub fn is_preflight(&self) -> bool {
        self.read(|head| {
            let has = |name| head.fields.first(name).is_some();
            head.method == "OPTIONS" && has("origin") && has("access-control-request-method")
        })
    }

    pub fn remove_headers(&self, patterns: &[&str]) -> Result<u32> {
        Ok(self.0.borrow_mut().request()?.fields.remove_fitting(patterns))
    }

    pub fn tls(&self) -> Option<Tls> {
        self.read(|head| head.tls.clone())
    }

    pub fn var(&self, name: &str) -> Option<Vec<u8>> {
        self.read(|head| head.vars.get(name).cloned())
    }

    pub fn set_var(&self, name: &str, value: &[u8]) -> Result<()> {
        let mut state = self.0.borrow_mut();
        if state.phase == Phase::Log {
            return Err(Error::Immutable);
        }
        set_var(&mut state.request.vars, name, value)
    }
}

/// The interface `response` of the contract.
pub struct Response(Rc<RefCell<State>>);

impl Response {
    fn read<T>(&self, read: impl FnOnce(&ResponseHead) -> T) -> T {
        read(&self.0.borrow().response)
    }

    pub fn status(&self) -> u16 {
        self.read(|head| head.status)
    }

    pub fn set_status(&self, status: u16) -> Result<()> {
        self.0.borrow_mut().response()?.status = check_status(status)?;
        Ok(())
    }

    #[expect(clippy::wrong_self_convention, reason = "the contract calls it so")]
    pub fn from_upstream(&self) -> bool {
        self.read(|head| head.from_upstream)
    }

    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.read(|head| head.fields.first(name))
    }

    pub fn header_all(&self, name: &str) -> Vec<Vec<u8>> {
        self.read(|head| head.fields.all(name))
    }

    pub fn headers(&self, names: &[&str]) -> Vec<Option<Vec<u8>>> {
        self.read(|head| names.iter().map(|name| head.fields.first(name)).collect())
    }

    pub fn headers_copy(&self) -> Vec<Header> {
        self.read(|head| head.fields.copy())
    }

    pub fn set_header(&self, name: &str, value: &[u8]) -> Result<()> {
        self.0.borrow_mut().response()?.fields.set(name, value)
    }

    pub fn append_header(&self, name: &str, value: &[u8]) -> Result<()> {
        self.0.borrow_mut().response()?.fields.append(name, value)
    }

    pub fn remove_header(&self, name: &str) -> Result<bool> {
        self.0.borrow_mut().response()?.fields.remove(name)
    }

    pub fn set_body_mode(&self, mode: BodyMode) -> Result<()> {
        let mut state = self.0.borrow_mut();
        match state.phase {
            Phase::Response => state.response.body_mode = bounded(mode),
            _ => return Err(Error::Immutable),
        }
        Ok(())
    }

    pub fn trailers(&self) -> Vec<Header> {
        self.read(|head| head.trailers.copy())
    }

    pub fn set_trailer(&self, name: &str, value: &[u8]) -> Result<()> {
        self.0.borrow_mut().response_trailers()?.set(name, value)
    }

    pub fn remove_trailer(&self, name: &str) -> Result<bool> {
        self.0.borrow_mut().response_trailers()?.remove(name)
    }
}

fn set_var(vars: &mut BTreeMap<String, Vec<u8>>, name: &str, value: &[u8]) -> Result<()> {
    if name.len() + value.len() > MAX_VAR {
        return Err(Error::TooLarge);
    }
    if vars.len() >= MAX_VARS && !vars.contains_key(name) {
        return Err(Error::Exhausted);
    }
    vars.insert(name.to_string(), value.to_vec());
    Ok(())
}

/// A longer body is then one beyond the bound.
fn bounded(mode: BodyMode) -> BodyMode {
    match mode {
        BodyMode::Peek(limit) => BodyMode::Peek(limit.min(MAX_BODY)),
        BodyMode::Buffer(limit) => BodyMode::Buffer(limit.min(MAX_BODY)),
        BodyMode::None | BodyMode::Stream => mode,
    }
}

fn checked(text: &str, valid: bool) -> Result<String> {
    match valid {
        true => Ok(text.to_string()),
        false => Err(Error::InvalidValue),
    }
}

fn check_status(status: u16) -> Result<u16> {
    match status {
        200..=599 => Ok(status),
        _ => Err(Error::InvalidValue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostError, testing};

    #[test]
    fn a_message_can_be_changed_until_it_was_sent() {
        let exchange = testing::Request::get("/").build();
        let at = |phase| {
            exchange.state.borrow_mut().phase = phase;
            let (request, response) = (exchange.request(), exchange.response());
            (
                request.set_header("a", "b").is_ok(),
                response.set_header("a", "b").is_ok(),
                request.set_var("v", "").is_ok(),
            )
        };
        assert_eq!(at(Phase::Request), (true, false, true));
        assert_eq!(at(Phase::RequestBody { sent: false }), (true, false, true));
        assert_eq!(at(Phase::RequestBody { sent: true }), (false, false, true));
        assert_eq!(at(Phase::Response), (false, true, true));
        assert_eq!(at(Phase::ResponseBody { sent: false }), (false, true, true));
        assert_eq!(at(Phase::ResponseBody { sent: true }), (false, false, true));
        assert_eq!(at(Phase::Log), (false, false, false));
    }

    #[test]
    fn refuses_bad_values() {
        let exchange = testing::Request::get("/").build();
        let request = exchange.request();
        assert_eq!(request.set_header("Host", "x"), Err(HostError::Forbidden));
        assert_eq!(request.remove_header("connection"), Err(HostError::Forbidden));
        assert_eq!(request.set_method("CONNECT"), Err(HostError::Forbidden));
        assert_eq!(request.set_method("G T"), Err(HostError::InvalidValue));
        assert_eq!(request.set_authority("a/b"), Err(HostError::InvalidValue));
        assert_eq!(request.set_path_with_query("x"), Err(HostError::InvalidValue));
        assert_eq!(request.set_path_with_query("/x y"), Err(HostError::InvalidValue));
        assert_eq!(request.set_upstream("nowhere"), Err(HostError::Unknown));
        assert_eq!(exchange.response().set_status(200), Err(HostError::Immutable));
        exchange.state.borrow_mut().phase = Phase::Response;
        for status in [100, 199, 600] {
            assert_eq!(exchange.response().set_status(status), Err(HostError::InvalidValue));
        }
        assert_eq!(exchange.response().set_header("host", "x"), Err(HostError::Forbidden));
        assert_eq!(request.set_upstream("nowhere"), Err(HostError::Immutable));
    }

    #[test]
    fn variables_are_bounded() {
        let exchange = testing::Request::get("/").build();
        let request = exchange.request();
        assert_eq!(request.set_var("v", vec![0; MAX_VAR]), Err(HostError::TooLarge));
        for number in 0..MAX_VARS {
            request.set_var(&number.to_string(), "").unwrap();
        }
        assert_eq!(request.set_var("one-more", ""), Err(HostError::Exhausted));
        assert_eq!(request.set_var("0", "again"), Ok(()));
    }
}
