//! The life of one exchange with a single plugin: its phases in the gateway's order, and what
//! became of the request. The gateway's chain, retries and error bodies are not imitated.

use super::exchange::{Exchange, Phase, ResponseHead};
use super::host::{Host, current};
use super::message::{Request, Response};
use crate::audit::{self, Reason};
use crate::{
    BodyMode, BodyVerdict, Error, HostError, LocalResponse, Phases, Plugin, Result, Summary, Verdict,
};

/// What a body beyond its bound is answered with.
const REQUEST_TOO_LARGE: (u16, &str) = (413, "payload_too_large");
const RESPONSE_TOO_LARGE: (u16, &str) = (502, "response_too_large");

/// An instance of a plugin on a fake host, made by [`Host::load`].
///
/// ```
/// # use wasmgate_sdk::{Plugin, Result, plugin, testing};
/// struct Greeter;
///
/// impl Greeter {
///     fn greeting(&self, name: &str) -> String {
///         format!("hello {name}")
///     }
/// }
///
/// #[plugin]
/// impl Plugin for Greeter {
///     type Config = ();
///
///     fn new(_: ()) -> Result<Self> {
///         Ok(Greeter)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let greeter = testing::Host::new().load::<Greeter>("null")?;
/// assert_eq!(greeter.plugin().greeting("you"), "hello you");
/// # Ok(())
/// # }
/// ```
pub struct Loaded<P> {
    host: Host,
    plugin: P,
}

impl<P: Plugin> Loaded<P> {
    pub(super) fn new(host: Host, plugin: P) -> Self {
        Loaded { host, plugin }
    }

    /// Sends a request through the plugin to an upstream that answers with an empty 200.
    ///
    /// ```
    /// # use wasmgate_sdk::{Plugin, Result, plugin, testing};
    /// # struct Idle;
    /// # #[plugin]
    /// # impl Plugin for Idle {
    /// #     type Config = ();
    /// #     fn new(_: ()) -> Result<Self> { Ok(Idle) }
    /// # }
    /// # fn main() -> Result<()> {
    /// let outcome = testing::Host::new().load::<Idle>("null")?.send(testing::Request::get("/"));
    /// assert_eq!(outcome.response().status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send(&self, request: Request) -> Outcome {
        self.exchange(request, Response::new(200))
    }

    /// Sends a request through the plugin to an upstream that answers with this response.
    ///
    /// ```
    /// # use wasmgate_sdk::{Plugin, Result, plugin, testing};
    /// # struct Idle;
    /// # #[plugin]
    /// # impl Plugin for Idle {
    /// #     type Config = ();
    /// #     fn new(_: ()) -> Result<Self> { Ok(Idle) }
    /// # }
    /// # fn main() -> Result<()> {
    /// let idle = testing::Host::new().load::<Idle>("null")?;
    /// let response = testing::Response::new(404).body("no such file");
    /// let outcome = idle.exchange(testing::Request::get("/"), response);
    /// assert_eq!(outcome.response().status(), 404);
    /// assert_eq!(outcome.response_body, b"no such file");
    /// # Ok(())
    /// # }
    /// ```
    pub fn exchange(&self, request: Request, response: Response) -> Outcome {
        let outcome = self.host.enter(|| Run::new(&self.host, &self.plugin, request).finish(response));
        self.host.state.borrow_mut().request = None;
        outcome
    }

    /// The instance itself, for its own functions. Those that call the host want
    /// [`Host::enter`]. The example of [`Loaded`] shows it.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }
}

