//! Answers by itself: a fixed answer, an error, or a dump of the request as a debug upstream. What
//! the dump holds is `echo`'s business.

mod answer;
mod echo;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use wasmgate_sdk::{
    BodyMode, BodyVerdict, Error, HeaderName, HostError, LocalResponse, Phases, Plugin, Request, Result,
    Size, Verdict, config, plugin, serde_json::Value,
};

/// What to answer, and when.
#[config]
#[serde(default)]
pub struct Config {
    /// Status of the answer, 200 to 599.
    status: u16,
    /// Body of the answer, as it is.
    body: Option<String>,
    /// Body of the answer, written as JSON.
    json: Option<Value>,
    /// Content type of the body. Default: text/plain; charset=utf-8, for `json` application/json.
    content_type: Option<String>,
    /// Further headers of the answer.
    headers: BTreeMap<HeaderName, String>,
    /// What the gateway's error body says; for a status of 400 or more and no body.
    message: Option<String>,
    /// Answer only requests that have this, whatever its value; all others go on.
    trigger: Option<Trigger>,
    /// Answer with a dump of the request as JSON.
    echo: bool,
    /// Hide the values of authorization, proxy-authorization and cookie in the dump.
    redact: bool,
    /// Longest request body that goes into the dump; a longer one is answered with 413. Not above
    /// the plugin's own body limit in the gateway's config.
    max_body: Size,
}

#[config]
#[serde(rename_all = "lowercase")]
enum Trigger {
    /// A header of this name.
    Header(HeaderName),
    /// A query parameter of this name.
    Query(String),
}

pub struct Respond {
    /// All of the answer but the dump.
    answer: LocalResponse,
    trigger: Option<Trigger>,
    /// None: the answer is a fixed one.
    echo: Option<Echo>,
}

struct Echo {
    redact: bool,
    max_body: u32,
}

#[plugin]
impl Plugin for Respond {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let max_body =
            u32::try_from(config.max_body.0).map_err(|_| Error::msg("max_body: must be below 4GiB"))?;
        Ok(Respond {
            answer: config.answer()?,
            echo: config.echo.then_some(Echo { redact: config.redact, max_body }),
            trigger: config.trigger,
        })
    }

    fn phases(&self) -> Phases {
        let mut phases = Phases::REQUEST;
        phases.set(Phases::REQUEST_BODY, self.echo.is_some());
        phases
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.trigger.as_ref().is_none_or(|trigger| trigger.is_in(request)) {
            return Ok(Verdict::Next);
        }
        let Some(echo) = &self.echo else {
            return Ok(self.answer.clone().into());
        };
        if echo::may_have_body(request) {
            request.set_body_mode(BodyMode::Buffer(echo.max_body)).map_err(above_limit)?;
            return Ok(Verdict::Next);
        }
        Ok(self.dump(echo, request, None)?.into())
    }

    fn on_request_body(&self, request: &Request, chunk: Vec<u8>, _: bool) -> Result<BodyVerdict> {
        match &self.echo {
            Some(echo) => Ok(self.dump(echo, request, Some(chunk))?.into()),
            None => Ok(BodyVerdict::Pass),
        }
    }
}

impl Respond {
    fn dump(&self, echo: &Echo, request: &Request, body: Option<Vec<u8>>) -> Result<LocalResponse> {
        self.answer.clone().json(&echo::Dump::of(request, body, echo.redact))
    }
}

impl Trigger {
    fn is_in(&self, request: &Request) -> bool {
        match self {
            Trigger::Header(name) => request.header(name).is_some(),
            Trigger::Query(name) => request.query_param(name).is_some(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            status: 200,
            body: None,
            json: None,
            content_type: None,
            headers: BTreeMap::new(),
            message: None,
            trigger: None,
            echo: false,
            redact: true,
            max_body: Size(1024 * 1024),
        }
    }
}

fn above_limit(error: HostError) -> Error {
    match error {
        HostError::TooLarge => Error::msg("max_body: above the plugin's limits.body in the gateway's config"),
        other => other.into(),
    }
}
