//! Changes the headers of requests and responses by rules. How a value is made from the request is
//! `template`'s business.

mod message;
mod source;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use message::Message;
use template::Template;
use wasmgate_sdk::{
    Error, HeaderName, HostError, LocalResponse, Phases, Plugin, Request, Response, Result, Verdict, config,
    plugin,
};

/// What to change.
#[config]
#[serde(default)]
#[derive(Default)]
pub struct Headers {
    /// Rules for the request as it goes upstream.
    request: Rules,
    /// Rules for the response as it goes to the client, whoever made it.
    response: Rules,
}

/// The operations in the order in which they are carried out; within one of them the names go in
/// alphabetical order. Each sees what the ones before it did.
#[config]
#[serde(default)]
#[derive(Default)]
struct Rules {
    /// Takes all values away.
    remove: Vec<HeaderName>,
    /// Moves all values to another name, whose own values are lost.
    rename: BTreeMap<HeaderName, HeaderName>,
    /// Puts the value in place of all others, only where there are some.
    replace: BTreeMap<HeaderName, Template>,
    /// Puts the value, only where there is none.
    add: BTreeMap<HeaderName, Template>,
    /// Puts the value after the others.
    append: BTreeMap<HeaderName, Template>,
    /// Puts the value in place of all others.
    set: BTreeMap<HeaderName, Template>,
}

#[plugin]
impl Plugin for Headers {
    type Config = Headers;

    fn new(rules: Headers) -> Result<Self> {
        rules.request.check("request", true)?;
        rules.response.check("response", false)?;
        Ok(rules)
    }

    fn phases(&self) -> Phases {
        let mut phases = Phases::empty();
        phases.set(Phases::REQUEST, !self.request.is_empty());
        phases.set(Phases::RESPONSE, !self.response.is_empty());
        phases
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        match self.request.apply(&Message { request, response: None }) {
            Ok(()) => Ok(Verdict::Next),
            Err(HostError::InvalidValue | HostError::TooLarge) => Ok(invalid_transform()),
            Err(error) => Err(error.into()),
        }
    }

    fn on_response(&self, request: &Request, response: &Response) -> Result<Verdict> {
        self.response.apply(&Message { request, response: Some(response) })?;
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

impl Rules {
    fn apply(&self, message: &Message) -> Result<(), HostError> {
        for name in &self.remove {
            message.settle(message.remove(name))?;
        }
        for (old, new) in &self.rename {
            message.settle(message.rename(old, new))?;
        }
        for (name, template) in &self.replace {
            if message.has(name) {
                set(message, name, template)?;
            }
        }
        for (name, template) in &self.add {
            if !message.has(name) {
                set(message, name, template)?;
            }
        }
        for (name, template) in &self.append {
            if let Some(value) = template.render(message) {
                message.settle(message.append(name, &value))?;
            }
        }
        self.set.iter().try_for_each(|(name, template)| set(message, name, template))
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.rename.is_empty() && self.templates().next().is_none()
    }

    fn check(&self, key: &str, is_request: bool) -> Result<()> {
        if let Some((old, _)) = self.rename.iter().find(|(old, new)| old == new) {
            return Err(Error::msg(format_args!("{key}.rename.{old}: is its own new name")));
        }
        match self.templates().find(|(.., template)| is_request && template.reads_status()) {
            Some((operation, name, _)) => Err(Error::msg(format_args!(
                "{key}.{operation}.{name}: `${{status}}` is known in `response` only"
            ))),
            None => Ok(()),
        }
    }

    fn templates(&self) -> impl Iterator<Item = (&'static str, &HeaderName, &Template)> {
        let operations =
            [("replace", &self.replace), ("add", &self.add), ("append", &self.append), ("set", &self.set)];
        operations
            .into_iter()
            .flat_map(|(operation, values)| values.iter().map(move |(name, value)| (operation, name, value)))
    }
}

fn set(message: &Message, name: &HeaderName, template: &Template) -> Result<(), HostError> {
    match template.render(message) {
        Some(value) => message.settle(message.set(name, &value)),
        None => Ok(()),
    }
}
