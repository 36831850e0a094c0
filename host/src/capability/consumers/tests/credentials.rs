//! Passwords, secrets and certificates of the store.

use redb::{Database, ReadableDatabase, TableDefinition};
use wasmgate_tests::peer;

use super::*;

const HASH: &str = "$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK";
const SECRET: &[u8] = b"a secret of the tests";

fn key(start: u8) -> Vec<u8> {
    (start..).take(32).collect()
}

/// With these keys to seal with, and alice's credentials of the config.
fn sealing(folder: &TempDir, keys: &[u8]) -> Book {
    let mut with = config(Some(folder.path().join("store")));
    with.seal_keys = SealKeys(keys.iter().map(|&start| key(start)).collect());
    with.declared[0].credentials.extend([
        Credential { proof: Proof::Password(HASH.into()), ..credential("alice", "") },
        Credential { proof: Proof::Password(HASH.into()), enabled: false, ..credential("al", "") },
    ]);
    let book = Book::default();
    book.put(book.prepare(&with, None).unwrap());
    book
}

fn offer(id: &str, proof: Proof) -> Offer {
    Offer { id: id.to_owned(), proof, expires: None }
}

fn password(id: &str) -> Offer {
    offer(id, Proof::Password(HASH.into()))
}

fn hmac(id: &str) -> Offer {
    offer(id, Proof::Hmac(SECRET.to_vec()))
}

fn certificate(id: &str) -> Offer {
    offer(id, Proof::Certificate)
}

fn whose(book: &Book, kind: CredentialKind, id: &str, now: SystemTime) -> Option<(String, Option<Vec<u8>>)> {
    let found = book.find(kind, &[id.to_owned()], now).unwrap();
    found.credential.map(|known| (known.consumer.name.clone(), found.secret))
}

/// All three kinds of bob's: whose they are, and whether the secret is the one that was set.
fn all(book: &Book, now: SystemTime) -> [bool; 3] {
    use CredentialKind::{Certificate, Hmac, Password};
    let bobs = |kind, id, secret: Option<&[u8]>| {
        whose(book, kind, id, now) == Some(("bob".to_owned(), secret.map(<[u8]>::to_vec)))
    };
    [
        bobs(Password, "bob", Some(HASH.as_bytes())),
        bobs(Hmac, "bob/1", Some(SECRET)),
        bobs(Certificate, "san_uri:spiffe://a/b", None),
    ]
}

async fn set_all(book: &Book, expires: Option<SystemTime>) {
    book.set(consumer("bob")).await.unwrap();
    for offer in [password("bob"), hmac("bob/1"), certificate("san_uri:spiffe://a/b")] {
        book.set_credential("bob", Offer { expires, ..offer }, now()).await.unwrap();
    }
}

#[tokio::test]
async fn credentials_are_set_found_and_revoked() {
    use CredentialKind::{Certificate, Hmac, Password};
    let folder = tempfile::tempdir().unwrap();
    let book = sealing(&folder, &[1]);
    set_all(&book, Some(now() + DAY)).await;
    assert_eq!(all(&book, now()), [true; 3]);
    assert_eq!(all(&sealing(&folder, &[1]), now()), [true; 3], "the next process knows them");
    assert_eq!(all(&book, now() + DAY), [false; 3], "expired");
    let facts = book.credentials("bob", now()).unwrap();
    let ids: Vec<_> = facts.iter().map(|facts| (facts.kind, &*facts.id, facts.standing.state)).collect();
    assert_eq!(
        ids,
        [
            (Password, "bob", State::Active),
            (Hmac, "bob/1", State::Active),
            (Certificate, "san_uri:spiffe://a/b", State::Active),
        ]
    );
    assert!(
        book.credentials("bob", now() + DAY)
            .unwrap()
            .iter()
            .all(|facts| facts.standing.state == State::Expired)
    );

    let other = Proof::Hmac(b"another secret of the tests".to_vec());
    book.set_credential("bob", offer("bob/1", other), now()).await.unwrap();
    assert_eq!(all(&book, now()), [true, false, true], "in the place of the one before");
    book.revoke_credential("bob", Certificate, "san_uri:spiffe://a/b").await.unwrap();
    book.revoke_credential("bob", Password, "bob").await.unwrap();
    assert_eq!(all(&book, now()), [false; 3]);
    assert_eq!(book.credentials("bob", now()).unwrap().len(), 1);
    let unknown = Err(Refused::UnknownCredential);
    assert_eq!(book.revoke_credential("bob", Password, "bob").await, unknown);
    assert_eq!(book.revoke_credential("alice", Hmac, "bob/1").await, unknown, "not hers");
    book.remove("bob").await.unwrap();
    book.set(consumer("bob")).await.unwrap();
    assert_eq!(book.credentials("bob", now()).unwrap(), [], "another one");
    assert_eq!(sealing(&folder, &[1]).credentials("bob", now()).unwrap(), []);
}

