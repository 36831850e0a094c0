//! The admin listener: what an operator, a probe and a Prometheus read, and what an operator changes.
//! It runs beside the workers, on the main thread, and knows the gateway only as [`Control`].

mod answer;
mod audit;
mod consumers;
mod credentials;
mod endpoints;
pub mod report;

use std::{
    borrow::Cow,
    cell::OnceCell,
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    time::SystemTime,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::{
    capability::{consumers::Book, passwords::Passwords},
    config::LogLevel,
    telemetry::{audit::Audit, metrics::Format},
};
use answer::{Answer, Problem};
use endpoints::{Action, Endpoint};
use report::{
    BreakerOrder, EndpointName, ForcedState, LogReport, PluginReport, Reloaded, RouteReport, Status,
    UpstreamReport,
};

pub use endpoints::openapi;

/// Longest body of a request.
const MAX_BODY: usize = 64 << 10;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why something was not changed.
pub enum Refusal {
    /// The name is not that of a loaded plugin.
    UnknownPlugin,
    /// The name is not that of an upstream.
    UnknownUpstream,
    /// The upstream has no endpoint with that address now.
    UnknownEndpoint,
    /// The upstream has no breaker.
    NoBreaker,
    /// The plugin is not rolled out, or not any more.
    NoRollout,
    /// A line for each fault of the files.
    Faults(Vec<String>),
}

pub type Changing<'a> = Pin<Box<dyn Future<Output = Result<Reloaded, Refusal>> + 'a>>;

/// The gateway as its operator sees it.
pub trait Control {
    fn token(&self) -> Option<String>;
    /// Where changes are told.
    fn audit(&self) -> Option<Audit>;
    fn is_draining(&self) -> bool;
    fn metrics(&self, format: Format) -> Result<String, std::fmt::Error>;
    fn status(&self) -> Status;
    /// With its defaults and without its secrets.
    fn config(&self) -> Value;
    fn routes(&self) -> Vec<RouteReport>;
    fn plugins(&self) -> Vec<PluginReport>;
    fn upstreams(&self) -> Vec<UpstreamReport>;
    fn consumers(&self) -> &Book;
    fn passwords(&self) -> &Passwords;
    /// Takes an endpoint out of service, or lets it back in. What it is at, it finishes.
    fn drain_endpoint(&self, upstream: &str, address: &str, drained: bool) -> Result<(), Refusal>;
    /// Holds a breaker open or closed, or leaves it to itself.
    fn force_breaker(&self, upstream: &str, forced: Option<ForcedState>) -> Result<(), Refusal>;
    fn log_level(&self) -> LogLevel;
    fn set_log_level(&self, level: LogLevel);
    /// Puts the files in force, or only sees whether they could be.
    fn reload(&self, dry_run: bool) -> Changing<'_>;
    /// Gives a part of a plugin's traffic to another version, as the `rollout` table of the config does.
    fn roll_out<'a>(&'a self, plugin: &'a str, rollout: Value) -> Changing<'a>;
    /// Gives all of it to the version that the plugin is rolled out to.
    fn promote<'a>(&'a self, plugin: &'a str) -> Changing<'a>;
    /// Gives all of it back to the version before.
    fn roll_back(&self, plugin: &str) -> Result<(), Refusal>;
    /// Begins to end.
    fn drain(&self);
}

/// The gateway, as soon as there is one to control.
pub type Controlled = Rc<OnceCell<Rc<dyn Control>>>;

/// Serves until the process ends: probes want answers before the gateway is ready, and during the drain.
pub async fn serve(listener: TcpListener, address: SocketAddr, controlled: Controlled) {
    let local = address.ip().is_loopback();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let controlled = controlled.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let control = controlled.get();
                let caller = Caller { ip: peer.ip().to_canonical(), local };
                async move { Ok::<_, Infallible>(answer(request, control, caller).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        });
    }
}

/// Who asks.
#[derive(Clone, Copy)]
struct Caller {
    ip: IpAddr,
    /// Only this machine reaches the listener.
    local: bool,
}

async fn answer(
    request: Request<Incoming>,
    control: Option<&Rc<dyn Control>>,
    caller: Caller,
) -> Response<Full<Bytes>> {
    let head_only = *request.method() == Method::HEAD;
    let outcome = outcome(request, control, caller).await;
    let mut response = outcome.unwrap_or_else(Answer::from).into_response();
    if head_only {
        *response.body_mut() = Full::default();
    }
    response
}

async fn outcome(
    request: Request<Incoming>,
    control: Option<&Rc<dyn Control>>,
    caller: Caller,
) -> Result<Answer, Problem> {
    let (endpoint, names) = endpoint(&request)?;
    let Some(control) = control else { return starting(endpoint.action) };
    let outcome = match admitted(&request, endpoint, control.token().as_deref(), caller.local) {
        Ok(()) => act(endpoint.action, &names, request, &**control).await,
        Err(problem) => Err(problem),
    };
    if let Some(audit) = control.audit() {
        audit::record(&audit, caller.ip, endpoint, names, &outcome);
    }
    outcome
}

