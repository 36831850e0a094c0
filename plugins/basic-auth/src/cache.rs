//! Credentials that were right a short while ago, so that not every request pays for a slow hash. Nothing of them is kept but
//! an HMAC under a key that only this instance has.

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
    /// The user and the end, by the HMAC.
    known: RefCell<HashMap<Vec<u8>, (usize, Duration)>>,
}

impl Cache {
    pub fn new(ttl: Duration) -> Self {
        Cache { ttl, key: random::array(), known: RefCell::default() }
    }

    /// Whoever comes again is known for longer: otherwise a busy user's hash would be made by all instances at once, each time
    /// that it ends. Other users or hashes are another config, and so another instance.
    pub fn find(&self, credentials: &[u8]) -> Option<usize> {
        let mut known = self.known.borrow_mut();
        if known.is_empty() {
            return None;
        }
        let (user, end) = known.get_mut(&self.tag(credentials))?;
        let now = clock::monotonic();
        if now >= *end {
            return None;
        }
        *end = now + self.ttl;
        Some(*user)
    }

    pub fn keep(&self, credentials: &[u8], user: usize) {
        if self.ttl.is_zero() {
            return;
        }
        let (now, mut known) = (clock::monotonic(), self.known.borrow_mut());
        if known.len() >= MAX {
            known.retain(|_, (_, end)| now < *end);
        }
        if known.len() >= MAX
            && let Some(oldest) = known.iter().min_by_key(|(_, (_, end))| *end).map(|(tag, _)| tag.clone())
        {
            known.remove(&oldest);
        }
        known.insert(self.tag(credentials), (user, now + self.ttl));
    }

    fn tag(&self, credentials: &[u8]) -> Vec<u8> {
        crypto::hmac(Hash::Sha256, self.key, credentials)
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
                cache.keep(format!("{user}:x").as_bytes(), user);
            }
            assert_eq!(cache.known.borrow().len(), MAX);
            assert_eq!([cache.find(b"0:x"), cache.find(b"1:x"), cache.find(b"2:x")], [None, None, Some(2)]);
            host.advance(Duration::from_secs(59));
            assert_eq!(cache.find(b"2:x"), Some(2));
            host.advance(Duration::from_secs(59));
            assert_eq!(
                [cache.find(b"2:x"), cache.find(b"3:x")],
                [Some(2), None],
                "whoever comes again stays"
            );
            host.advance(Duration::from_secs(60));
            assert_eq!(cache.find(b"2:x"), None);
            cache.keep(b"a:x", 7);
            assert_eq!(cache.known.borrow().len(), 1, "what is over goes first");
        });
    }

    #[test]
    fn nothing_of_the_password_is_kept() {
        Host::new().enter(|| {
            let cache = Cache::new(Duration::from_secs(60));
            cache.keep(b"alice:secret", 0);
            let known = cache.known.borrow();
            let tag = known.keys().next().expect("one");
            assert_eq!(*tag, crypto::hmac(Hash::Sha256, cache.key, "alice:secret"));
            assert_ne!(Cache::new(Duration::ZERO).key, cache.key, "another instance has another key");
        });
    }
}
