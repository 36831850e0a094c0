//! One of several: what plugins with `any = true` leave behind for each other, and for the one that closes their group.

use serde::{Deserialize, Serialize};

use super::{forget, places::Place};
use crate::{Request, Result, audit::Reason};

/// No client can reach a variable.
const VAR: &str = "auth/any";

/// How a group of plugins with `any = true` has decided.
///
/// ```
/// use wasmgate_sdk::{auth::{self, Gate, Identity}, testing};
///
/// let exchange = testing::Request::get("/").header("x-consumer-id", "root").build();
/// let request = exchange.request();
/// let (first, second) = (Gate::new(true, None)?, Gate::new(true, None)?);
/// assert!(first.enter(&request)?);
/// first.missing(&request, auth::unauthenticated("Key realm=\"api\"", "There is no key."))?;
/// assert!(second.enter(&request)?);
/// second.pass(&request, &Identity::of("alice"))?;
/// let group = auth::close(&request)?;
/// assert!(group.passed && !group.presented);
/// assert_eq!(group.challenges, ["Key realm=\"api\""]);
/// assert_eq!((group.reasons, group.claimed), (vec!["missing".to_string()], (None, None)));
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// One of them lets the request pass.
    pub passed: bool,
    /// There was a credential for one of those that do not.
    pub presented: bool,
    /// One of them could not decide: its refusal was a 5xx.
    pub undecided: bool,
    /// What they ask for, each once, in the order of the chain.
    pub challenges: Vec<String>,
    /// Why they do not let it pass, as the audit has it, in the order of the chain.
    pub reasons: Vec<String>,
    /// Consumer and credential that the request claims, by the first of them whose reason names somebody.
    pub claimed: (Option<String>, Option<String>),
}

/// Ends the group. What follows it, up to the next end, is another one, and has to let the request pass, too. Credentials
/// that nobody has accepted are taken out of the request: upstreams must not believe them. The example is that of [`Group`].
/// Errors: as of [`Request::set_var`].
pub fn close(request: &Request) -> Result<Group> {
    let Notes { passed, presented, undecided, challenges, reasons, claimed, unproved, kept, .. } =
        Notes::of(request)?;
    for place in unproved.iter().filter(|place| !kept.contains(place)) {
        place.remove(request)?;
    }
    Notes::default().write(request)?;
    Ok(Group { passed, presented, undecided, challenges, reasons, claimed })
}

/// What is known of the group so far.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    pub passed: bool,
    pub presented: bool,
    pub undecided: bool,
    pub challenges: Vec<String>,
    pub reasons: Vec<String>,
    pub claimed: (Option<String>, Option<String>),
    /// Where credentials stand that nobody has accepted.
    pub unproved: Vec<Place>,
    /// Where those stand that are accepted and go to the upstream.
    pub kept: Vec<Place>,
    /// Headers by which the plugin that let it pass tells the upstream.
    pub told: Vec<String>,
}

impl Notes {
    /// Those of this request. The first of a group begins them, and forgets what the client says of itself, unless somebody
    /// before the group has done so and told since whose the request is.
    pub fn of(request: &Request) -> Result<Notes> {
        match request.var(VAR) {
            Some(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
            None => {
                if request.var("consumer").is_none() {
                    forget(request)?;
                }
                let notes = Notes::default();
                notes.write(request)?;
                Ok(notes)
            }
        }
    }

    pub fn write(&self, request: &Request) -> Result<()> {
        Ok(request.set_var(VAR, serde_json::to_vec(self)?)?)
    }

    pub fn explain(&mut self, reason: Reason) {
        let Reason { why, consumer, credential, .. } = reason;
        self.reasons.push(why.0.to_string());
        if self.claimed == (None, None) {
            self.claimed = (consumer, credential);
        }
    }

    pub fn ask_for(&mut self, challenge: String) {
        if !self.challenges.contains(&challenge) {
            self.challenges.push(challenge);
        }
    }
}
