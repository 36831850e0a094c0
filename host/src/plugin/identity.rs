//! Whose a request is: what a plugin that has found it out tells the upstream in headers and the plugins behind it in
//! variables.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{
    exchange::State,
    headers::{MAX_HEADER, MAX_LINES, Refusal, remove_fitting},
};

/// As far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub consumer: String,
    /// What it is called elsewhere.
    pub custom_id: Option<String>,
    /// What it was known by, no secret.
    pub credential: Option<String>,
    pub groups: Vec<String>,
    pub plan: Option<String>,
    /// What a token says, as JSON.
    pub claims: Option<String>,
    /// Nobody has proved anything.
    pub anonymous: bool,
}

/// All that say whose a request is, as [`remove_fitting`] takes them.
const HEADERS: [&str; 3] = ["x-consumer-*", "x-credential-identifier", "x-anonymous-consumer"];

/// All variables that do.
const VARS: [&str; 5] = ["consumer", "credential", "groups", "plan", "claims"];

const ID: HeaderName = HeaderName::from_static("x-consumer-id");
const USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
const CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
const CREDENTIAL: HeaderName = HeaderName::from_static("x-credential-identifier");
const GROUPS: HeaderName = HeaderName::from_static("x-consumer-groups");
const ANONYMOUS: HeaderName = HeaderName::from_static("x-anonymous-consumer");

impl State {
    /// In place of what was told before, and of what the client itself says.
    pub fn identify(&mut self, identity: Identity) -> Result<(), Refusal> {
        let Identity { consumer, custom_id, credential, groups, plan, claims, anonymous } = identity;
        if consumer.is_empty() || groups.iter().any(|group| group.contains(',')) {
            return Err(Refusal::InvalidValue);
        }
        let is_given = !groups.is_empty();
        let id = header(consumer.clone())?;
        let headers = [
            (ID, Some(id.clone())),
            (USERNAME, Some(id)),
            (CUSTOM_ID, custom_id.map(header).transpose()?),
            (CREDENTIAL, credential.clone().map(header).transpose()?),
            (GROUPS, is_given.then(|| header(groups.join(", "))).transpose()?),
            (ANONYMOUS, anonymous.then_some(HeaderValue::from_static("true"))),
        ];
        let groups = is_given.then(|| groups.join(","));
        let vars = [Some(consumer), credential, groups, plan, claims];
        self.check_vars(&VARS, &vars)?;
        let map = &mut self.request_mut()?.headers;
        if map.len() + headers.len() > MAX_LINES {
            return Err(Refusal::TooLarge);
        }
        remove_fitting(map, &HEADERS);
        for (name, value) in headers {
            if let Some(value) = value {
                map.insert(name, value);
            }
        }
        for (name, value) in VARS.into_iter().zip(vars) {
            self.replace_var(name, value.map(String::into_bytes));
        }
        self.account.announce();
        Ok(())
    }
}

fn header(text: String) -> Result<HeaderValue, Refusal> {
    if text.len() > MAX_HEADER {
        return Err(Refusal::TooLarge);
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|_| Refusal::InvalidValue)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, Method, Version};

    use super::*;
    use crate::plugin::exchange::{Connection, RequestHead};

    fn state(headers: &[(&'static str, &'static str)]) -> State {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let request = RequestHead {
            method: Method::GET,
            version: Version::HTTP_11,
            authority: "a.test".parse().unwrap(),
            target: "/".parse().unwrap(),
            headers: HeaderMap::from_iter(headers.iter().map(header)),
            send_authority: None,
            send_target: None,
        };
        let address = "127.0.0.1:80".parse().unwrap();
        State::new(request, Arc::new(Connection::new(address, address, None)), address.ip())
    }

    fn told(state: &State) -> Vec<(&str, &str)> {
        let headers = &state.request.headers;
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn the_last_one_is_the_whole_of_it() {
        let mut state = state(&[("x_consumer_id", "root"), ("x-consumer-tags", "a"), ("accept", "b")]);
        let some = |text: &str| Some(text.to_owned());
        let alice = Identity {
            consumer: "alice".to_owned(),
            custom_id: some("u-1"),
            credential: some("k1"),
            groups: vec!["staff".to_owned(), "admins".to_owned()],
            plan: some("pro"),
            claims: some("{}"),
            anonymous: true,
        };
        state.identify(alice).unwrap();
        let headers = told(&state);
        assert_eq!(headers.len(), 7, "{headers:?}");
        for header in
            [("x-consumer-groups", "staff, admins"), ("x-credential-identifier", "k1"), ("accept", "b")]
        {
            assert!(headers.contains(&header), "{headers:?}");
        }
        assert_eq!(state.var("groups"), Some(&b"staff,admins"[..]));
        state.identify(Identity { consumer: "bob".to_owned(), ..Identity::default() }).unwrap();
        assert_eq!(told(&state), [("accept", "b"), ("x-consumer-id", "bob"), ("x-consumer-username", "bob")]);
        assert_eq!(state.vars().collect::<Vec<_>>(), [("consumer", &b"bob"[..])]);
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut state = state(&[("x-consumer-id", "root")]);
        let of = |consumer: &str| Identity { consumer: consumer.to_owned(), ..Identity::default() };
        let faulty = [
            (of(""), Refusal::InvalidValue),
            (of("a\nb"), Refusal::InvalidValue),
            (of(&"a".repeat(MAX_HEADER + 1)), Refusal::TooLarge),
            (Identity { groups: vec!["a,b".to_owned()], ..of("a") }, Refusal::InvalidValue),
            (Identity { claims: Some("c".repeat(70_000)), ..of("a") }, Refusal::TooLarge),
        ];
        for (identity, refusal) in faulty {
            assert_eq!(state.identify(identity), Err(refusal));
        }
        for number in 0..64 {
            state.set_var(number.to_string(), vec![]).unwrap();
        }
        assert_eq!(state.identify(of("a")), Err(Refusal::Exhausted));
        assert_eq!((told(&state), state.var("consumer")), (vec![("x-consumer-id", "root")], None));
    }
}
