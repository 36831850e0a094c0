//! The users of the config: the hashes of their passwords, and whose their requests are.

use std::{borrow::Cow, collections::BTreeMap};

use wasmgate_sdk::{
    Error, Result,
    auth::{Identity, check_name},
    config, counters,
    crypto::{self, Hash, PasswordError},
    log, random,
};

/// How often the log says that there are hashes which are only for import.
const WARN_EVERY: std::time::Duration = std::time::Duration::from_secs(3600);
/// No password is so long, so no hash is made of it.
const TOO_LONG: [u8; 4097] = [0; 4097];

/// A list of lines, or a text of them.
#[config]
#[serde(untagged, expecting = "expected a list of lines, or a text with them")]
pub enum Lines {
    List(Vec<String>),
    Text(String),
}

/// Whose a user's requests are.
#[config]
#[serde(default)]
#[derive(Default)]
pub struct Whose {
    /// Whose the user's requests are. Default: the user's name.
    consumer: Option<String>,
    /// Groups of the consumer, for X-Consumer-Groups.
    groups: Vec<String>,
    /// Plan of the consumer, for rate-limit.
    plan: Option<String>,
}

/// Sorted by name.
pub struct Users {
    users: Vec<User>,
    /// Of this instance; which hash a name gets that nobody has.
    key: [u8; 32],
}

pub struct User {
    name: String,
    pub hash: String,
    pub identity: Identity,
}

impl Default for Lines {
    fn default() -> Self {
        Lines::List(Vec::new())
    }
}

impl Users {
    pub fn new(lines: Lines, mut identities: BTreeMap<String, Whose>) -> Result<Self> {
        let mut users = Vec::new();
        for (place, line) in lines.numbered() {
            let wrong = |fault: &str| Error::msg(format_args!("{place}: {fault}"));
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| wrong("is not a name and a hash with a colon between them"))?;
            check_name(&place, name)?;
            check_hash(hash).map_err(wrong)?;
            let whose = identities.remove(name).unwrap_or_default();
            users.push(User {
                name: name.to_string(),
                hash: hash.to_string(),
                identity: whose.identity(name)?,
            });
        }
        users.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some([user, _]) = users.windows(2).find(|pair| matches!(pair, [a, b] if a.name == b.name)) {
            return Err(Error::msg(format_args!("users: `{}` is there twice", user.name)));
        }
        // A file of users changes without the config, so this is no fault of it.
        for name in identities.keys() {
            log::warn!("identities.{name}: there is no such user");
        }
        warn_of_weak(&users);
        Ok(Users { users, key: random::array() })
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    pub fn find(&self, name: &[u8]) -> Option<&User> {
        let place = self.users.binary_search_by(|user| user.name.as_bytes().cmp(name)).ok()?;
        self.users.get(place)
    }

    /// The hash for a name that nobody has, always the same one for it: that of a user, or, for about half of the names, what is
    /// given. So such a name costs what a wrong password costs, whoever's.
    pub fn stand_in(&self, name: &[u8], other: Option<String>) -> Option<Cow<'_, str>> {
        let tag = crypto::hmac(Hash::Sha256, self.key, name);
        let number = tag.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte));
        let own = || {
            let place = (number >> 1).checked_rem(self.users.len() as u64)?;
            self.users.get(place as usize).map(|user| Cow::Borrowed(&*user.hash))
        };
        match other {
            Some(other) if number % 2 == 0 || self.users.is_empty() => Some(Cow::Owned(other)),
            _ => own(),
        }
    }
}

impl Lines {
    /// Those that hold something, each with its place.
    fn numbered(self) -> Vec<(String, String)> {
        let is_user = |line: &str| !line.is_empty() && !line.starts_with('#');
        let (form, lines): (fn(usize) -> String, Vec<String>) = match self {
            Lines::List(lines) => (|place| format!("users[{place}]"), lines),
            Lines::Text(text) => {
                (|place| format!("users: line {}", place + 1), text.lines().map(str::to_string).collect())
            }
        };
        let lines = lines.into_iter().map(|line| line.trim().to_string()).enumerate();
        lines.filter(|(_, line)| is_user(line)).map(|(place, line)| (form(place), line)).collect()
    }
}

impl Whose {
    fn identity(self, user: &str) -> Result<Identity> {
        let key = |key: &str| format!("identities.{user}.{key}");
        let Whose { consumer, groups, plan } = self;
        for (name, value) in [("consumer", &consumer), ("plan", &plan)] {
            value.as_deref().map_or(Ok(()), |value| check_name(&key(name), value))?;
        }
        for (place, group) in groups.iter().enumerate() {
            let key = key(&format!("groups[{place}]"));
            check_name(&key, group)?;
            if group.contains(',') {
                return Err(Error::msg(format_args!("{key}: holds a comma")));
            }
        }
        let consumer = consumer.unwrap_or_else(|| user.to_string());
        Ok(Identity { consumer, credential: Some(user.to_string()), groups, plan, ..Identity::default() })
    }
}

/// Without making one: that would take as long as a request of each user.
fn check_hash(hash: &str) -> Result<(), &'static str> {
    match crypto::verify_password(hash, TOO_LONG) {
        Ok(_) | Err(PasswordError::Busy) => Ok(()),
        Err(PasswordError::Unsupported) => Err("the hash is none of bcrypt, Argon2, {SHA} and $apr1$"),
        Err(PasswordError::Malformed) => Err("the hash is not whole"),
        Err(PasswordError::TooCostly) => Err("the hash costs too much"),
    }
}

/// Of all instances one says so.
fn warn_of_weak(users: &[User]) {
    let is_weak = |user: &&User| ["{SHA}", "$apr1$"].iter().any(|kind| user.hash.starts_with(kind));
    let weak = users.iter().filter(is_weak).count();
    if weak > 0 && counters::increment(&format!("weak/{weak}"), 1, WARN_EVERY) == Ok(1) {
        log::warn!(
            "the hashes of {weak} users are {{SHA}} or $apr1$, which are quickly guessed: make new ones (htpasswd -B)"
        );
    }
}