/// What became of a request.
///
/// ```
/// # use wasmgate_sdk::{LocalResponse, Plugin, Request, Result, Verdict, plugin, testing};
/// struct Closed;
///
/// #[plugin]
/// impl Plugin for Closed {
///     type Config = ();
///
///     fn new(_: ()) -> Result<Self> {
///         Ok(Closed)
///     }
///
///     fn on_request(&self, _: &Request) -> Result<Verdict> {
///         Ok(LocalResponse::new(503).code("closed").into())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let outcome = testing::Host::new().load::<Closed>("null")?.send(testing::Request::get("/"));
/// assert!(!outcome.sent);
/// assert_eq!(outcome.response().status(), 503);
/// assert_eq!(outcome.code.as_deref(), Some("closed"));
/// # Ok(())
/// # }
/// ```
pub struct Outcome {
    /// What the plugin answered by itself, in whichever phase.
    pub answer: Option<LocalResponse>,
    /// Why the plugin failed, or what was wrong with its answer. The client got a 500 then.
    pub error: Option<Error>,
    /// The code of the answer, where it was not the upstream's.
    pub code: Option<String>,
    /// Why the request was refused, or let pass, as the gateway's audit is told.
    pub reason: Option<Reason>,
    /// Whether the upstream was asked.
    pub sent: bool,
    /// The upstream that the plugin chose instead of the route's.
    pub upstream: Option<String>,
    /// The request's body as the upstream got it.
    pub request_body: Vec<u8>,
    /// The response's body as the client got it. The gateway's own error bodies are not written
    /// here: it is empty for an answer without a body.
    pub response_body: Vec<u8>,
    /// Whether the response broke off, because the plugin failed or answered in the middle of it.
    pub cut_off: bool,
    exchange: Exchange,
}

impl Outcome {
    /// The request as the upstream got it, or as it was when the plugin answered; also its
    /// variables.
    ///
    /// ```
    /// # use wasmgate_sdk::{Plugin, Request, Response, Result, Verdict, plugin, testing};
    /// struct Tag;
    ///
    /// #[plugin]
    /// impl Plugin for Tag {
    ///     type Config = ();
    ///
    ///     fn new(_: ()) -> Result<Self> {
    ///         Ok(Tag)
    ///     }
    ///
    ///     fn on_request(&self, request: &Request) -> Result<Verdict> {
    ///         request.set_header("x-tag", "1")?;
    ///         Ok(Verdict::Next)
    ///     }
    ///
    ///     fn on_response(&self, _: &Request, response: &Response) -> Result<Verdict> {
    ///         response.set_status(203)?;
    ///         Ok(Verdict::Next)
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let outcome = testing::Host::new().load::<Tag>("null")?.send(testing::Request::get("/"));
    /// assert_eq!(outcome.request().header_str("x-tag").as_deref(), Some("1"));
    /// assert_eq!(outcome.response().status(), 203);
    /// # Ok(())
    /// # }
    /// ```
    pub fn request(&self) -> crate::Request<'_> {
        self.exchange.request()
    }

    /// The response as the client got it; the example is that of [`Outcome::request`].
    pub fn response(&self) -> crate::Response<'_> {
        self.exchange.response()
    }
}

/// Why the exchange does not go on as it began.
enum End {
    Answer(LocalResponse),
    Failed(Error),
    /// A body beyond the bound that the plugin gave.
    TooLarge,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        End::Failed(error)
    }
}

struct Run<'a, P> {
    plugin: &'a P,
    body: Vec<Vec<u8>>,
    bytes_in: u64,
    outcome: Outcome,
}

impl<'a, P: Plugin> Run<'a, P> {
    fn new(host: &Host, plugin: &'a P, mut request: Request) -> Self {
        let body = std::mem::take(&mut request.body);
        let facts = (request.head.route.clone(), request.head.client.ip.clone());
        host.state.borrow_mut().request = Some(facts);
        let outcome = Outcome {
            answer: None,
            error: None,
            code: None,
            reason: None,
            sent: false,
            upstream: None,
            request_body: Vec::new(),
            response_body: Vec::new(),
            cut_off: false,
            exchange: Exchange::new(request.into_state(host.state.borrow().upstreams.clone())),
        };
        Run { plugin, bytes_in: size(&body), body, outcome }
    }

