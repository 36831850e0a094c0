//! Consumers, their credentials and plans: those of the config, and those of the file that it names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use wasmgate_crypto::Sealer;

use super::{Check, DURATION, KeyPath, Section, names, raw};
use crate::{
    api_key::Digest,
    config::{
        CredentialKind, Source,
        consumers::{Consumer, ConsumerStore, Consumers, Declared, Quota, SealKeys, name_fault},
        problem::Document,
        unit,
    },
};

const STALE: Duration = Duration::from_secs(60);
const LEAST_STALE: Duration = Duration::from_secs(1);

/// What no two consumers, or credentials, have alike, in whichever file they stand.
#[derive(Default)]
pub(super) struct Taken {
    names: BTreeSet<String>,
    custom_ids: BTreeSet<String>,
    pub ids: BTreeSet<(CredentialKind, String)>,
    pub digests: BTreeSet<Digest>,
}

impl Check<'_> {
    pub(super) fn consumers(
        &mut self,
        settings: Section<raw::Consumers>,
        plans: Section<BTreeMap<String, Section<raw::Plan>>>,
        declared: Section<BTreeMap<String, Section<raw::Consumer>>>,
    ) -> Consumers {
        let root = KeyPath::root();
        let path = root.key("consumers");
        let settings = self.or_default(&path, settings);
        let grace = self.parsed(&path.key("grace"), &settings.grace.0, DURATION, unit::duration);
        let plans = self.plans(plans);
        let mut declared = self.declared(declared);
        if let Some(file) = &settings.file {
            declared.extend(self.consumer_file(&path.key("file"), file));
        }
        let stale = self.stale(&path, &settings);
        let seal_keys =
            self.seal_keys(&path.key("seal_keys"), settings.seal_keys.as_deref().unwrap_or_default());
        let store = self.consumer_store(&path, settings);
        Consumers { plans, declared, store, stale, grace: grace.unwrap_or_default(), seal_keys }
    }

    fn seal_keys(&mut self, path: &KeyPath, keys: &[String]) -> SealKeys {
        let mut all = Vec::new();
        for (place, text) in keys.iter().enumerate() {
            let path = path.index(place);
            let key = STANDARD.decode(text).ok().filter(|key| Sealer::new(&[key]).is_ok());
            match (self.source.is_hidden(&path), key) {
                (false, _) => self.fault(&path, "has to be taken from `${env:NAME}` or `${file:PATH}`"),
                (true, None) => {
                    self.fault(&path, "is not Base64 of 32 random bytes: openssl rand -base64 32")
                }
                (true, Some(key)) => all.push(key),
            }
        }
        SealKeys(all)
    }

    fn stale(&mut self, path: &KeyPath, settings: &raw::Consumers) -> Duration {
        let Some(stale) = &settings.stale else { return STALE };
        if settings.redis.is_none() {
            self.fault(&path.key("stale"), "`stale` is for a store in a Redis: `redis`");
        }
        let long_enough = |text: &str| match unit::duration(text) {
            // It is asked several times a second, and may be slow for once.
            Ok(stale) if stale < LEAST_STALE => Err(format!("expected at least \"1s\", found {text:?}")),
            parsed => parsed,
        };
        self.parsed(&path.key("stale"), &stale.0, DURATION, long_enough).unwrap_or_default()
    }

    fn consumer_store(&mut self, path: &KeyPath, settings: raw::Consumers) -> Option<ConsumerStore> {
        let redis = settings.redis.map(|name| {
            let path = path.key("redis");
            if settings.store.is_some() {
                self.fault(&path, "there is one store: a file (`store`) or a Redis (`redis`)");
            }
            let known = names(&self.source, "redis");
            self.reference("redis", &known, &path, &name)
        });
        let file = settings.store.map(|store| self.file_path(&store));
        redis.map(ConsumerStore::Redis).or(file.map(ConsumerStore::File))
    }

    fn plans(
        &mut self,
        section: Section<BTreeMap<String, Section<raw::Plan>>>,
    ) -> BTreeMap<String, Arc<[Quota]>> {
        let path = KeyPath::root().key("plan");
        let mut plans = BTreeMap::new();
        for (name, section) in self.or_default(&path, section) {
            let path = path.key(&name);
            if let Some(fault) = name_fault(&name) {
                self.fault(&path, format!("the name of this plan {fault}"));
            }
            let Some(raw) = self.section(&path, section) else { continue };
            let limits = path.key("limits");
            let quotas = raw.limits.iter().enumerate();
            let quotas = quotas.map(|(place, quota)| Quota {
                rate: quota.rate,
                per: self.duration(&limits.index(place), "per", &quota.per),
            });
            plans.insert(name, quotas.collect());
        }
        plans
    }

    fn declared(&mut self, section: Section<BTreeMap<String, Section<raw::Consumer>>>) -> Vec<Declared> {
        let path = KeyPath::root().key("consumer");
        let mut declared = Vec::new();
        for (name, section) in self.or_default(&path, section) {
            let path = path.key(&name);
            if !self.taken.names.insert(name.clone()) {
                self.fault(&path, "the config itself has a consumer of this name");
            }
            let Some(raw) = self.section(&path, section) else { continue };
            declared.push(self.consumer(&path, name, raw));
        }
        declared
    }

    /// What is wrong in the file is located there.
    fn consumer_file(&mut self, path: &KeyPath, name: &str) -> Vec<Declared> {
        let file = self.file_path(name);
        self.read_files.note(file.clone());
        let name = file.display().to_string();
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                let shown = if self.source.is_hidden(path) { "(hidden)" } else { &name };
                self.fault(path, format!("{shown} cannot be read: {error}"));
                return Vec::new();
            }
        };
        let base = file.parent().unwrap_or(Path::new(""));
        let (source, problems) = Source::parse(&text, &name, base);
        let document = Arc::new(Document { name, text });
        if source.value().is_null() {
            self.problems.extend(problems.into_iter().map(|problem| problem.within(&document)));
            return Vec::new();
        }
        let mut inner = Check::against(source, problems, base, &raw::consumer_file_schema());
        inner.plans = self.plans.clone();
        inner.taken = std::mem::take(&mut self.taken);
        let parsed = raw::ConsumerFile::deserialize(inner.source.value());
        let parsed = Section(parsed.map_err(|error| error.to_string()));
        let parsed = inner.section(&KeyPath::root(), parsed);
        let declared = parsed.map(|parsed| inner.declared(parsed.consumer)).unwrap_or_default();
        self.taken = inner.taken;
        self.read_files.extend(inner.source.files());
        self.problems.extend(inner.problems.into_iter().map(|problem| problem.within(&document)));
        declared
    }

    fn consumer(&mut self, path: &KeyPath, name: String, raw: raw::Consumer) -> Declared {
        let raw::Consumer { custom_id, groups, plan, metadata, credential } = raw;
        if let Some(plan) = &plan {
            let known = self.plans.clone();
            self.reference("plan", &known, &path.key("plan"), plan);
        }
        if let Some(id) = &custom_id
            && !self.taken.custom_ids.insert(id.clone())
        {
            self.fault(&path.key("custom_id"), "another consumer has this custom_id");
        }
        let consumer = Consumer { name, custom_id, groups, plan, metadata };
        for (place, fault) in consumer.faults() {
            let place = path.steps().iter().chain(place.steps()).cloned().collect();
            self.fault(&place, fault);
        }
        let credentials = credential.into_iter().enumerate();
        let credentials = credentials.filter_map(|(place, section)| {
            let path = path.key("credential").index(place);
            let raw = self.section(&path, section)?;
            self.credential(&path, raw)
        });
        let credentials = credentials.collect();
        Declared { consumer: Arc::new(consumer), credentials }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use crate::config::{self, Config, ConsumerStore, Problems};

    const MAIN: &str = r#"
[[listener]]
address = ":1"
[consumers]
file = "consumers.toml"
[plan.free]
limits = [{ rate = 60, per = "1m" }, { rate = 1000, per = "24h" }]
[consumer.alice]
custom_id = "u-1"
[[consumer.alice.credential]]
kind = "key"
key = "${file:alice.key}"
[plugin.none]
on_load_error = "disable-route"
[[route]]
name = "all"
plugins = ["none"]
"#;

    fn load(more: &str, file: &str) -> Result<Config, Problems> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("alice.key"), "alice-key\n").unwrap();
        fs::write(folder.path().join("consumers.toml"), file).unwrap();
        config::parse(&format!("{MAIN}{more}"), "main.toml", folder.path())
    }

    /// What is wrong, a line each, by the names of the files.
    fn faults(more: &str, file: &str) -> Vec<String> {
        let lines: Vec<_> = match load(more, file) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.lines().collect(),
        };
        let name = |line: String| match line.split_once("consumers.toml:") {
            Some((_, rest)) => format!("consumers.toml:{rest}"),
            None => line,
        };
        lines.into_iter().map(name).collect()
    }

    #[test]
    fn both_files_make_one_book() {
        let file = "[consumer.bob]\nplan = \"free\"\ngroups = [\"a\"]\nmetadata = { tier = \"1\" }\n[[consumer.bob.credential]]\nkind = \"key\"\nid = \"k9\"\nhash = \"sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855\"\nexpires = 2027-01-01T00:00:00Z\nenabled = false\n";
        let config = load("", file).unwrap();
        let consumers = &config.consumers;
        assert_eq!(consumers.plans["free"][1].per.as_secs(), 86_400);
        let [alice, bob] = &consumers.declared[..] else { panic!("{:?}", consumers.declared) };
        assert_eq!(&*alice.credentials[0].id, "72ee9d4355cc", "the digest's start");
        assert_eq!((bob.consumer.plan.as_deref(), &*bob.consumer.metadata["tier"]), (Some("free"), "1"));
        assert_eq!((&*bob.credentials[0].id, bob.credentials[0].enabled), ("k9", false));
        assert!(bob.credentials[0].term.expires.is_some());
        let files: Vec<_> = config.files().iter().filter_map(|(file, _)| file.file_name()).collect();
        assert!(files.contains(&Path::new("consumers.toml").as_os_str()), "{files:?}");
    }

    #[test]
    fn faults_of_the_file_are_located_there() {
        let file = "[consumer.bob]\nplan = \"fre\"\ngroup = []\n[consumer.alice]\n";
        let found = faults("", file);
        assert_eq!(
            found,
            [
                "consumers.toml:2:8: error: consumer.bob.plan: unknown plan `fre`, did you mean `free`?",
                "consumers.toml:3:1: error: consumer.bob.group: unknown key `group`, did you mean `groups`?",
                "consumers.toml:4:1: error: consumer.alice: the config itself has a consumer of this name",
            ]
        );
        let shown = load("", file).unwrap_err().to_string();
        assert!(shown.contains("2 | plan = \"fre\""), "{shown}");
        assert_eq!(faults("", "[consumer.bob\n").len(), 1);
        assert!(faults("", "[consumer.bob\n")[0].starts_with("consumers.toml:1:"));
        let both = faults("[consumer.eve]\nplan = \"none\"\n", "[plan.x]\n");
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both[0].starts_with("main.toml:") && both[1].starts_with("consumers.toml:1:"), "{both:?}");
    }

    #[test]
    fn nothing_is_there_twice_whichever_file_it_stands_in() {
        let key = "[[consumer.bob.credential]]\nkind = \"key\"\n";
        for (file, told) in [
            ("[consumer.bob]\ncustom_id = \"u-1\"\n".to_owned(), "another consumer has this custom_id"),
            (format!("{key}key = \"${{file:alice.key}}\"\n"), "another credential has the same key"),
            (
                format!("{key}id = \"72ee9d4355cc\"\nhash = \"sha256:{}\"\n", "0".repeat(64)),
                "another credential has this id",
            ),
        ] {
            let found = faults("", &file);
            assert!(found.iter().any(|line| line.contains(told)), "{told}: {found:?}");
        }
    }

    #[test]
    fn a_key_is_no_secret_where_everybody_reads_it() {
        let credential = |text: &str| {
            let found = faults("", &format!("[[consumer.bob.credential]]\nkind = \"key\"\n{text}\n"));
            let [only] = &found[..] else { panic!("{text}: {found:?}") };
            only.split_once("error: ").unwrap().1.to_owned()
        };
        let place = "consumer.bob.credential[0]";
        assert!(credential("key = \"abc\"").contains("a key is a secret"));
        assert!(!credential("key = \"abc\"").contains("abc"));
        let neither = format!("{place}: expected exactly one of `key` and `hash`");
        assert_eq!(credential(""), neither);
        let both = format!("key = \"${{file:alice.key}}\"\nhash = \"sha256:{}\"", "0".repeat(64));
        assert_eq!(credential(&both), neither);
        assert!(credential("hash = \"sha256:00\"").starts_with(&format!("{place}.hash: ")));
        let hash = format!("hash = \"sha256:{}\"\n", "0".repeat(64));
        let wrong = format!("{hash}expires = \"tomorrow\"");
        assert_eq!(
            credential(&wrong),
            format!("{place}.expires: expected a time such as \"2027-01-01T00:00:00Z\", found \"tomorrow\"")
        );
        let order =
            format!("{hash}not_before = \"2027-01-01T00:00:00Z\"\nexpires = \"2026-01-01T00:00:00Z\"");
        assert_eq!(credential(&order), format!("{place}.expires: is not after `not_before`"));
        assert!(credential(&format!("{hash}kind2 = 1")).contains("unknown key"));
    }

    #[test]
    fn a_store_is_a_file_or_in_a_redis() {
        let settings = |text: &str| format!("{text}\n[redis.shared]\nendpoints = [\"127.0.0.1:1\"]\n");
        let folder = tempfile::tempdir().unwrap();
        let parse = |text: &str| {
            let main = MAIN.replace("[consumers]\nfile = \"consumers.toml\"", "[consumers]");
            let main = main.replace("[consumers]", &format!("[consumers]\n{text}"));
            fs::write(folder.path().join("alice.key"), "alice-key\n").unwrap();
            config::parse(&main, "main.toml", folder.path())
        };
        let shared = parse(&settings("redis = \"shared\"")).unwrap().consumers;
        assert_eq!((shared.store, shared.stale.as_secs()), (Some(ConsumerStore::Redis(0)), 60));
        let file = parse("store = \"shared\"").unwrap().consumers.store;
        assert_eq!(file, Some(ConsumerStore::File(folder.path().join("shared"))));
        for (text, told) in [
            ("redis = \"shard\"".to_owned(), "consumers.redis: unknown redis `shard`"),
            (settings("redis = \"shard\""), "unknown redis `shard`, did you mean `shared`?"),
            (settings("redis = \"shared\"\nstore = \"a\""), "consumers.redis: there is one store"),
            (settings("stale = \"1m\""), "consumers.stale: `stale` is for a store in a Redis: `redis`"),
            (
                settings("redis = \"shared\"\nstale = \"10ms\""),
                "consumers.stale: expected at least \"1s\", found \"10ms\"",
            ),
        ] {
            let problems = parse(&text).unwrap_err();
            let lines: Vec<_> = problems.lines().collect();
            let [only] = &lines[..] else { panic!("{text}: {lines:?}") };
            assert!(only.contains(told) && only.starts_with("main.toml:"), "{only}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_told_where_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("alice.key"), "alice-key\n").unwrap();
        let problems = config::parse(MAIN, "main.toml", folder.path()).unwrap_err();
        let lines: Vec<_> = problems.lines().collect();
        let [only] = &lines[..] else { panic!("{lines:?}") };
        assert!(only.starts_with("main.toml:5:8: error: consumers.file: "), "{only}");
        assert!(problems.files().iter().any(|(file, _)| file.ends_with("consumers.toml")));
    }
}
