//! `outcome`: what a guest says beside the verdict of the phase that runs.

use http::{HeaderMap, StatusCode};

use super::bindings::wasmgate::plugin::{
    outcome,
    types::{self, BodyVerdict, Verdict},
};
use crate::{
    plugin::{self, Failure, LocalResponse, exchange::final_status, headers},
    wasm::store::Host,
};

/// What the guest has said so far.
#[derive(Default)]
pub struct Outcome {
    answer: Option<types::LocalResponse>,
    bytes: Option<Vec<u8>>,
    reason: Option<String>,
    /// Its store gave no answer, and the config has requests refused then.
    pub unavailable: bool,
}

impl outcome::Host for Host {
    fn respond(&mut self, answer: types::LocalResponse) {
        self.outcome.answer = Some(answer);
    }

    fn replace(&mut self, bytes: Vec<u8>) {
        self.outcome.bytes = Some(bytes);
    }

    fn fail(&mut self, reason: String) {
        self.outcome.reason = Some(reason);
    }
}

impl Outcome {
    pub fn verdict(&mut self, verdict: Verdict) -> Result<plugin::Verdict, Failure> {
        if let Some(refusal) = self.refusal() {
            return Ok(plugin::Verdict::Respond(refusal));
        }
        match verdict {
            Verdict::Next => Ok(plugin::Verdict::Next),
            Verdict::Respond => self.answer().map(plugin::Verdict::Respond),
            Verdict::Fail => Err(self.failure()),
        }
    }

    pub fn body_verdict(&mut self, verdict: BodyVerdict) -> Result<plugin::BodyVerdict, Failure> {
        if let Some(refusal) = self.refusal() {
            return Ok(plugin::BodyVerdict::Respond(refusal));
        }
        match verdict {
            BodyVerdict::Pass => Ok(plugin::BodyVerdict::Pass),
            BodyVerdict::Replace => match self.bytes.take() {
                Some(bytes) => Ok(plugin::BodyVerdict::Replace(bytes.into())),
                None => Err(error("replaces a piece and gives no bytes")),
            },
            BodyVerdict::Respond => self.answer().map(plugin::BodyVerdict::Respond),
            BodyVerdict::Fail => Err(self.failure()),
        }
    }

    fn refusal(&mut self) -> Option<Box<LocalResponse>> {
        let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable");
        let refuse = std::mem::take(&mut self.unavailable);
        refuse.then(|| Box::new(LocalResponse::error(status, code, "What a plugin needs cannot be reached.")))
    }

    fn answer(&mut self) -> Result<Box<LocalResponse>, Failure> {
        let answer = self.answer.take().ok_or_else(|| error("responds and gives no answer"))?;
        local_response(answer).map_err(Failure::Error)
    }

    fn failure(&mut self) -> Failure {
        Failure::Error(self.reason.take().unwrap_or_else(|| "gives no reason".to_owned()))
    }
}

fn error(text: &str) -> Failure {
    Failure::Error(text.to_owned())
}

/// Checks an answer of a guest; the text says what is wrong with it.
fn local_response(answer: types::LocalResponse) -> Result<Box<LocalResponse>, String> {
    let status = final_status(answer.status)
        .ok_or_else(|| format!("answered with status {}, not one of 200 to 599", answer.status))?;
    let mut map = HeaderMap::with_capacity(answer.headers.len());
    for (name, value) in answer.headers {
        headers::append(&mut map, &name, value)
            .map_err(|refusal| format!("answered with the header {name:?}: {refusal:?}"))?;
    }
    Ok(Box::new(LocalResponse {
        status,
        headers: map,
        body: answer.body.map(Into::into),
        code: answer.code.map_or(LocalResponse::PLUGIN.into(), Into::into),
        detail: answer.detail.map(Into::into),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(failure: Option<Failure>) -> String {
        failure.map(|failure| failure.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_verdict_without_what_goes_with_it_is_a_failure() {
        let mut outcome = Outcome::default();
        assert_eq!(
            text(outcome.verdict(Verdict::Respond).err()),
            "returned an error: responds and gives no answer"
        );
        assert_eq!(text(outcome.verdict(Verdict::Fail).err()), "returned an error: gives no reason");
        assert_eq!(
            text(outcome.body_verdict(BodyVerdict::Replace).err()),
            "returned an error: replaces a piece and gives no bytes"
        );
    }

    #[test]
    fn an_answer_is_given_once() {
        let answer =
            types::LocalResponse { status: 204, headers: vec![], body: None, code: None, detail: None };
        let mut outcome = Outcome { answer: Some(answer), ..Outcome::default() };
        assert!(outcome.verdict(Verdict::Respond).is_ok());
        assert!(outcome.verdict(Verdict::Respond).is_err());
    }
}