    fn finish(mut self, response: Response) -> Outcome {
        match self.forward() {
            Ok(()) => self.receive(response.head, response.body),
            Err(end) => self.end(end, REQUEST_TOO_LARGE),
        }
        self.outcome.exchange.state.borrow_mut().tell_client();
        // A plugin that failed with the request is not asked about the response.
        if self.outcome.error.is_none()
            && let Err(end) = self.backward()
        {
            self.end(end, RESPONSE_TOO_LARGE);
        }
        self.log();
        self.show_trailers();
        self.outcome.reason = current(|host| host.reason.take());
        self.outcome
    }

    /// As upstream and client got them, whether the plugin saw them or not.
    fn show_trailers(&self) {
        let state = &mut *self.outcome.exchange.state.borrow_mut();
        state.request.trailers.are_there = true;
        state.response.trailers.are_there = true;
    }

    /// The request's head and body, until the upstream has them.
    fn forward(&mut self) -> Result<(), End> {
        self.enter(Phase::Request);
        let phases = self.plugin.phases();
        let verdict = match phases.contains(Phases::REQUEST) {
            true => self.plugin.on_request(&self.outcome.request())?,
            false => Verdict::Next,
        };
        self.outcome.upstream = self.outcome.exchange.state.borrow().request.upstream.clone();
        if let Verdict::Respond(answer) = verdict {
            return Err(End::Answer(answer));
        }
        let mode = self.outcome.exchange.state.borrow().request.body_mode;
        let sent = mode == BodyMode::Stream;
        self.enter(Phase::RequestBody { sent });
        self.outcome.sent = sent;
        let body = std::mem::take(&mut self.body);
        let (plugin, request) = (self.plugin, self.outcome.exchange.request());
        let state = self.outcome.exchange.state.clone();
        deliver(mode, body, &mut self.outcome.request_body, |chunk, end| {
            state.borrow_mut().request.trailers.are_there = end;
            plugin.on_request_body(&request, chunk, end)
        })?;
        self.outcome.sent = true;
        Ok(())
    }

    /// The response's head and body, until the client has them.
    fn backward(&mut self) -> Result<(), End> {
        self.enter(Phase::Response);
        let verdict = match self.plugin.phases().contains(Phases::RESPONSE) {
            true => self.plugin.on_response(&self.outcome.request(), &self.outcome.response())?,
            false => Verdict::Next,
        };
        if let Verdict::Respond(answer) = verdict {
            return Err(End::Answer(answer));
        }
        let mode = self.response_mode();
        let sent = mode == BodyMode::Stream;
        self.enter(Phase::ResponseBody { sent });
        let body = std::mem::take(&mut self.body);
        let (plugin, request, response) =
            (self.plugin, self.outcome.exchange.request(), self.outcome.exchange.response());
        let state = self.outcome.exchange.state.clone();
        let delivered = deliver(mode, body, &mut self.outcome.response_body, |chunk, end| {
            state.borrow_mut().response.trailers.are_there = end;
            plugin.on_response_body(&request, &response, chunk, end)
        });
        self.outcome.cut_off = sent && delivered.is_err();
        delivered
    }

    /// What the plugin asked for, where the response has a body.
    fn response_mode(&self) -> BodyMode {
        let state = self.outcome.exchange.state.borrow();
        match state.response.has_body(&state.request.method) {
            true => state.response.body_mode,
            false => BodyMode::None,
        }
    }

    fn log(&mut self) {
        self.enter(Phase::Log);
        let summary = Summary {
            status: self.outcome.response().status(),
            code: self.outcome.code.clone(),
            duration_us: 0,
            bytes_in: self.bytes_in,
            bytes_out: self.outcome.response_body.len() as u64,
            upstream: self
                .outcome
                .sent
                .then(|| self.outcome.upstream.clone().unwrap_or_else(|| "test".to_string())),
            endpoint: self.outcome.sent.then(|| "127.0.0.1:9000".to_string()),
        };
        if !self.plugin.phases().contains(Phases::LOG) {
            return;
        }
        self.plugin.on_log(&self.outcome.request(), &self.outcome.response(), &summary);
    }

