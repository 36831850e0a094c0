//! Changes the headers of requests and responses by rules. How a value is made from the request is
//! `template`'s business.

mod message;
mod rules;
mod source;
mod template;
#[cfg(test)]
mod tests;

use message::Message;
use rules::{Change, Rules};
use wasmgate_sdk::{
    HostError, LocalResponse, Phases, Plugin, Request, Response, Result, Verdict, config, plugin,
};

/// What to change.
#[config]
#[serde(default)]
#[derive(Default)]
pub struct Config {
    /// Rules for the request as it goes upstream.
    request: Rules,
    /// Rules for the response as it goes to the client, whoever made it.
    response: Rules,
}

pub struct Headers {
    request: Vec<Change>,
    response: Vec<Change>,
}

#[plugin]
impl Plugin for Headers {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.request.check("request", true)?;
        config.response.check("response", false)?;
        Ok(Headers { request: config.request.changes(), response: config.response.changes() })
    }

    fn phases(&self) -> Phases {
        let mut phases = Phases::empty();
        phases.set(Phases::REQUEST, !self.request.is_empty());
        phases.set(Phases::RESPONSE, !self.response.is_empty());
        phases
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let message = Message { request, response: None };
        match self.request.iter().try_for_each(|change| change.apply(&message)) {
            Ok(()) => Ok(Verdict::Next),
            Err(HostError::InvalidValue | HostError::TooLarge) => Ok(invalid_transform()),
            Err(error) => Err(error.into()),
        }
    }

    fn on_response(&self, request: &Request, response: &Response) -> Result<Verdict> {
        let message = Message { request, response: Some(response) };
        self.response.iter().try_for_each(|change| change.apply(&message))?;
        Ok(Verdict::Next)
    }
}

/// The values came from the client, and so did the mistake.
fn invalid_transform() -> Verdict {
    LocalResponse::new(400)
        .code("invalid_transform")
        .detail("A value of this request cannot be put into a header")
        .into()
}
