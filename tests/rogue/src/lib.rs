//! A guest that does in each phase what its config says: it misbehaves, and it tells what it sees.
//! Tests compose it from [`Action`]s; it knows nothing of what they prove.

#![cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "what reads it is exported by the component only")
)]

mod call;
mod crypto;
mod misbehave;
mod phase;

use wasmgate_sdk::{BodyVerdict, Plugin, Request, Response, Result, Summary, Verdict, config, log, plugin};

use call::{Asked, Kept};
use misbehave::Misbehaviour;
use phase::{Message, Phase};

/// Actions by phase, run in their order.
#[config]
#[serde(default)]
#[derive(Default)]
pub struct Config {
    /// Stands in log lines and marks.
    name: String,
    init: Vec<Action>,
    request: Vec<Action>,
    request_body: Vec<Action>,
    response: Vec<Action>,
    response_body: Vec<Action>,
    log: Vec<Action>,
}

/// One thing to do.
#[config]
#[serde(rename_all = "snake_case")]
enum Action {
    /// The rest only in the first so many runs of this phase, on all workers together.
    First(i64),
    /// The rest only after so many runs.
    After(i64),
    /// The rest only where the request has this header.
    When(String),
    Do(Misbehaviour),
    /// Return this error.
    Fail(String),
    /// Append the plugin's name and the phase to the header x-trace of the phase's message.
    Trace,
    /// Write a log line about what the phase was given.
    Tell,
    Append(String, String),
    SetVar(String, String),
    /// Append a variable to the header x-var of the phase's message.
    ShowVar(String),
    SetUpstream(String),
    SetTarget(String),
    SetMethod(String),
    SetAuthority(String),
    SetStatus(u16),
    Body(Mode),
    Respond(Answer),
    /// Pass on this instead of the piece of the body.
    Replace(String),
    /// Pass on the piece in upper case.
    Upper,
    /// Put an exclamation mark behind each trailer, where they are there.
    Trailers,
    /// Compute for so many milliseconds.
    Work(u64),
    /// Send requests, and append what came of them to the header x-called of the phase's message.
    Call(Asked),
    /// The same with an answer that is kept.
    Fetch(Asked, Kept),
    /// Make calls that the host must refuse, and log how it refused each of them.
    BadCalls,
    /// Append whether this is the password of this hash to the header x-password.
    VerifyPassword(String, String),
    /// Append whether this JWK, for this algorithm, has signed this text, with this signature in hex, to the header x-verified.
    Verify(String, String, String, String),
    /// Append the text, sealed and opened again with the same and with other data, to the header x-sealed.
    Seal(String),
    /// Append the secret of this name to the header x-secret.
    Secret(String),
    /// Keep the request's target under this key, and append what was kept before, and how often this was done, to the header
    /// x-kept.
    Keep(String),
    /// Append to the header x-keys how many keys the host lets an instance have, twice.
    FillKeys,
}

#[config]
#[serde(rename_all = "snake_case")]
enum Mode {
    None,
    Peek(u32),
    Buffer(u32),
    Stream,
}

#[config]
#[serde(default)]
struct Answer {
    status: u16,
    body: Option<String>,
    code: Option<String>,
    detail: Option<String>,
    headers: Vec<(String, String)>,
    /// A body of so many bytes in place of `body`.
    bytes: Option<usize>,
}

impl Default for Answer {
    fn default() -> Self {
        Answer { status: 200, body: None, code: None, detail: None, headers: Vec::new(), bytes: None }
    }
}

struct Rogue(Config);

#[plugin]
impl Plugin for Rogue {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Phase::new("init", &config.name, Message::None).run(&config.init)?;
        Ok(Rogue(config))
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let phase = Phase::new("request", &self.0.name, Message::Request(request));
        Ok(phase.run(&self.0.request)?.head())
    }

    fn on_request_body(&self, request: &Request, chunk: Vec<u8>, end: bool) -> Result<BodyVerdict> {
        let phase = Phase::new("request-body", &self.0.name, Message::RequestBody(request, &chunk, end));
        Ok(phase.run(&self.0.request_body)?.body())
    }

    fn on_response(&self, request: &Request, response: &Response) -> Result<Verdict> {
        let phase = Phase::new("response", &self.0.name, Message::Response(request, response));
        Ok(phase.run(&self.0.response)?.head())
    }

    fn on_response_body(
        &self,
        request: &Request,
        response: &Response,
        chunk: Vec<u8>,
        end: bool,
    ) -> Result<BodyVerdict> {
        let message = Message::ResponseBody(request, response, &chunk, end);
        Ok(Phase::new("response-body", &self.0.name, message).run(&self.0.response_body)?.body())
    }

    fn on_log(&self, request: &Request, response: &Response, summary: &Summary) {
        let phase = Phase::new("log", &self.0.name, Message::Log(request, response, summary));
        if let Err(error) = phase.run(&self.0.log) {
            log::error!("the log phase failed: {error}");
        }
    }
}
