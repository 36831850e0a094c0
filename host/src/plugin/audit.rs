//! What a plugin has decided about who may pass, as the audit tells it. Who decided about what is the host's to say; the plugin
//! says why.

use std::time::SystemTime;

use super::{LocalResponse, chain::Use, exchange::State};
use crate::telemetry::audit::{About, Decision, Entry, MAX_TEXT, Reason, cut};

/// What a plugin's call leaves for the audit.
#[derive(Clone, Default)]
pub struct Account {
    /// Why the plugin decides as it does.
    reason: Option<Box<Reason>>,
    /// What the host has found wrong with a credential; plugins are not told.
    finding: Option<Box<Reason>>,
    /// The same of a plugin before, which left it to others to refuse the request.
    earlier: Option<Box<Reason>>,
    /// It has said whose the request is.
    announced: bool,
}

/// Reasons that say no more than that nobody is known by it: what the host has found tells more.
const VAGUE: [&str; 4] = ["invalid_key", "unknown_user", "signature", "unknown_certificate"];

/// Of who refuses what several before have left to it.
const NONE_VALID: &str = "none_valid";

impl Account {
    pub fn explain(&mut self, reason: Reason) {
        self.reason = Some(Box::new(reason));
    }

    pub fn find(&mut self, finding: Reason) {
        self.finding = Some(Box::new(finding));
    }

    pub fn announce(&mut self) {
        self.announced = true;
    }

    pub fn is_empty(&self) -> bool {
        self.reason.is_none() && self.finding.is_none() && self.earlier.is_none() && !self.announced
    }

    /// What those behind are to know where the request goes on.
    pub fn passed_on(&self) -> Self {
        let known = [&self.finding, &self.earlier].into_iter().flatten().next();
        Account { earlier: known.filter(|_| !self.announced).cloned(), ..Account::default() }
    }

    /// Why it was refused, as far as it is known.
    fn refusal(self) -> Box<Reason> {
        let mut reason = self.reason.unwrap_or_default();
        if reason.consumer.is_some() || reason.credential.is_some() {
            return reason;
        }
        match (reason.why.as_deref(), self.finding, self.earlier) {
            (Some(why), Some(finding), _) if VAGUE.contains(&why) => return finding,
            (Some(NONE_VALID), _, Some(earlier)) => {
                reason.consumer = earlier.consumer;
                reason.credential = earlier.credential;
            }
            _ => {}
        }
        reason
    }
}

/// Counts and writes what the plugin that was called has decided, if it was a decision and is wanted.
pub fn record(plugin: &Use, state: &State, account: Account, answer: Option<&LocalResponse>) {
    let all = plugin.audit.as_ref().is_some_and(|audit| audit.all);
    let decision = match (answer, &account.reason) {
        (Some(_), Some(_)) => Decision::Refused,
        (None, Some(_)) if all => Decision::Allowed,
        (None, None) if all && account.announced => Decision::Allowed,
        _ => return,
    };
    let mut reason = match decision {
        Decision::Refused => account.refusal(),
        _ => account.reason.unwrap_or_default(),
    };
    if let (Decision::Refused, Some(why)) = (decision, &reason.why) {
        plugin.numbers.refusals.add((), why);
    }
    let Some(audit) = &plugin.audit else { return };
    if reason.consumer.is_none() && reason.credential.is_none() {
        reason.consumer = text(state, "consumer");
        reason.credential = text(state, "credential").filter(|_| reason.consumer.is_some());
    }
    if reason.why.is_none() && state.request.headers.contains_key("x-anonymous-consumer") {
        reason.why = Some("anonymous".into());
    }
    audit.write(Entry {
        time: SystemTime::now(),
        decision,
        request_id: text(state, "request-id"),
        client: state.client_ip,
        about: About::Request {
            route: state.route.clone(),
            plugin: plugin.name.clone(),
            method: state.request.method.clone(),
            path: state.request.target.path().to_owned(),
            reason,
        },
        status: answer.map(|answer| answer.status.as_u16()),
    });
}

/// A variable; an empty one says nothing.
fn text(state: &State, name: &str) -> Option<String> {
    let value = state.var(name).filter(|value| !value.is_empty())?;
    Some(cut(String::from_utf8_lossy(value).into_owned(), MAX_TEXT))
}