    fn end(&mut self, end: End, (status, code): (u16, &str)) {
        match end {
            End::Answer(answer) => match ResponseHead::local(&answer) {
                Ok(head) => {
                    if let Some(reason) = &answer.reason {
                        audit::explain(reason);
                    }
                    self.outcome.code = answer.code.clone();
                    self.answer(head, answer.body.clone().into_iter().collect());
                    self.outcome.answer = Some(answer);
                }
                Err(refused) => self.fail(HostError::from(refused).into()),
            },
            End::Failed(error) => self.fail(error),
            End::TooLarge => {
                self.outcome.code = Some(code.to_string());
                self.answer(ResponseHead::new(status, false), Vec::new());
            }
        }
    }

    fn fail(&mut self, error: Error) {
        self.outcome.error = Some(error);
        self.outcome.code = Some("plugin_failed".to_string());
        self.answer(ResponseHead::new(500, false), Vec::new());
    }

    /// Puts an answer in place of the response, as long as the client has seen nothing of it.
    fn answer(&mut self, head: ResponseHead, body: Vec<Vec<u8>>) {
        if self.outcome.cut_off {
            return;
        }
        self.outcome.response_body = body.concat();
        self.receive(head, body);
    }

    fn receive(&mut self, head: ResponseHead, body: Vec<Vec<u8>>) {
        self.outcome.exchange.state.borrow_mut().response = head;
        self.body = body;
    }

    fn enter(&mut self, phase: Phase) {
        self.outcome.exchange.state.borrow_mut().phase = phase;
    }
}

/// Gives a body to the plugin as it asked for it, and what the plugin makes of it to the receiver.
fn deliver(
    mode: BodyMode,
    pieces: Vec<Vec<u8>>,
    receiver: &mut Vec<u8>,
    mut call: impl FnMut(Vec<u8>, bool) -> Result<BodyVerdict>,
) -> Result<(), End> {
    receiver.clear();
    let mut give = |chunk: Vec<u8>, end: bool| -> Result<(), End> {
        match call(chunk.clone(), end)? {
            BodyVerdict::Pass => receiver.extend(chunk),
            BodyVerdict::Replace(chunk) => receiver.extend(chunk),
            BodyVerdict::Respond(answer) => return Err(End::Answer(answer)),
        }
        Ok(())
    };
    match mode {
        BodyMode::None => receiver.extend(pieces.concat()),
        BodyMode::Buffer(limit) if size(&pieces) > u64::from(limit) => return Err(End::TooLarge),
        BodyMode::Buffer(_) => give(pieces.concat(), true)?,
        BodyMode::Peek(limit) => {
            let mut start = pieces.concat();
            let rest = start.split_off(start.len().min(limit as usize));
            give(start, rest.is_empty())?;
            receiver.extend(rest);
        }
        BodyMode::Stream => {
            pieces.into_iter().try_for_each(|piece| give(piece, false))?;
            give(Vec::new(), true)?;
        }
    }
    Ok(())
}

