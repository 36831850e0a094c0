//! Passwords are held against hashes that are slow on purpose, so this has threads of its own, which yield to those
//! that serve requests, and no more at a time than there are cores.

use std::{
    sync::Arc,
    thread::{self, available_parallelism},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use wasmgate_crypto::{PasswordFault, SALT, StoredPassword, hash_password};

use super::random;
use crate::background::yield_to_requests;

/// How long a password waits for others.
const WAIT: Duration = Duration::from_secs(1);

pub struct Passwords(Arc<Semaphore>);

/// Why it is not known whether a password is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    Hash(PasswordFault),
    Busy,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords::new(available_parallelism().map_or(1, usize::from))
    }
}

impl Passwords {
    /// With so many at the same time.
    fn new(places: usize) -> Self {
        Passwords(Arc::new(Semaphore::new(places)))
    }

    pub async fn verify(&self, hash: &str, password: Vec<u8>) -> Result<bool, Unknown> {
        let stored = StoredPassword::read(hash).map_err(Unknown::Hash)?;
        if stored.is_cheap(&password) {
            return stored.verify(&password).ok_or(Unknown::Busy);
        }
        self.beside(move || stored.verify(&password)).await.ok_or(Unknown::Busy)
    }

    /// A new hash of a password. None where it is too long, or there are too many to be made.
    pub async fn hash(&self, password: Vec<u8>) -> Option<String> {
        let mut salt = [0; SALT];
        random::fill(&mut salt);
        self.beside(move || hash_password(&password, salt)).await
    }

    /// Does it where there is a place within a second.
    async fn beside<T: Send + 'static>(&self, act: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
        let place = timeout(WAIT, self.0.clone().acquire_owned()).await;
        on_a_thread(act, place.ok()?.ok()?).await
    }
}

/// On a thread, which keeps its place until it is done, also where nobody waits for it any more.
async fn on_a_thread<T: Send + 'static>(
    act: impl FnOnce() -> Option<T> + Send + 'static,
    place: OwnedSemaphorePermit,
) -> Option<T> {
    let (tell, told) = oneshot::channel();
    let work = move || {
        yield_to_requests();
        let _ = tell.send(act());
        drop(place);
    };
    // Where the system has no threads left the work is dropped, and with it the sender.
    let _ = thread::Builder::new().name("password".to_owned()).spawn(work);
    told.await.ok()?
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt;

    use super::*;

    const RIGHT: &str = "$2b$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK";

    async fn ask(passwords: &Passwords, hash: &str, password: &str) -> Result<bool, Unknown> {
        passwords.verify(hash, password.into()).await
    }

    #[tokio::test]
    async fn passwords_are_right_or_wrong() {
        let passwords = Passwords::default();
        assert_eq!(ask(&passwords, RIGHT, "password").await, Ok(true));
        assert_eq!(ask(&passwords, RIGHT, "Password").await, Ok(false));
        assert_eq!(ask(&passwords, "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "password").await, Ok(true));
        let refused = ask(&passwords, "password", "password").await;
        assert_eq!(refused, Err(Unknown::Hash(PasswordFault::Unsupported)));
    }

    #[tokio::test]
    async fn a_new_hash_is_one_of_its_password() {
        let passwords = Passwords::default();
        let hashes = [passwords.hash(b"password".into()).await, passwords.hash(b"password".into()).await];
        let [Some(first), Some(second)] = hashes else { panic!("no hash") };
        assert_ne!(first, second, "each has a salt of its own");
        assert_eq!(ask(&passwords, &first, "password").await, Ok(true));
        assert_eq!(ask(&passwords, &second, "Password").await, Ok(false));
        assert_eq!(passwords.hash(vec![b'x'; 4097]).await, None);
    }

    #[tokio::test]
    async fn a_place_is_waited_for_and_given_back() {
        let passwords = Passwords::new(1);
        let place = passwords.0.clone().acquire_owned().await.unwrap();
        let started = Instant::now();
        assert_eq!(ask(&passwords, RIGHT, "password").await, Err(Unknown::Busy));
        assert!(started.elapsed() >= WAIT);
        let long = "p".repeat(4097);
        assert_eq!(ask(&passwords, RIGHT, &long).await, Ok(false), "no hash is made of it");
        drop(place);
        for _ in 0..3 {
            assert_eq!(ask(&passwords, RIGHT, "password").await, Ok(true));
        }
        // What nobody waits for any more keeps its place only until it is done.
        let _ = ask(&passwords, RIGHT, "password").now_or_never();
        assert_eq!(ask(&passwords, RIGHT, "password").await, Ok(true));
    }
}