#[tokio::test]
async fn secrets_are_sealed_and_passwords_hashed_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    set_all(&sealing(&folder, &[1]), None).await;
    let bytes = std::fs::read(folder.path().join("store")).unwrap();
    assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET));
    // Keys change: the new one seals, the old one opens.
    let both = sealing(&folder, &[2, 1]);
    assert_eq!(all(&both, now()), [true; 3]);
    both.set_credential("bob", hmac("bob/1"), now()).await.unwrap();
    assert_eq!(all(&sealing(&folder, &[2]), now()), [true; 3]);
    // Without the key nobody is known by the secret, and nobody is unknown.
    for keys in [&[1][..], &[]] {
        let book = sealing(&folder, keys);
        let found = book.find(CredentialKind::Hmac, &["bob/1".to_owned()], now());
        assert!(found.is_err_and(|Unavailable(reason)| reason.contains("consumers.seal_keys")));
        assert!(whose(&book, CredentialKind::Password, "bob", now()).is_some());
        assert_eq!(whose(&book, CredentialKind::Hmac, "bob/2", now()), None);
    }
    let without = sealing(&folder, &[]);
    assert_eq!(without.set_credential("bob", hmac("bob/2"), now()).await, Err(Refused::NoSealKeys));
}

#[tokio::test]
async fn the_config_has_the_word_about_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let book = sealing(&folder, &[1]);
    book.set(consumer("bob")).await.unwrap();
    assert_eq!(book.set_credential("alice", password("alice"), now()).await, Err(Refused::OfConfig));
    assert_eq!(book.set_credential("bob", password("alice"), now()).await, Err(Refused::TakenCredential));
    let of_config = book.revoke_credential("alice", CredentialKind::Password, "alice").await;
    assert_eq!(of_config, Err(Refused::OfConfig));
    book.set_credential("bob", password("b"), now()).await.unwrap();
    assert_eq!(book.set_credential("alice", password("b"), now()).await, Err(Refused::TakenCredential));
    book.set_credential("alice", password("a"), now()).await.unwrap();
    let owner = async |id| whose(&book, CredentialKind::Password, id, now()).map(|(name, _)| name);
    assert_eq!((owner("a").await.as_deref(), owner("b").await.as_deref()), (Some("alice"), Some("bob")));
    let states: Vec<_> =
        book.credentials("alice", now()).unwrap().iter().map(|facts| facts.standing.state).collect();
    assert_eq!(states, [State::Disabled, State::Active, State::Active]);
    for (name, refused) in
        [("eve", Refused::UnknownConsumer), ("alice", Refused::Faulty("expires is over".to_owned()))]
    {
        let over = Offer { expires: (name == "alice").then(now), ..password("c") };
        assert_eq!(book.set_credential(name, over, now()).await, Err(refused));
    }
    let book = without_store();
    assert_eq!(book.set_credential("alice", password("c"), now()).await, Err(Refused::NoStore));
    // What the store had comes back where the config says it no more, and not before.
    let mut taken = config(Some(folder.path().join("store")));
    let off = Credential { proof: Proof::Password(HASH.into()), enabled: false, ..credential("b", "") };
    taken.declared[0].credentials.push(off);
    let book = Book::default();
    book.put(book.prepare(&taken, None).unwrap());
    assert_eq!(whose(&book, CredentialKind::Password, "b", now()), None);
    assert!(whose(&again(&folder), CredentialKind::Password, "b", now()).is_some());
}

#[tokio::test]
async fn credentials_that_are_long_over_go() {
    let folder = tempfile::tempdir().unwrap();
    let book = sealing(&folder, &[1]);
    set_all(&book, Some(now() + DAY)).await;
    book.set_credential("bob", certificate("subject_cn:b"), now() + DAY * 30).await.unwrap();
    assert_eq!(book.credentials("bob", now()).unwrap().len(), 4);
    book.set_credential("bob", certificate("subject_cn:b"), now() + DAY * 32).await.unwrap();
    assert_eq!(book.credentials("bob", now()).unwrap().len(), 1);
}