fn size(pieces: &[Vec<u8>]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, log, plugin};

    /// Does in each phase what the config says, and writes down that it was called.
    #[config]
    #[serde(default)]
    #[derive(Default)]
    struct Script {
        request: Step,
        request_body: Step,
        response: Step,
        response_body: Step,
        /// Bytes to buffer, of both bodies.
        buffer: Option<u32>,
        peek: Option<u32>,
        stream: bool,
    }

    #[config]
    #[serde(rename_all = "lowercase")]
    #[derive(Default)]
    enum Step {
        #[default]
        Next,
        Answer,
        Forbidden,
        Fail,
        Shout,
    }

    struct Scripted(Script);

    #[plugin]
    impl Plugin for Scripted {
        type Config = Script;

        fn new(script: Script) -> Result<Self> {
            Ok(Scripted(script))
        }

        fn on_request(&self, request: &crate::Request) -> Result<Verdict> {
            log::info!("request");
            request.set_body_mode(self.0.mode())?;
            self.0.request.head()
        }

        fn on_request_body(&self, _: &crate::Request, chunk: Vec<u8>, end: bool) -> Result<BodyVerdict> {
            log::info!("request body {} {end}", String::from_utf8_lossy(&chunk));
            self.0.request_body.body(chunk)
        }

        fn on_response(&self, _: &crate::Request, response: &crate::Response) -> Result<Verdict> {
            log::info!("response {}", response.status());
            response.set_body_mode(self.0.mode())?;
            self.0.response.head()
        }

        fn on_response_body(
            &self,
            _: &crate::Request,
            _: &crate::Response,
            chunk: Vec<u8>,
            end: bool,
        ) -> Result<BodyVerdict> {
            log::info!("response body {} {end}", String::from_utf8_lossy(&chunk));
            self.0.response_body.body(chunk)
        }

        fn on_log(&self, request: &crate::Request, _: &crate::Response, summary: &Summary) {
            assert_eq!(request.set_var("late", ""), Err(HostError::Immutable));
            log::info!("log {} {}", summary.status, summary.code.as_deref().unwrap_or("-"));
        }
    }

    impl Script {
        fn mode(&self) -> BodyMode {
            match (self.buffer, self.peek) {
                (Some(limit), _) => BodyMode::Buffer(limit),
                (_, Some(limit)) => BodyMode::Peek(limit),
                _ if self.stream => BodyMode::Stream,
                _ => BodyMode::None,
            }
        }
    }

    impl Step {
        fn head(&self) -> Result<Verdict> {
            match self {
                Step::Next | Step::Shout => Ok(Verdict::Next),
                Step::Answer => Ok(answer().into()),
                Step::Forbidden => Ok(answer().header("connection", "close").into()),
                Step::Fail => Err(Error::msg("no")),
            }
        }

        fn body(&self, chunk: Vec<u8>) -> Result<BodyVerdict> {
            match self {
                Step::Next => Ok(BodyVerdict::Pass),
                Step::Shout => Ok(BodyVerdict::Replace(chunk.to_ascii_uppercase())),
                Step::Answer | Step::Forbidden => Ok(answer().into()),
                Step::Fail => Err(Error::msg("no")),
            }
        }
    }

    fn answer() -> LocalResponse {
        LocalResponse::new(418).body("teapot").code("teapot")
    }

    const MEBIBYTE: usize = 1024 * 1024;

    fn run(script: &str) -> (Outcome, Vec<String>) {
        let request = Request::new("PUT", "/").body_pieces(["ab", "cd"]);
        exchange(script, request, Response::new(201).body_pieces(["ef", "gh"]))
    }

    fn exchange(script: &str, request: Request, response: Response) -> (Outcome, Vec<String>) {
        let host = Host::new();
        let scripted = host.load::<Scripted>(script).unwrap();
        let outcome = scripted.exchange(request, response);
        (outcome, host.log().into_iter().map(|line| line.message).collect())
    }

    #[test]
    fn bodies_are_given_only_when_asked_for() {
        let (outcome, calls) = run("null");
        assert_eq!(calls, ["request", "response 201", "log 201 -"]);
        assert_eq!((outcome.sent, outcome.answer, outcome.code), (true, None, None));
        assert_eq!((&outcome.request_body[..], &outcome.response_body[..]), (&b"abcd"[..], &b"efgh"[..]));
    }

    #[test]
    fn bodies_are_given_as_asked_for() {
        let (outcome, calls) = run(r#"{"stream": true, "request_body": "shout", "response_body": "shout"}"#);
        assert_eq!(calls[1..4], ["request body ab false", "request body cd false", "request body  true"]);
        assert_eq!(calls[5..8], ["response body ef false", "response body gh false", "response body  true"]);
        assert_eq!((&outcome.request_body[..], &outcome.response_body[..]), (&b"ABCD"[..], &b"EFGH"[..]));
        let (_, calls) = run(r#"{"buffer": 4}"#);
        assert_eq!((&*calls[1], &*calls[3]), ("request body abcd true", "response body efgh true"));
        let (outcome, calls) = run(r#"{"peek": 3, "request_body": "shout"}"#);
        assert_eq!(calls[1], "request body abc false");
        assert_eq!(outcome.request_body, b"ABCd");
        assert_eq!(run(r#"{"peek": 4}"#).1[1], "request body abcd true");
    }

    #[test]
    fn a_body_beyond_its_bound_is_refused() {
        let (outcome, calls) = run(r#"{"buffer": 3}"#);
        assert_eq!(calls, ["request", "response 413", "response body  true", "log 413 payload_too_large"]);
        assert!(!outcome.sent);
        for (length, status) in [(MEBIBYTE, 200), (MEBIBYTE + 1, 502)] {
            let (outcome, _) = exchange(
                r#"{"buffer": 4294967295}"#,
                Request::get("/"),
                Response::new(200).body(vec![b'a'; length]),
            );
            assert_eq!(outcome.response().status(), status, "{length}");
            assert_eq!(outcome.code.as_deref(), (status == 502).then_some("response_too_large"));
        }
    }

    #[test]
    fn a_response_without_a_body_has_no_body_phase() {
        for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
            let (_, calls) = exchange(
                r#"{"buffer": 9, "response_body": "answer"}"#,
                Request::new(method, "/"),
                Response::new(status),
            );
            let response = format!("response {status}");
            assert_eq!(calls, ["request", "request body  true", &response, &format!("log {status} -")]);
        }
    }

    #[test]
    fn an_answer_passes_the_response_phase() {
        for script in [r#"{"request": "answer"}"#, r#"{"buffer": 9, "request_body": "answer"}"#] {
            let (outcome, calls) = run(script);
            assert!(calls.contains(&"response 418".to_string()), "{calls:?}");
            assert_eq!(calls.last().unwrap(), "log 418 teapot");
            assert_eq!((outcome.sent, &outcome.response_body[..]), (false, &b"teapot"[..]));
            assert_eq!(outcome.answer, Some(answer()));
        }
    }

    #[test]
    fn an_answer_replaces_the_response() {
        for script in [r#"{"response": "answer"}"#, r#"{"buffer": 9, "response_body": "answer"}"#] {
            let (outcome, calls) = run(script);
            assert_eq!(calls.last().unwrap(), "log 418 teapot");
            assert_eq!((outcome.sent, &outcome.response_body[..]), (true, &b"teapot"[..]));
            assert!(!outcome.response().from_upstream());
        }
    }

    #[test]
    fn a_streamed_response_can_only_be_cut_off() {
        for step in ["answer", "fail"] {
            let (outcome, calls) = run(&format!(r#"{{"stream": true, "response_body": "{step}"}}"#));
            assert!(outcome.cut_off);
            assert_eq!((outcome.response().status(), &outcome.response_body[..]), (201, &b""[..]));
            assert!(calls.last().unwrap().starts_with("log 201"), "{calls:?}");
        }
    }

    #[test]
    fn a_failure_is_a_500() {
        for (script, error, calls) in [
            (r#"{"request": "fail"}"#, "no", 2),
            (r#"{"request": "forbidden"}"#, "this header is the host's to set", 2),
            (r#"{"response": "fail"}"#, "no", 3),
        ] {
            let (outcome, log) = run(script);
            assert_eq!(outcome.error.unwrap().to_string(), error);
            assert_eq!(log.len(), calls, "{log:?}");
            assert_eq!(log.last().unwrap(), "log 500 plugin_failed");
        }
    }
}
