//! Credentials that were right a short while ago, so that not every request pays for a slow hash. Nothing of them is kept but
//! an HMAC under a key that only this instance has. It is of the hash as well: with another hash, or without one, they are no good.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use wasmgate_sdk::{
    clock,
    crypto::{self, Hash},
    random,
};

/// Credentials that are kept at a time.
const MAX: usize = 1024;

pub struct Cache {
    ttl: Duration,
    key: [u8; 32],
    /// The end, by the HMAC.
    known: RefCell<HashMap<Vec<u8>, Duration>>,
}

impl Cache {
    pub fn new(ttl: Duration) -> Self {
        Cache { ttl, key: random::array(), known: RefCell::default() }
    }

    /// Whoever comes again is known for longer: otherwise a busy user's hash would be made by all instances at once, each time
    /// that it ends.
    pub fn knows(&self, hash: &str, credentials: &[u8]) -> bool {
        let mut known = self.known.borrow_mut();
        if known.is_empty() {
            return false;
        }
        let Some(end) = known.get_mut(&self.tag(hash, credentials)) else { return false };
        let now = clock::monotonic();
        if now >= *end {
            return false;
        }
        *end = now + self.ttl;
        true
    }

    pub fn keep(&self, hash: &str, credentials: &[u8]) {
        if self.ttl.is_zero() {
            return;
        }
        let (now, mut known) = (clock::monotonic(), self.known.borrow_mut());
        if known.len() >= MAX {
            known.retain(|_, end| now < *end);
        }
        if known.len() >= MAX
            && let Some(oldest) = known.iter().min_by_key(|(_, end)| **end).map(|(tag, _)| tag.clone())
        {
            known.remove(&oldest);
        }
        known.insert(self.tag(hash, credentials), now + self.ttl);
    }

    /// No hash has a zero byte.
    fn tag(&self, hash: &str, credentials: &[u8]) -> Vec<u8> {
        crypto::hmac(Hash::Sha256, self.key, [hash.as_bytes(), b"\0", credentials].concat())
    }
}

#[cfg(test)]
mod tests {
    use wasmgate_sdk::testing::Host;

    use super::*;

    #[test]
    fn it_is_bounded_and_the_oldest_go_first() {
        let host = Host::new();
        host.enter(|| {
            let cache = Cache::new(Duration::from_secs(60));
            for user in 0..MAX + 2 {
                host.advance(Duration::from_millis(1));
                cache.keep("$", format!("{user}:x").as_bytes());
            }
            let known = |credentials: &[&str]| -> Vec<bool> {
                credentials.iter().map(|credentials| cache.knows("$", credentials.as_bytes())).collect()
            };
            assert_eq!(cache.known.borrow().len(), MAX);
            assert_eq!(known(&["0:x", "1:x", "2:x"]), [false, false, true]);
            host.advance(Duration::from_secs(59));
            assert_eq!(known(&["2:x"]), [true]);
            host.advance(Duration::from_secs(59));
            assert_eq!(known(&["2:x", "3:x"]), [true, false], "whoever comes again stays");
            host.advance(Duration::from_secs(60));
            assert_eq!(known(&["2:x"]), [false]);
            cache.keep("$", b"a:x");
            assert_eq!(cache.known.borrow().len(), 1, "what is over goes first");
        });
    }

    #[test]
    fn nothing_of_the_password_is_kept_and_all_of_it_counts() {
        Host::new().enter(|| {
            let cache = Cache::new(Duration::from_secs(60));
            cache.keep("$2y$", b"alice:secret");
            assert!(cache.knows("$2y$", b"alice:secret"));
            for (hash, credentials) in
                [("$2y", "alice:secret"), ("$2y$alice", ":secret"), ("$2y$", "alice:s")]
            {
                assert!(!cache.knows(hash, credentials.as_bytes()));
            }
            let known = cache.known.borrow();
            let tag = known.keys().next().expect("one");
            assert_eq!(*tag, crypto::hmac(Hash::Sha256, cache.key, "$2y$\0alice:secret"));
            assert_ne!(Cache::new(Duration::ZERO).key, cache.key, "another instance has another key");
        });
    }
}