/// A file of a gateway that knew keys alone is opened, and such a gateway still reads what it knows.
#[tokio::test]
async fn a_file_from_before_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    const CONSUMERS: TableDefinition<&str, &[u8]> = TableDefinition::new("consumers");
    const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
    let digest = Digest::of("wg_bobsdemokey1_ThisKeyIsOnlyForTheReadmeOfIt0002B2kgt").hex();
    let row = format!(r#"{{"consumer":"bob","sha256":"{digest}","created":1700000000000,"replaced":false}}"#);
    {
        let database = Database::create(&path).unwrap();
        let begun = database.begin_write().unwrap();
        begun.open_table(CONSUMERS).unwrap().insert("bob", &br#"{"name":"bob","groups":["g"]}"#[..]).unwrap();
        begun.open_table(KEYS).unwrap().insert("bobsdemokey1", row.as_bytes()).unwrap();
        begun.commit().unwrap();
    }
    let book = sealing(&folder, &[1]);
    let known = who(&book, "wg_bobsdemokey1_ThisKeyIsOnlyForTheReadmeOfIt0002B2kgt", now());
    assert_eq!(known.as_deref(), Some("bobsdemokey1 bob"));
    set_all(&book, None).await;
    assert_eq!(all(&sealing(&folder, &[1]), now()), [true; 3]);
    let database = Database::open(&path).unwrap();
    let begun = database.begin_read().unwrap();
    let keys = begun.open_table(KEYS).unwrap();
    assert_eq!(keys.get("bobsdemokey1").unwrap().unwrap().value(), row.as_bytes(), "as it was");
}

#[tokio::test]
async fn what_another_process_changes_is_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (sealing(&folder, &[1]), sealing(&folder, &[1]));
    set_all(&first, None).await;
    second.refresh().await.unwrap();
    assert_eq!(all(&second, now()), [true; 3]);
    first.revoke_credential("bob", CredentialKind::Hmac, "bob/1").await.unwrap();
    second.refresh().await.unwrap();
    assert_eq!(all(&second, now()), [true, false, true]);
    first.remove("bob").await.unwrap();
    second.refresh().await.unwrap();
    assert_eq!(all(&second, now()), [false; 3]);
}

#[tokio::test]
async fn gateways_that_share_a_redis_share_credentials() {
    let Some(program) = peer("redis-server") else { return };
    let redis = wasmgate_tests::Redis::start(program, &[]);
    let settings =
        Consumers { store: Some(ConsumerStore::Redis(0)), seal_keys: SealKeys(vec![key(1)]), ..config(None) };
    let sharing = async || share(&redis, &settings).await;
    let (first, second) = (sharing().await, sharing().await);
    set_all(&first, None).await;
    second.refresh().await.unwrap();
    assert_eq!(all(&second, now()), [true; 3]);
    second.revoke_credential("bob", CredentialKind::Password, "bob").await.unwrap();
    first.refresh().await.unwrap();
    assert_eq!(all(&first, now()), [false, true, true]);
    assert_eq!(all(&sharing().await, now()), [false, true, true]);
}

#[tokio::test]
async fn what_is_long_over_goes_with_the_next_that_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let book = sealing(&folder, &[1]);
    set_all(&book, Some(now() + DAY)).await;
    book.issue("bob", Some(now() + DAY), now()).await.unwrap();
    let counts =
        |book: &Book, at| (book.credentials("bob", at).unwrap().len(), book.keys("bob", at).unwrap().len());
    let (soon, late) = (now() + 30 * DAY, now() + 31 * DAY);
    book.set_credential("bob", certificate("fingerprint:00"), soon).await.unwrap();
    book.issue("bob", None, soon).await.unwrap();
    assert_eq!(counts(&book, soon), (4, 2));
    book.set_credential("bob", password("bob"), late).await.unwrap();
    book.issue("bob", None, late).await.unwrap();
    assert_eq!(counts(&book, late), (2, 2));
    assert_eq!(all(&book, late), [true, false, false], "the new one in the place of the one that was over");
    assert_eq!(counts(&sealing(&folder, &[1]), late), (2, 2));
}
