//! Where a credential stands, and whether it is good.

use std::time::{Duration, SystemTime};

use crate::config::{Credential, Term};

/// How long a credential is still told of after its end; then it goes when its consumer gets another one.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is told of any credential.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    pub origin: Origin,
    /// None for the config's.
    pub created: Option<SystemTime>,
    pub term: Term,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Config,
    Store,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active,
    /// A key that is good for a while yet: another one has taken its place.
    Replaced,
    NotYet,
    Expired,
    Disabled,
}

impl Standing {
    /// Of one of the config.
    pub fn declared(credential: &Credential, now: SystemTime) -> Self {
        let term = credential.term;
        let state = if credential.enabled { state(&term, false, now) } else { State::Disabled };
        Standing { origin: Origin::Config, created: None, term, state }
    }

    /// Of one of the store.
    pub fn stored(created: SystemTime, term: Term, replaced: bool, now: SystemTime) -> Self {
        let state = state(&term, replaced, now);
        Standing { origin: Origin::Store, created: Some(created), term, state }
    }
}

/// Whether nobody wants to see it any more.
pub fn is_forgotten(term: &Term, now: SystemTime) -> bool {
    now.checked_sub(REMEMBERED).is_some_and(|before| term.is_over(before))
}

fn state(term: &Term, replaced: bool, now: SystemTime) -> State {
    match () {
        () if term.is_over(now) => State::Expired,
        () if !term.includes(now) => State::NotYet,
        () if replaced => State::Replaced,
        () => State::Active,
    }
}
