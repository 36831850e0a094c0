//! Asks a service whether a request may pass: its 2xx lets it, any other answer is the client's. As Traefik's ForwardAuth
//! does it, and with `append_path` as Envoy's ext_authz does by HTTP.

mod question;
#[cfg(test)]
mod tests;

use wasmgate_sdk::{
    BodyMode, BodyVerdict, Duration, Error, HeaderName, LocalResponse, Phases, Plugin, Request, Result, Size,
    Verdict,
    audit::{self, Why},
    auth::{self, Gate},
    config,
    http::{self, Answer, Failure},
    log,
    metrics::Counter,
    plugin,
};

use question::Question;

/// Who is asked, what it is told, and what becomes of its answer.
#[config]
pub struct Config {
    /// Upstream of the service; `upstreams` of the plugin's table in the gateway's config has to name it.
    upstream: String,
    /// Path that is asked.
    #[serde(default = "root")]
    path: String,
    /// Put the path and query of the request behind `path`.
    #[serde(default)]
    append_path: bool,
    /// Method of the question; none for that of the request.
    #[serde(default = "get")]
    method: Option<String>,
    /// Host of the question. Default: the service's own.
    #[serde(default)]
    authority: Option<String>,
    /// How long it may take.
    #[serde(default = "one_second")]
    timeout: Duration,
    /// Headers of the request that go into the question; ["*"] for all.
    #[serde(default = "credentials")]
    request_headers: Vec<String>,
    /// Headers of the answer that go upstream, in place of what the client sends there.
    #[serde(default)]
    upstream_headers: Vec<HeaderName>,
    /// Headers of a refusal that go to the client.
    #[serde(default = "of_refusals")]
    client_headers: Vec<HeaderName>,
    /// Headers of an answer that lets pass that go to the client, such as set-cookie.
    #[serde(default)]
    success_headers: Vec<HeaderName>,
    /// Sends so much of the body along. Default: none of it.
    #[serde(default)]
    body: Option<Body>,
    /// Longest body of an answer.
    #[serde(default = "sixty_four_kib")]
    max_answer: Size,
    /// What happens where the service does not answer, or with 5xx.
    #[serde(default)]
    on_error: OnError,
    /// Status of the refusal then.
    #[serde(default = "unavailable")]
    status_on_error: u16,
    /// Keeps answers. Default: each request is asked about.
    #[serde(default)]
    cache: Option<Cache>,
    /// One of several plugins of which one has to let the request pass; auth-any stands behind them.
    #[serde(default)]
    #[schemars(extend("x-leaves-open" = "authentication"))]
    any: bool,
}

#[config]
struct Body {
    /// Most bytes. A longer body is refused with 413, unless a part of it will do.
    max: Size,
    /// Send the beginning of a longer one.
    #[serde(default)]
    partial: bool,
}

#[config]
#[serde(rename_all = "lowercase")]
#[derive(Default, PartialEq)]
enum OnError {
    /// Refuse.
    #[default]
    Deny,
    /// Let pass.
    Allow,
}

#[config]
struct Cache {
    /// How long an answer holds for requests with the same method, host, path and values of these headers.
    ttl: Duration,
    /// Headers that tell clients apart.
    key: Vec<HeaderName>,
}

pub struct ForwardAuth {
    config: Config,
    body: Option<BodyMode>,
    /// Where it is one of several.
    gate: Option<Gate>,
    failures: Counter,
}

fn root() -> String {
    "/".to_string()
}

fn get() -> Option<String> {
    Some("GET".to_string())
}

fn one_second() -> Duration {
    Duration(std::time::Duration::from_secs(1))
}

fn credentials() -> Vec<String> {
    ["authorization", "cookie"].map(str::to_string).into()
}

fn of_refusals() -> Vec<HeaderName> {
    ["content-type", "location", "set-cookie", "www-authenticate"].map(HeaderName::from_static).into()
}

fn sixty_four_kib() -> Size {
    Size(64 << 10)
}

fn unavailable() -> u16 {
    503
}

