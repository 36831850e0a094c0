use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use tempfile::TempDir;
use wasmgate_tests::peer;

use super::*;
use crate::config::{self, Credential, CredentialKind, Declared, Proof, SealKeys, Term};

mod credentials;

const DAY: Duration = Duration::from_secs(86_400);

fn to(kind: config::RedisKind, endpoints: Vec<config::Target>) -> config::Redis {
    config::Redis {
        name: "shared".to_owned(),
        kind,
        endpoints,
        login: config::Login::default(),
        sentinel_login: config::Login::default(),
        database: 0,
        tls: None,
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        prefix: "wasmgate:".to_owned(),
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * 20_000
}

fn consumer(name: &str) -> Consumer {
    Consumer { name: name.to_owned(), ..Consumer::default() }
}

fn credential(id: &str, key: &str) -> Credential {
    Credential { id: id.into(), proof: Proof::Key(Digest::of(key)), term: Term::default(), enabled: true }
}

/// Alice with the keys "alice-key" and, turned off, "old-key", and the plan free.
fn config(store: Option<PathBuf>) -> Consumers {
    let alice =
        Consumer { custom_id: Some("u-1".to_owned()), plan: Some("free".to_owned()), ..consumer("alice") };
    let old = Credential { enabled: false, ..credential("k0", "old-key") };
    let minute = Quota { rate: 60, per: Duration::from_secs(60) };
    Consumers {
        plans: BTreeMap::from([("free".to_owned(), Arc::from([minute]))]),
        declared: vec![Declared {
            consumer: Arc::new(alice),
            credentials: vec![credential("k1", "alice-key"), old],
        }],
        store: store.map(ConsumerStore::File),
        stale: DAY,
        grace: DAY,
        seal_keys: SealKeys::default(),
    }
}

fn without_store() -> Book {
    let book = Book::default();
    book.put(book.prepare(&config(None), None).unwrap());
    book
}

/// With a store in a folder.
fn with_store() -> (TempDir, Book) {
    let folder = tempfile::tempdir().unwrap();
    let book = again(&folder);
    (folder, book)
}

/// As another process would read it.
fn again(folder: &TempDir) -> Book {
    let book = Book::default();
    book.put(book.prepare(&config(Some(folder.path().join("store"))), None).unwrap());
    book
}

fn who(book: &Book, key: &str, now: SystemTime) -> Option<String> {
    // What is in memory is there at once.
    let found = book.verify(key, now).unwrap();
    found.ok().map(|found| format!("{} {}", found.id, found.consumer.name))
}

/// Why a key is no good, with the credential and the consumer that are known then.
fn why(book: &Book, key: &str, now: SystemTime) -> String {
    let unfit = book.verify(key, now).unwrap().unwrap_err();
    let or_dash = |text: Option<Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
    format!("{} {} {}", unfit.why, or_dash(unfit.id), or_dash(unfit.consumer))
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_told_and_whose_it_is_only_to_who_has_it() {
    let (_folder, book) = with_store();
    let issued = book.issue("alice", Some(now() + DAY), now()).await.unwrap();
    assert_eq!(why(&book, "eve-key", now()), "unknown_key - -");
    assert_eq!(why(&book, &issued.key, now() + DAY), format!("expired {} alice", issued.id));
    let mut mistyped = issued.key.clone();
    let last = if mistyped.pop() == Some('0') { '1' } else { '0' };
    mistyped.push(last);
    assert_eq!(why(&book, &mistyped, now()), "mistyped - -");
    book.revoke("alice", &issued.id).await.unwrap();
    assert_eq!(why(&book, &issued.key, now()), "unknown_key - -");
}

#[test]
fn keys_of_the_config_are_found_by_their_digest() {
    let book = without_store();
    assert_eq!(who(&book, "alice-key", now()).as_deref(), Some("k1 alice"));
    let own = crate::api_key::make(&mut rand::rng());
    for wrong in ["", "alice-ke", "alice-key ", "ALICE-KEY", "old-key", "k1", &own, &"x".repeat(1 << 20)] {
        assert_eq!(who(&book, wrong, now()), None, "{wrong:.20}");
    }
    assert_eq!(book.plan("free").unwrap()[0].rate, 60);
    assert!(book.plan("none").is_none());
    assert!(book.by_custom_id("u-1").unwrap().is_some());
    assert!(book.by_custom_id("alice").unwrap().is_none());
}

#[test]
fn other_credentials_of_the_config_are_found_by_their_names() {
    use CredentialKind::{Certificate, Hmac, Password};
    const HASH: &str = "$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK";
    let known = |id: &str, proof| Credential { proof, ..credential(id, "") };
    let until = |end, known| Credential { term: Term { expires: Some(end), ..Term::default() }, ..known };
    let mut with = config(None);
    with.declared[0].credentials.extend([
        known("alice", Proof::Password(HASH.into())),
        Credential { enabled: false, ..known("al", Proof::Password(HASH.into())) },
        until(now() + DAY, known("alice", Proof::Hmac(b"0123456789abcdef".to_vec()))),
        until(now(), known("subject_cn:alice", Proof::Certificate)),
        known("san_dns:alice.test", Proof::Certificate),
    ]);
    let book = Book::default();
    book.put(book.prepare(&with, None).unwrap());
    let find = |kind, ids: &[&str], now| {
        let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
        let found = book.find(kind, &ids, now).unwrap();
        (found.credential.map(|found| format!("{} {}", found.id, found.consumer.name)), found.secret)
    };
    let alice = Some("alice alice".to_owned());
    assert_eq!(find(Password, &["alice"], now()), (alice.clone(), Some(HASH.into())));
    assert_eq!(find(Hmac, &["alice"], now()), (alice, Some(b"0123456789abcdef".to_vec())));
    let ids = ["fingerprint:00", "subject_cn:alice", "san_dns:alice.test"];
    assert_eq!(find(Certificate, &ids, now()), (Some("san_dns:alice.test alice".to_owned()), None));
    assert_eq!(find(Certificate, &ids, now() - DAY).0.as_deref(), Some("subject_cn:alice alice"));
    let many: Vec<_> = std::iter::repeat_n("x", 64).chain(["san_dns:alice.test"]).collect();
    assert_eq!(find(Certificate, &many, now()), (None, None));
    assert_eq!(find(Certificate, &many[1..], now()).0.as_deref(), Some("san_dns:alice.test alice"));
    // Something stands in for what nobody has.
    for name in ["al", "bob", "k1", "ALICE", ""] {
        assert_eq!(find(Password, &[name], now()), (None, Some(HASH.into())), "{name}");
    }
    let (nobody, secret) = find(Hmac, &["alice"], now() + DAY);
    assert_eq!((nobody, secret.as_ref().map(Vec::len)), (None, Some(32)), "expired");
    assert_eq!(secret, find(Hmac, &["alice"], now() + DAY).1, "always the same one");
    assert_ne!(secret, find(Hmac, &["bob"], now()).1);
    assert_eq!(find(Password, &[], now()).0, None);
}

#[tokio::test]
async fn what_stands_in_is_a_hash() {
    let read = |found: Found| {
        let hash = String::from_utf8(found.secret.unwrap()).unwrap();
        wasmgate_crypto::StoredPassword::read(&hash).map(|_| hash)
    };
    let ids = ["alice".to_owned()];
    let of = async |book: &Book| read(book.find(CredentialKind::Password, &ids, now()).unwrap());
    assert!(of(&without_store()).await.is_ok(), "nobody has a password");
    let (_folder, book) = with_store();
    assert_eq!(of(&book).await, of(&without_store()).await);
}

#[test]
fn what_the_config_no_longer_says_is_no_good() {
    let book = without_store();
    let mut changed = config(None);
    changed.declared[0].credentials[0].term.expires = Some(now());
    book.put(book.prepare(&changed, None).unwrap());
    assert_eq!(who(&book, "alice-key", now()), None);
    assert_eq!(who(&book, "alice-key", now() - Duration::from_secs(1)).as_deref(), Some("k1 alice"));
    book.put(book.prepare(&Consumers::default(), None).unwrap());
    assert_eq!(who(&book, "alice-key", now() - DAY), None);
}

#[tokio::test]
async fn a_key_is_issued_used_rotated_and_revoked() {
    let (folder, book) = with_store();
    book.set(Consumer { groups: vec!["g".to_owned()], ..consumer("bob") }).await.unwrap();
    let first = book.issue("bob", Some(now() + DAY * 10), now()).await.unwrap();
    assert_eq!(who(&book, &first.key, now()), Some(format!("{} bob", first.id)));
    assert_eq!(who(&book, &first.key, now() + DAY * 10), None, "expired");
    let end = if first.key.ends_with('0') { "1" } else { "0" };
    assert_eq!(who(&book, &format!("{}{end}", &first.key[..53]), now()), None, "mistyped");
    let forged = crate::api_key::complete(first.key[..16].to_owned() + &"0".repeat(32));
    assert_eq!(crate::api_key::form(&forged), Form::Own(&first.id));
    assert_eq!(who(&book, &forged, now()), None, "another secret");

    let second = book.rotate("bob", &first.id, Terms::default(), now() + DAY).await.unwrap();
    assert_eq!(second.expires, Some(now() + DAY * 11), "as long as the first was made for");
    for (at, good) in [(1, true), (2, false)] {
        assert_eq!(who(&book, &first.key, now() + DAY * at).is_some(), good, "{at}");
        assert!(who(&book, &second.key, now() + DAY * at).is_some());
    }
    let refused = book.rotate("bob", &first.id, Terms::default(), now() + DAY).await.err();
    assert_eq!(refused, Some(Refused::Replaced));
    let refused = book.rotate("bob", &first.id, Terms::default(), now() + DAY * 2).await.err();
    assert_eq!(refused, Some(Refused::Expired));
    let states = |at| {
        let keys = book.keys("bob", now() + at).unwrap();
        keys.iter().map(|key| key.standing.state).collect::<Vec<_>>()
    };
    assert_eq!(states(DAY), [State::Replaced, State::Active]);
    assert_eq!(states(DAY * 2), [State::Expired, State::Active]);

    assert_eq!(book.revoke("alice", &second.id).await, Err(Refused::UnknownKey), "not hers");
    book.revoke("bob", &second.id).await.unwrap();
    assert_eq!(who(&book, &second.key, now() + DAY), None);
    assert_eq!(who(&again(&folder), &second.key, now() + DAY), None);
    assert!(who(&again(&folder), &first.key, now() + DAY).is_some(), "in its grace");
}

#[tokio::test]
async fn a_key_that_is_still_good_gets_another_end() {
    let (folder, book) = with_store();
    let key = book.issue("alice", Some(now() + DAY), now()).await.unwrap();
    let set = async |id: &str, expires, at| book.set_end("alice", id, expires, at).await;
    let facts = set(&key.id, Some(now() + DAY * 5), now()).await.unwrap();
    assert_eq!((facts.standing.term.expires, facts.standing.state), (Some(now() + DAY * 5), State::Active));
    assert!(book.keys("alice", now()).unwrap().contains(&facts));
    assert!(who(&book, &key.key, now() + DAY * 4).is_some());
    assert_eq!(who(&again(&folder), &key.key, now() + DAY * 5), None);
    assert_eq!(set(&key.id, None, now() + DAY * 5).await, Err(Refused::Expired), "it stays expired");
    set(&key.id, None, now()).await.unwrap();
    assert!(who(&book, &key.key, now() + DAY * 5).is_some());
    assert!(matches!(set(&key.id, Some(now()), now()).await, Err(Refused::Faulty(_))));
    assert_eq!(set("k1", None, now()).await, Err(Refused::OfConfig));
    assert_eq!(set("none", None, now()).await, Err(Refused::UnknownKey));
    book.rotate("alice", &key.id, Terms::default(), now()).await.unwrap();
    assert_eq!(set(&key.id, None, now()).await, Err(Refused::Replaced));
}

#[tokio::test]
async fn what_a_consumer_of_the_config_has_left_is_told_and_removed() {
    let (folder, book) = with_store();
    let key = book.issue("alice", None, now()).await.unwrap();
    let offer = Offer { id: "web".to_owned(), proof: Proof::Certificate, expires: None };
    book.set_credential("alice", offer, now()).await.unwrap();
    let without = Consumers { declared: Vec::new(), ..config(Some(folder.path().join("store"))) };
    book.put(book.prepare(&without, None).unwrap());
    assert_eq!(book.keys("alice", now()).unwrap()[0].id, key.id);
    assert_eq!(&*book.credentials("alice", now()).unwrap()[0].id, "web");
    book.remove("alice").await.unwrap();
    assert_eq!(book.keys("alice", now()), Err(Refused::UnknownConsumer));
    assert_eq!(book.credentials("alice", now()), Err(Refused::UnknownConsumer));
}

#[tokio::test]
async fn a_leaked_key_is_replaced_without_a_grace() {
    let (_folder, book) = with_store();
    let first = book.issue("alice", None, now()).await.unwrap();
    let terms = Terms { expires: Some(now() + DAY), grace: Some(Duration::ZERO) };
    let second = book.rotate("alice", &first.id, terms, now()).await.unwrap();
    assert_eq!(who(&book, &first.key, now()), None);
    assert!(who(&book, &second.key, now()).is_some());
    assert_eq!((second.expires, who(&book, &second.key, now() + DAY)), (Some(now() + DAY), None));
}

#[tokio::test]
async fn the_next_process_knows_all_of_it() {
    let (folder, book) = with_store();
    let bob = Consumer {
        custom_id: Some("u-2".to_owned()),
        groups: vec!["a".to_owned(), "b".to_owned()],
        plan: Some("free".to_owned()),
        metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        ..consumer("bob")
    };
    book.set(bob.clone()).await.unwrap();
    let issued = book.issue("bob", None, now()).await.unwrap();
    let next = again(&folder);
    assert_eq!(who(&next, &issued.key, now()), Some(format!("{} bob", issued.id)));
    assert_eq!(*next.by_custom_id("u-2").unwrap().unwrap(), bob);
    assert_eq!(next.keys("bob", now()).unwrap(), book.keys("bob", now()).unwrap());
    let file = folder.path().join("store");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    let secret = &issued.key.as_bytes()[16..48];
    assert!(!bytes.windows(secret.len()).any(|window| window == secret), "only its digest is kept");
}

#[tokio::test]
async fn the_config_has_the_word_about_its_consumers() {
    let (folder, book) = with_store();
    assert_eq!(book.set(consumer("alice")).await, Err(Refused::OfConfig));
    assert_eq!(book.remove("alice").await, Err(Refused::OfConfig));
    assert_eq!(book.revoke("alice", "k1").await, Err(Refused::OfConfig));
    assert_eq!(book.rotate("alice", "k1", Terms::default(), now()).await.err(), Some(Refused::OfConfig));
    let issued = book.issue("alice", None, now()).await.unwrap();
    let found = book.verify(&issued.key, now()).unwrap().unwrap();
    assert_eq!(found.consumer.plan.as_deref(), Some("free"));
    book.set(consumer("bob")).await.unwrap();

    // Bob comes into the config, and Alice goes.
    let mut changed = config(Some(folder.path().join("store")));
    let bob = Consumer { groups: vec!["config".to_owned()], ..consumer("bob") };
    changed.declared[0] = Declared { consumer: Arc::new(bob), credentials: Vec::new() };
    let of_bob = book.issue("bob", None, now()).await.unwrap();
    book.put(book.prepare(&changed, None).unwrap());
    let found = book.verify(&of_bob.key, now()).unwrap().unwrap();
    assert_eq!(found.consumer.groups, ["config"]);
    assert_eq!(who(&book, &issued.key, now()), None, "her key rests");
    assert_eq!(book.entries().unwrap().len(), 1);
    // Another Alice does not get the first one's keys.
    book.set(consumer("alice")).await.unwrap();
    assert_eq!(who(&book, &issued.key, now()), None);
    assert_eq!(book.keys("alice", now()).unwrap(), []);
}

#[tokio::test]
async fn a_removed_consumer_leaves_nothing() {
    let (_folder, book) = with_store();
    book.set(Consumer { custom_id: Some("u-2".to_owned()), ..consumer("bob") }).await.unwrap();
    let issued = book.issue("bob", None, now()).await.unwrap();
    book.set(Consumer { custom_id: Some("u-3".to_owned()), ..consumer("bob") }).await.unwrap();
    assert!(who(&book, &issued.key, now()).is_some(), "it is the same one");
    assert_eq!(book.by_custom_id("u-2"), Ok(None));
    book.remove("bob").await.unwrap();
    assert_eq!(who(&book, &issued.key, now()), None);
    assert_eq!((book.named("bob"), book.by_custom_id("u-3")), (Ok(None), Ok(None)));
    assert_eq!(book.remove("bob").await, Err(Refused::UnknownConsumer));
    book.set(consumer("bob")).await.unwrap();
    assert_eq!(who(&book, &issued.key, now()), None);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let (_folder, book) = with_store();
    let with = |custom_id: Option<&str>, plan: Option<&str>, group: &str| Consumer {
        custom_id: custom_id.map(str::to_owned),
        plan: plan.map(str::to_owned),
        groups: vec![group.to_owned()],
        ..consumer("bob")
    };
    let comma = "groups[0] holds a comma, which stands between groups";
    assert_eq!(book.set(with(None, None, "a,b")).await, Err(Refused::Faulty(comma.to_owned())));
    assert_eq!(book.set(with(None, Some("none"), "a")).await, Err(Refused::UnknownPlan));
    assert_eq!(book.set(with(Some("u-1"), None, "a")).await, Err(Refused::TakenCustomId));
    book.set(with(Some("u-2"), None, "a")).await.unwrap();
    book.set(with(Some("u-2"), None, "b")).await.unwrap();
    let eve = Consumer { name: "eve".to_owned(), ..with(Some("u-2"), None, "a") };
    assert_eq!(book.set(eve).await, Err(Refused::TakenCustomId));
    assert_eq!(book.issue("eve", None, now()).await.err(), Some(Refused::UnknownConsumer));
    let over = Refused::Faulty("expires is over".to_owned());
    assert_eq!(book.issue("bob", Some(now()), now()).await.err(), Some(over));
    let book = without_store();
    assert_eq!(book.set(consumer("bob")).await, Err(Refused::NoStore));
    assert_eq!(book.issue("alice", None, now()).await.err(), Some(Refused::NoStore));
    assert_eq!(book.revoke("alice", "x").await, Err(Refused::NoStore));
    let states: Vec<_> = book.keys("alice", now()).unwrap().iter().map(|key| key.standing.state).collect();
    assert_eq!(states, [State::Disabled, State::Active]);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_changes_nothing() {
    let (folder, book) = with_store();
    book.set(consumer("bob")).await.unwrap();
    let issued = book.issue("bob", None, now()).await.unwrap();
    // Another process is at it for longer than anybody waits.
    let held = redb::Database::open(folder.path().join("store")).unwrap();
    assert!(matches!(book.revoke("bob", &issued.id).await, Err(Refused::Unavailable(_))));
    assert!(matches!(book.issue("bob", None, now()).await, Err(Refused::Unavailable(_))));
    assert!(who(&book, &issued.key, now()).is_some());
    drop(held);
    book.revoke("bob", &issued.id).await.unwrap();
    assert_eq!(who(&book, &issued.key, now()), None);
}

#[tokio::test]
async fn what_another_process_changes_is_learnt() {
    let (folder, first) = with_store();
    let custom_id = Some("u-2".to_owned());
    first.set(Consumer { custom_id, ..consumer("bob") }).await.unwrap();
    let issued = first.issue("bob", None, now()).await.unwrap();
    let kept = first.issue("bob", None, now()).await.unwrap();
    let second = again(&folder);
    first.revoke("bob", &issued.id).await.unwrap();
    first.set(Consumer { groups: vec!["g".to_owned()], ..consumer("bob") }).await.unwrap();
    assert!(who(&second, &issued.key, now()).is_some(), "it does not know yet");
    let of_second = second.issue("bob", None, now()).await.unwrap();
    assert_eq!(who(&second, &issued.key, now()), None);
    assert!(who(&second, &kept.key, now()).is_some() && who(&second, &of_second.key, now()).is_some());
    assert_eq!(second.named("bob").unwrap().unwrap().groups, ["g"]);
    assert_eq!(second.by_custom_id("u-2"), Ok(None));
    first.refresh().await.unwrap();
    assert!(who(&first, &of_second.key, now()).is_some());
    first.remove("bob").await.unwrap();
    second.refresh().await.unwrap();
    assert_eq!((who(&second, &kept.key, now()), second.named("bob")), (None, Ok(None)));
    let modified = || std::fs::metadata(folder.path().join("store")).unwrap().modified().unwrap();
    let before = modified();
    first.refresh().await.unwrap();
    again(&folder).refresh().await.unwrap();
    let opened = modified();
    second.refresh().await.unwrap();
    first.refresh().await.unwrap();
    assert!(before <= opened);
    assert_eq!(opened, modified(), "who only reads changes nothing");
}

#[tokio::test]
async fn keys_that_are_long_over_go() {
    let (_folder, book) = with_store();
    book.issue("alice", Some(now() + DAY), now()).await.unwrap();
    book.issue("alice", None, now() + DAY * 30).await.unwrap();
    assert_eq!(book.keys("alice", now()).unwrap().len(), 4);
    book.issue("alice", None, now() + DAY * 31).await.unwrap();
    assert_eq!(book.keys("alice", now()).unwrap().len(), 4);
}

#[test]
fn a_file_that_is_no_store_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    std::fs::write(&path, "no store").unwrap();
    let book = Book::default();
    let fault = book.prepare(&config(Some(path.clone())), None).err().unwrap();
    assert!(fault.starts_with(&format!("{} cannot be used: ", path.display())), "{fault}");
    let nowhere = folder.path().join("no/store");
    assert!(book.prepare(&config(Some(nowhere)), None).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"no store");
}

/// A book of a gateway whose store is in this Redis, read.
async fn shared(redis: &wasmgate_tests::Redis, stale: Duration) -> Book {
    share(redis, &Consumers { store: Some(ConsumerStore::Redis(0)), stale, ..config(None) }).await
}

async fn share(redis: &wasmgate_tests::Redis, settings: &Consumers) -> Book {
    let endpoints = vec![config::Target::Address(redis.address)];
    let book = Book::default();
    let redis = Redis::new(to(config::RedisKind::Single, endpoints), Arc::default());
    let pages = book.prepare(settings, Some(redis)).unwrap();
    let _ = book.read(&pages).await;
    book.put(pages);
    book
}

#[tokio::test]
async fn gateways_that_share_a_redis_share_consumers_and_keys() {
    let Some(program) = peer("redis-server") else { return };
    let redis = wasmgate_tests::Redis::start(program, &[]);
    let (first, second) = (shared(&redis, DAY).await, shared(&redis, DAY).await);
    let custom_id = Some("u-2".to_owned());
    first.set(Consumer { custom_id: custom_id.clone(), ..consumer("bob") }).await.unwrap();
    let issued = first.issue("bob", None, now()).await.unwrap();
    assert_eq!(who(&first, &issued.key, now()), Some(format!("{} bob", issued.id)));
    assert_eq!(who(&second, &issued.key, now()), None, "it does not know yet");
    second.refresh().await.unwrap();
    assert!(who(&second, &issued.key, now()).is_some());
    assert_eq!(second.keys("bob", now()).unwrap(), first.keys("bob", now()).unwrap());

    second.set_end("bob", &issued.id, Some(now() + DAY), now()).await.unwrap();
    first.refresh().await.unwrap();
    assert_eq!(who(&first, &issued.key, now() + DAY), None, "it has the end that the other has set");
    // What one changes, the other knows when it is to change something.
    first.revoke("bob", &issued.id).await.unwrap();
    let gone = second.rotate("bob", &issued.id, Terms::default(), now()).await.err();
    assert_eq!(gone, Some(Refused::UnknownKey));
    assert_eq!(who(&second, &issued.key, now()), None);
    let eve = Consumer { custom_id, ..consumer("eve") };
    assert_eq!(second.set(eve.clone()).await, Err(Refused::TakenCustomId));
    first.remove("bob").await.unwrap();
    second.set(eve).await.unwrap();
    assert_eq!(second.issue("bob", None, now()).await.err(), Some(Refused::UnknownConsumer));
    let kept = shared(&redis, DAY).await;
    assert_eq!(kept.entries().unwrap(), second.entries().unwrap());
    let names: Vec<_> = redis.ask(&["--scan"]).lines().map(str::to_owned).collect();
    assert!(names.iter().all(|name| name.starts_with("wasmgate:{consumers}:")), "{names:?}");
}

#[tokio::test]
async fn who_changes_at_the_same_time_loses_nothing() {
    let Some(program) = peer("redis-server") else { return };
    let redis = wasmgate_tests::Redis::start(program, &[]);
    let books = [shared(&redis, DAY).await, shared(&redis, DAY).await, shared(&redis, DAY).await];
    let change = async |place: usize, book: &Book| {
        let mut keys = Vec::new();
        let mut taken = 0;
        for turn in 0..20 {
            let name = format!("of-{place}-{turn}");
            // All of them want this one.
            let custom_id = Some(format!("x-{turn}"));
            match book.set(Consumer { custom_id, ..consumer(&name) }).await {
                Err(Refused::TakenCustomId) => taken += 1,
                set => set.unwrap(),
            }
            keys.push(book.issue("alice", None, now()).await.unwrap());
        }
        (keys, taken)
    };
    let [a, b, c] = &books;
    let done = tokio::join!(change(0, a), change(1, b), change(2, c));
    assert_eq!(done.0.1 + done.1.1 + done.2.1, 40, "one in three has it");
    for book in &books {
        book.refresh().await.unwrap();
        for issued in [&done.0.0, &done.1.0, &done.2.0].into_iter().flatten() {
            assert!(who(book, &issued.key, now()).is_some());
        }
        assert_eq!(book.entries().unwrap().len(), 21);
    }
    let key = &done.0.0[0];
    let [b, c] = [b, c].map(|book| book.rotate("alice", &key.id, Terms::default(), now()));
    let (b, c) = tokio::join!(b, c);
    let rotated = [b, c].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(rotated, [Refused::Replaced], "once");
}

#[tokio::test]
async fn what_is_known_of_a_redis_that_is_gone_is_good_for_a_while() {
    let Some(program) = peer("redis-server") else { return };
    let mut redis = wasmgate_tests::Redis::start(program, &["--appendonly", "yes"]);
    let book = shared(&redis, DAY).await;
    book.set(consumer("bob")).await.unwrap();
    let issued = book.issue("bob", None, now()).await.unwrap();
    let other = crate::api_key::make(&mut rand::rng());
    redis.kill();
    assert!(matches!(book.refresh().await, Err(Refused::Unavailable(_))));
    assert!(who(&book, &issued.key, now()).is_some());
    assert_eq!(who(&book, &other, now()), None);
    assert!(matches!(book.revoke("bob", &issued.id).await, Err(Refused::Unavailable(_))));
    assert!(matches!(book.issue("bob", None, now()).await, Err(Refused::Unavailable(_))));
    assert!(who(&book, &issued.key, now()).is_some(), "nothing has changed");

    let unknown = shared(&redis, DAY).await;
    for key in [&issued.key, &other] {
        assert!(unknown.verify(key, now()).is_err(), "never read");
    }
    assert_eq!(who(&unknown, "alice-key", now()).as_deref(), Some("k1 alice"), "the config's");
    assert!(unknown.named("bob").is_err() && unknown.by_custom_id("u-9").is_err());

    redis.restart();
    while book.refresh().await.is_err() || unknown.refresh().await.is_err() {}
    for book in [&book, &unknown] {
        assert!(who(book, &issued.key, now()).is_some());
        assert_eq!(who(book, &other, now()), None);
    }
}
