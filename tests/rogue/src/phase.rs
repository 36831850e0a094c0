//! One run of a phase: its actions in their order, until one decides.

use std::time::Duration;

use wasmgate_sdk::{
    BodyMode, BodyVerdict, Error, HostError, LocalResponse, Request, Response, Result, Summary, Verdict,
    clock, counters, kv, log, secrets,
};

use crate::{Action, Answer, Mode, crypto};

pub enum Message<'a> {
    None,
    Request(&'a Request<'a>),
    RequestBody(&'a Request<'a>, &'a [u8], bool),
    Response(&'a Request<'a>, &'a Response<'a>),
    ResponseBody(&'a Request<'a>, &'a Response<'a>, &'a [u8], bool),
    Log(&'a Request<'a>, &'a Response<'a>, &'a Summary),
}

pub enum Outcome {
    Next,
    Respond(LocalResponse),
    Replace(Vec<u8>),
}

pub struct Phase<'a> {
    name: &'static str,
    plugin: &'a str,
    message: Message<'a>,
}

impl Outcome {
    pub fn head(self) -> Verdict {
        match self {
            Outcome::Next | Outcome::Replace(_) => Verdict::Next,
            Outcome::Respond(answer) => answer.into(),
        }
    }

    pub fn body(self) -> BodyVerdict {
        match self {
            Outcome::Next => BodyVerdict::Pass,
            Outcome::Replace(bytes) => BodyVerdict::Replace(bytes),
            Outcome::Respond(answer) => answer.into(),
        }
    }
}

impl<'a> Phase<'a> {
    pub fn new(name: &'static str, plugin: &'a str, message: Message<'a>) -> Self {
        Phase { name, plugin, message }
    }

    pub fn run(&self, actions: &[Action]) -> Result<Outcome> {
        for action in actions {
            let outcome = match action {
                Action::First(count) if self.count()? > *count => break,
                Action::After(count) if self.count()? <= *count => break,
                Action::When(name) if self.request()?.header(name).is_none() => break,
                Action::First(_) | Action::After(_) | Action::When(_) => Outcome::Next,
                action => self.act(action)?,
            };
            if !matches!(outcome, Outcome::Next) {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Next)
    }

    fn act(&self, action: &Action) -> Result<Outcome> {
        match action {
            Action::Do(misbehaviour) => return Ok(Outcome::Respond(misbehaviour.go()?)),
            Action::Fail(text) => return Err(Error::msg(text)),
            Action::Respond(answer) => return Ok(Outcome::Respond(answer.response())),
            Action::Replace(text) => return Ok(Outcome::Replace(text.clone().into_bytes())),
            Action::Upper => return Ok(Outcome::Replace(self.chunk().to_ascii_uppercase())),
            Action::Trace => self.append("x-trace", &format!("{} {}", self.plugin, self.name))?,
            Action::Tell => self.tell(),
            Action::Append(name, value) => self.append(name, value)?,
            Action::SetVar(name, value) => self.request()?.set_var(name, value)?,
            Action::ShowVar(name) => {
                let value = self.request()?.var_str(name);
                self.append("x-var", &format!("{} {}", self.plugin, value.as_deref().unwrap_or("none")))?;
            }
            Action::SetUpstream(name) => self.request()?.set_upstream(name)?,
            Action::SetTarget(target) => self.request()?.set_path_with_query(target)?,
            Action::SetMethod(method) => self.request()?.set_method(method)?,
            Action::SetAuthority(authority) => self.request()?.set_authority(authority)?,
            Action::SetStatus(status) => self.response()?.set_status(*status)?,
            Action::Body(mode) => self.set_body_mode(mode.mode())?,
            Action::Trailers => self.mark_trailers()?,
            Action::Work(time) => {
                let end = clock::monotonic() + Duration::from_millis(*time);
                while clock::monotonic() < end {}
            }
            Action::Call(asked) => self.called(&asked.send())?,
            Action::Fetch(asked, kept) => self.called(&asked.fetch(kept))?,
            Action::BadCalls => self.bad_calls()?,
            Action::VerifyPassword(hash, password) => {
                self.append("x-password", &crypto::verify_password(hash, password))?;
            }
            Action::Verify(jwk, algorithm, text, signature) => {
                self.append("x-verified", &crypto::verify(jwk, algorithm, text, signature)?)?;
            }
            Action::Seal(text) => self.append("x-sealed", &crypto::seal(text)?)?,
            Action::Secret(name) => {
                self.append("x-secret", &secrets::get(name).unwrap_or_else(|| "none".to_string()))?;
            }
            Action::Keep(key) => {
                let before = kv::get(key).map(|value| String::from_utf8_lossy(&value).into_owned());
                let request = self.request()?;
                kv::set(key, request.path_with_query(), Duration::from_secs(3600))?;
                let count = counters::increment(key, 1, Duration::from_secs(3600))?;
                self.append("x-kept", &format!("{before:?} {count}"))?;
            }
            Action::FillKeys => self.append("x-keys", &crypto::fill_keys())?,
            Action::First(_) | Action::After(_) | Action::When(_) => {}
        }
        Ok(Outcome::Next)
    }

    /// How often the phase ran, this time included.
    fn count(&self) -> Result<i64> {
        let key = format!("{} {}", self.plugin, self.name);
        Ok(counters::increment(&key, 1, Duration::from_secs(3600))?)
    }

    fn request(&self) -> Result<&'a Request<'a>> {
        match self.message {
            Message::None => Err(Error::msg("there is no request")),
            Message::Request(request)
            | Message::RequestBody(request, ..)
            | Message::Response(request, ..)
            | Message::ResponseBody(request, ..)
            | Message::Log(request, ..) => Ok(request),
        }
    }

    fn response(&self) -> Result<&'a Response<'a>> {
        match self.message {
            Message::Response(_, response)
            | Message::ResponseBody(_, response, ..)
            | Message::Log(_, response, _) => Ok(response),
            _ => Err(Error::msg("there is no response")),
        }
    }

    fn chunk(&self) -> &'a [u8] {
        match self.message {
            Message::RequestBody(_, chunk, _) | Message::ResponseBody(_, _, chunk, _) => chunk,
            _ => &[],
        }
    }

    /// To the response where there is one, to the request otherwise.
    fn append(&self, name: &str, value: &str) -> Result<()> {
        match self.response() {
            Ok(response) => response.append_header(name, value)?,
            Err(_) => self.request()?.append_header(name, value)?,
        }
        Ok(())
    }

    fn called(&self, told: &str) -> Result<()> {
        match self.message {
            Message::None => log::info!("<{} {} {told}>", self.plugin, self.name),
            _ => self.append("x-called", told)?,
        }
        Ok(())
    }

    fn set_body_mode(&self, mode: BodyMode) -> Result<()> {
        match self.response() {
            Ok(response) => response.set_body_mode(mode)?,
            Err(_) => self.request()?.set_body_mode(mode)?,
        }
        Ok(())
    }

    fn mark_trailers(&self) -> Result<()> {
        match self.message {
            Message::RequestBody(request, ..) => {
                for (name, value) in request.trailers() {
                    request.set_trailer(&name, [&value[..], b"!"].concat())?;
                }
            }
            Message::ResponseBody(_, response, ..) => {
                for (name, value) in response.trailers() {
                    response.set_trailer(&name, [&value[..], b"!"].concat())?;
                }
            }
            _ => return Err(Error::msg("there is no body")),
        }
        Ok(())
    }

    fn tell(&self) {
        let (plugin, name) = (self.plugin, self.name);
        match &self.message {
            Message::None => log::info!("<{plugin} {name}>"),
            Message::Request(request) => {
                log::info!("<{plugin} {name} {} {}>", request.method(), request.path_with_query())
            }
            Message::RequestBody(_, chunk, end) | Message::ResponseBody(_, _, chunk, end) => {
                let text = String::from_utf8_lossy(&chunk[..chunk.len().min(40)]);
                log::info!("<{plugin} {name} {} {text:?} end={end}>", chunk.len())
            }
            Message::Response(_, response) => {
                let from = if response.from_upstream() { "upstream" } else { "gateway" };
                log::info!("<{plugin} {name} {} {from}>", response.status())
            }
            Message::Log(request, response, summary) => {
                // There is one to read, whatever the end was.
                let _ = (response.status(), response.header("x"));
                let (path, code) = (request.path(), summary.code.as_deref().unwrap_or("none"));
                let (bytes_in, bytes_out) = (summary.bytes_in, summary.bytes_out);
                let upstream = summary.upstream.as_deref().unwrap_or("none");
                let status = summary.status;
                log::info!(
                    "<{plugin} {name} {path} {status} {code} {upstream} in={bytes_in} out={bytes_out}>"
                )
            }
        }
    }

    fn bad_calls(&self) -> Result<()> {
        let request = self.request()?;
        let long = "x".repeat(20_000);
        let mut results = vec![
            ("request set-header name", request.set_header("a b", "v")),
            ("request set-header value", request.set_header("x-ok", "a\r\nb: c")),
            ("request set-header large", request.set_header("x-ok", &long)),
            ("request set-header forbidden", request.set_header("content-length", "1")),
            ("request append-header forbidden", request.append_header("host", "b.test")),
            ("request remove-header name", request.remove_header("").map(|_| ())),
            ("request set-method", request.set_method("A B")),
            ("request set-method connect", request.set_method("CONNECT")),
            ("request set-authority", request.set_authority("user@b.test")),
            ("request set-target", request.set_path_with_query("no-slash")),
            ("request set-upstream", request.set_upstream("nowhere")),
            ("request set-header good", request.set_header("x-good", "1")),
            ("request set-body-mode", request.set_body_mode(BodyMode::None)),
            ("request set-trailer", request.set_trailer("x-early", "1")),
            ("request set-var large", request.set_var("v", vec![0; 70_000])),
            ("request set-var good", request.set_var("good", "1")),
        ];
        if let Ok(response) = self.response() {
            results.extend([
                ("response set-header name", response.set_header("a b", "v")),
                ("response set-header value", response.set_header("x-ok", "a\0b")),
                ("response set-header large", response.set_header("x-ok", &long)),
                ("response set-header forbidden", response.set_header("transfer-encoding", "chunked")),
                ("response set-trailer", response.set_trailer("x-early", "1")),
                ("response remove-trailer", response.remove_trailer("x-early").map(|_| ())),
                ("response set-status", response.set_status(99)),
                ("response set-status interim", response.set_status(101)),
                ("response set-header good", response.set_header("x-good", "1")),
                ("response set-body-mode", response.set_body_mode(BodyMode::None)),
            ]);
        }
        for (call, result) in results {
            log::info!("<{} {} {call}: {}>", self.plugin, self.name, word(result));
        }
        Ok(())
    }
}

fn word(result: Result<(), HostError>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |()| "ok".to_string())
}

impl Mode {
    fn mode(&self) -> BodyMode {
        match *self {
            Mode::None => BodyMode::None,
            Mode::Peek(limit) => BodyMode::Peek(limit),
            Mode::Buffer(limit) => BodyMode::Buffer(limit),
            Mode::Stream => BodyMode::Stream,
        }
    }
}

impl Answer {
    fn response(&self) -> LocalResponse {
        let mut answer = LocalResponse::new(self.status);
        for (name, value) in &self.headers {
            answer = answer.header(name, value);
        }
        answer.body = self.bytes.map(|count| vec![b'x'; count]).or_else(|| self.body.clone().map(Into::into));
        answer.code = self.code.clone();
        answer.detail = self.detail.clone();
        answer
    }
}