#[plugin]
impl Plugin for ForwardAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if !config.path.starts_with('/') {
            return Err(Error::msg("path: has to begin with /"));
        }
        http::granted(&config.upstream).map_err(|error| Error::msg(format_args!("upstream: {error}")))?;
        if !(400..=599).contains(&config.status_on_error) {
            return Err(Error::msg("status_on_error: expected 400 to 599"));
        }
        u32::try_from(config.max_answer.0).map_err(|_| Error::msg("max_answer: must be below 4GiB"))?;
        let body = config.body.as_ref().map(Body::mode).transpose()?;
        if body.is_some() && config.cache.is_some() {
            return Err(Error::msg("cache: answers that depend on bodies cannot be kept"));
        }
        if body.is_some() && config.any {
            return Err(Error::msg("any: bodies come only after the other plugins have decided"));
        }
        let gate = config.any.then(|| Gate::new(true, None)).transpose()?;
        let gate = gate.map(|gate| gate.tells(config.upstream_headers.iter().cloned()));
        Ok(ForwardAuth { body, gate, failures: Counter::new("failures", &[])?, config })
    }

    fn phases(&self) -> Phases {
        let mut phases = Phases::REQUEST;
        phases.set(Phases::REQUEST_BODY, self.body.is_some());
        phases.set(Phases::RESPONSE, !self.config.success_headers.is_empty());
        phases
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if let Some(gate) = &self.gate {
            return self.ask_as_one_of_several(gate, request);
        }
        if request.var("consumer").is_none() {
            auth::forget(request)?;
        }
        match self.body {
            Some(mode) => {
                request.set_body_mode(mode)?;
                Ok(Verdict::Next)
            }
            None => Ok(self.ask(request, Vec::new())?.map_or(Verdict::Next, Verdict::Respond)),
        }
    }

    fn on_request_body(&self, request: &Request, chunk: Vec<u8>, _: bool) -> Result<BodyVerdict> {
        Ok(self.ask(request, chunk)?.map_or(BodyVerdict::Pass, BodyVerdict::Respond))
    }

    fn on_response(&self, request: &Request, response: &wasmgate_sdk::Response) -> Result<Verdict> {
        for name in &self.config.success_headers {
            let values = (0..).map_while(|place| request.var(&for_client(name, place)));
            for value in values {
                response.append_header(name, value)?;
            }
        }
        Ok(Verdict::Next)
    }
}

impl Body {
    fn mode(&self) -> Result<BodyMode> {
        let max = u32::try_from(self.max.0).map_err(|_| Error::msg("body.max: must be below 4GiB"))?;
        Ok(if self.partial { BodyMode::Peek(max) } else { BodyMode::Buffer(max) })
    }
}

impl ForwardAuth {
    /// The answer for the client, unless the request may pass.
    fn ask(&self, request: &Request, body: Vec<u8>) -> Result<Option<LocalResponse>> {
        let answer = (Question { config: &self.config, request }).answer(body);
        self.forget(request)?;
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => {
                self.let_pass(request, &answer)?;
                audit::explain(&Why::SERVICE_ALLOWED.into());
                Ok(None)
            }
            Ok(answer) if answer.status < 500 => Ok(Some(self.refusal(answer))),
            Ok(answer) => self.failed(&format!("it answered with {}", answer.status)),
            Err(failure) => self.failed(&failure.to_string()),
        }
    }

    fn ask_as_one_of_several(&self, gate: &Gate, request: &Request) -> Result<Verdict> {
        if !gate.enter(request)? {
            return Ok(Verdict::Next);
        }
        match self.ask(request, Vec::new())? {
            None => gate.pass_unnamed(request),
            Some(refusal) if self.presents(request) => gate.refuse(request, refusal),
            Some(refusal) => gate.missing(request, refusal),
        }
    }

    /// Whether there is anything that the service could know somebody by.
    fn presents(&self, request: &Request) -> bool {
        let names = &self.config.request_headers;
        let all = names.iter().any(|name| name == "*");
        all || names.iter().any(|name| request.header(name).is_some())
    }

    /// Removes what the client itself says in place of the service, with `_` for `-`, too.
    fn forget(&self, request: &Request) -> Result<()> {
        let names: Vec<&str> = self.config.upstream_headers.iter().map(|name| &**name).collect();
        if !names.is_empty() {
            request.remove_headers(&names)?;
        }
        Ok(())
    }

    fn let_pass(&self, request: &Request, answer: &Answer) -> Result<()> {
        for name in &self.config.upstream_headers {
            for value in question::values(answer, name) {
                request.append_header(name, value)?;
            }
        }
        for name in &self.config.success_headers {
            for (place, value) in question::values(answer, name).enumerate() {
                request.set_var(&for_client(name, place), value)?;
            }
        }
        Ok(())
    }

    fn refusal(&self, answer: Answer) -> LocalResponse {
        let mut refusal =
            LocalResponse::new(answer.status).code("forward_auth_denied").why(Why::SERVICE_DENIED);
        for name in &self.config.client_headers {
            for value in question::values(&answer, name) {
                refusal = refusal.header(name, value);
            }
        }
        // Without a body the gateway writes its own.
        if answer.body.is_empty() { refusal } else { refusal.body(answer.body) }
    }

    fn failed(&self, why: &str) -> Result<Option<LocalResponse>> {
        self.failures.add(1.0);
        log::warn!("{} cannot be asked: {why}", self.config.upstream);
        if self.config.on_error == OnError::Allow {
            audit::explain(&Why::UNAVAILABLE.into());
            return Ok(None);
        }
        let refusal = LocalResponse::new(self.config.status_on_error).code("forward_auth_failed");
        let refusal = refusal.detail("It cannot be checked now whether the request may pass.");
        Ok(Some(refusal.why(Why::UNAVAILABLE)))
    }
}

/// The variable in which a value of a header waits for the response.
fn for_client(name: &HeaderName, place: usize) -> String {
    format!("forward-auth/{name}/{place}")
}

/// What came of a question.
type Outcome = Result<Answer, Failure>;