/// Before the first snapshot there is nothing to tell but that.
fn starting(action: Action) -> Result<Answer, Problem> {
    match action {
        Action::Health => Ok(Answer::text("ok\n")),
        Action::Ready => Ok(Answer::text("starting\n").status(StatusCode::SERVICE_UNAVAILABLE)),
        _ => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "The gateway is starting.")),
    }
}

/// What the request is for, with the names in its path; or why it is for nothing.
fn endpoint(request: &Request<Incoming>) -> Result<(&'static Endpoint, Vec<String>), Problem> {
    let path = request.uri().path();
    let method = match *request.method() {
        Method::HEAD => &Method::GET,
        ref method => method,
    };
    let all = endpoints::all().iter();
    let here: Vec<_> = all.filter_map(|endpoint| Some((endpoint, endpoint.matches(path)?))).collect();
    if here.is_empty() {
        let mut paths: Vec<_> = endpoints::all().iter().map(|endpoint| endpoint.path).collect();
        // Those of one path stand one after the other.
        paths.dedup();
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("There is {}.", paths.join(", "))));
    }
    let found = here.iter().find(|(endpoint, _)| endpoint.method == *method);
    if let Some((endpoint, names)) = found {
        let names: Option<_> = names.iter().map(|name| decoded(name)).collect();
        let malformed = || Problem::new(StatusCode::BAD_REQUEST, "The path holds what is no UTF-8.");
        return Ok((endpoint, names.ok_or_else(malformed)?));
    }
    let methods: Vec<_> = here.iter().map(|(endpoint, _)| endpoint.method.as_str()).collect();
    let problem =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {}.", methods.join(" and ")));
    Err(problem.header(header::ALLOW, methods.join(", ")))
}

/// A segment of a path (RFC 3986, section 2.1).
fn decoded(segment: &str) -> Option<String> {
    percent_decode_str(segment).decode_utf8().ok().map(Cow::into_owned)
}

/// Whoever reaches this machine may look, and asks for it by its address; whoever has the token may look from elsewhere, and act.
fn admitted(
    request: &Request<Incoming>,
    endpoint: &Endpoint,
    token: Option<&str>,
    local: bool,
) -> Result<(), Problem> {
    let looks = local && !endpoint.changes();
    if endpoint.is_probe() || (looks && !is_for_a_name(request)) {
        return Ok(());
    }
    let Some(token) = token else {
        let detail = match looks {
            true => {
                "Host is neither an IP address nor `localhost`: that takes an `admin.token` in the config."
            }
            false => "Nothing can be changed here, because the config has no `admin.token`.",
        };
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    };
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.split_at_checked(7));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, token)| token);
    // Of digests: how long the comparison takes tells nothing of the token.
    match given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token)) {
        true => Ok(()),
        false => Err(Problem::new(StatusCode::UNAUTHORIZED, "The admin token is missing or wrong.")
            .header(header::WWW_AUTHENTICATE, "Bearer realm=\"wasmgate admin\"")),
    }
}

/// Whether the request is for a host of a name. A browser asks for that of the page it shows, also where the page's owner has
/// let the name lead to this machine (DNS rebinding).
fn is_for_a_name<B>(request: &Request<B>) -> bool {
    let told = request.headers().get_all(header::HOST).iter().map(|host| host.as_bytes());
    let mut told = told.chain(request.uri().authority().map(|authority| authority.as_str().as_bytes()));
    !told.all(is_this_machine)
}

fn is_this_machine(authority: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(authority) else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

async fn act(
    action: Action,
    names: &[String],
    request: Request<Incoming>,
    control: &dyn Control,
) -> Result<Answer, Problem> {
    let name_at = |place: usize| names.get(place).map(String::as_str).unwrap_or_default();
    let (name, id) = (name_at(0), name_at(1));
    let (book, now) = (control.consumers(), SystemTime::now());
    Ok(match action {
        Action::Health => Answer::text("ok\n"),
        Action::Ready if control.is_draining() => {
            Answer::text("draining\n").status(StatusCode::SERVICE_UNAVAILABLE)
        }
        Action::Ready => Answer::text("ready\n"),
        Action::Metrics => {
            let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let (format, media_type) =
                match accept.is_some_and(|types| types.contains("application/openmetrics-text")) {
                    true => (Format::OpenMetrics, OPENMETRICS),
                    false => (Format::Prometheus, PROMETHEUS),
                };
            let page = control.metrics(format).map_err(|error| Problem::internal(&error))?;
            Answer::of(media_type, page)
        }
        Action::OpenApi => Answer::json(&openapi())?,
        Action::Status => Answer::json(&control.status())?,
        Action::Config => Answer::json(&control.config())?,
        Action::Routes => Answer::json(&control.routes())?,
        Action::Plugins => Answer::json(&control.plugins())?,
        Action::Upstreams => Answer::json(&control.upstreams())?,
        Action::DrainEndpoint | Action::RestoreEndpoint => {
            let EndpointName { endpoint } = body(request).await?;
            control.drain_endpoint(name, &endpoint, action == Action::DrainEndpoint)?;
            Answer::json(&control.upstreams())?.changed(endpoint)
        }
        Action::ForceBreaker => {
            let BreakerOrder { force } = body(request).await?;
            control.force_breaker(name, force)?;
            let state = force.map_or("by itself".to_owned(), |state| format!("{state:?}").to_lowercase());
            Answer::json(&control.upstreams())?.changed(state)
        }
        Action::Log => Answer::json(&LogReport { level: control.log_level() })?,
        Action::SetLog => {
            let LogReport { level } = body(request).await?;
            control.set_log_level(level);
            Answer::json(&LogReport { level })?.changed(format!("{level:?}").to_lowercase())
        }
        Action::Reload => {
            let dry_run = flag(&request, "dry-run")?;
            let answer = Answer::json(&control.reload(dry_run).await?)?;
            if dry_run { answer.changed("nothing: dry-run") } else { answer }
        }
        Action::RollOut => {
            let rollout = body(request).await?;
            Answer::json(&control.roll_out(name, rollout).await?)?
        }
        Action::Promote => Answer::json(&control.promote(name).await?)?,
        Action::RollBack => {
            control.roll_back(name)?;
            Answer::json(&control.plugins())?
        }
        Action::Drain => {
            control.drain();
            Answer::json(&control.status())?.status(StatusCode::ACCEPTED)
        }
        Action::Consumers => Answer::json(&consumers::all(book)?)?,
        Action::Consumer => Answer::json(&consumers::one(book, name)?)?,
        Action::SetConsumer => Answer::json(&consumers::set(book, name, body(request).await?).await?)?,
        Action::RemoveConsumer => {
            book.remove(name).await?;
            Answer::none()
        }
        Action::Keys => Answer::json(&consumers::keys(book, name, now)?)?,
        Action::IssueKey => {
            let issued = consumers::issue(book, name, optional_body(request).await?, now).await?;
            Answer::json(&issued)?.status(StatusCode::CREATED).changed(issued.id)
        }
        Action::RotateKey => {
            let issued = consumers::rotate(book, name, id, optional_body(request).await?, now).await?;
            Answer::json(&issued)?.status(StatusCode::CREATED).changed(issued.id)
        }
        Action::SetKeyEnd => {
            let report = consumers::set_end(book, name, id, body(request).await?, now).await?;
            Answer::json(&report)?
        }
        Action::RevokeKey => {
            book.revoke(name, id).await?;
            Answer::none()
        }
        Action::Credentials => Answer::json(&credentials::all(book, name, now)?)?,
        Action::SetCredential => {
            let (order, passwords) = (body(request).await?, control.passwords());
            let set = credentials::set(book, passwords, name, order, now).await?;
            Answer::json(&set)?.status(StatusCode::CREATED).changed(set.name())
        }
        Action::RevokeCredential => {
            credentials::revoke(book, name, id, name_at(2)).await?;
            Answer::none()
        }
    })
}

/// `?name` or `?name=true`.
fn flag(request: &Request<Incoming>, name: &str) -> Result<bool, Problem> {
    let mut set = false;
    for pair in request.uri().query().into_iter().flat_map(|query| query.split('&')) {
        set |= match pair.split_once('=').unwrap_or((pair, "true")) {
            (key, "true") if key == name => true,
            (key, "false") if key == name => false,
            _ => {
                let detail = format!("The query may have `{name}`, not `{pair}`.");
                return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
            }
        };
    }
    Ok(set)
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Problem> {
    parsed(&bytes(request).await?)
}

/// Nothing says nothing.
async fn optional_body<T: DeserializeOwned + Default>(request: Request<Incoming>) -> Result<T, Problem> {
    let bytes = bytes(request).await?;
    if bytes.is_empty() { Ok(T::default()) } else { parsed(&bytes) }
}

async fn bytes(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => {
            let detail = format!("The body has more than {MAX_BODY} bytes.");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        }
        false => Problem::new(StatusCode::BAD_REQUEST, error.to_string()),
    })?;
    Ok(body.to_bytes())
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_anyone_may_have_is_not_this_machine() {
        let asked = |target: &str, hosts: &[&str]| {
            let request = Request::get(target);
            let request = hosts.iter().fold(request, |request, host| request.header(header::HOST, *host));
            is_for_a_name(&request.body(()).unwrap())
        };
        for own in ["localhost", "LocalHost:9901", "127.0.0.1", "127.0.0.1:9901", "[::1]:9901", "10.0.0.7"] {
            assert!(!asked("/", &[own]), "{own}");
        }
        for other in ["a.test", "a.test:9901", "localhost.a.test", "127.0.0.1.a.test:80", "", "::1", "a b"] {
            assert!(asked("/", &[other]), "{other}");
        }
        assert!(!asked("/", &[]));
        assert!(asked("/", &["localhost", "a.test"]));
        assert!(asked("http://a.test/", &["localhost"]));
    }
}
