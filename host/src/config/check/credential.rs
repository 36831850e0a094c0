//! What consumers are known by.

use std::time::SystemTime;

use super::{Check, KeyPath, raw};
use crate::{
    api_key::{self, Digest, Form},
    config::{
        CertificateName, CredentialKind,
        consumers::{Term, name_fault},
        credential::{Credential, Proof, hash_fault, hmac_secret, username_fault},
    },
};

const TIME: &str = "a time such as \"2027-01-01T00:00:00Z\"";
const DIGEST: &str = "\"sha256:\" and 64 hexadecimal digits";

impl Check<'_> {
    pub(super) fn credential(&mut self, path: &KeyPath, raw: raw::Credential) -> Option<Credential> {
        self.keys_of_others(path, &raw);
        let (id, proof) = match raw.kind {
            CredentialKind::Key => self.api_key(path, &raw)?,
            CredentialKind::Password => self.password(path, &raw)?,
            CredentialKind::Hmac => self.hmac(path, &raw)?,
            CredentialKind::Certificate => self.certificate(path, &raw)?,
        };
        let mut time = |key, text: Option<String>| self.time(&path.key(key), &text?);
        let term =
            Term { not_before: time("not_before", raw.not_before), expires: time("expires", raw.expires) };
        if let (Some(begin), Some(end)) = (term.not_before, term.expires)
            && end <= begin
        {
            self.fault(&path.key("expires"), "is not after `not_before`");
        }
        Some(Credential { id: id.into(), proof, term, enabled: raw.enabled })
    }

    /// What is said that another kind has.
    fn keys_of_others(&mut self, path: &KeyPath, raw: &raw::Credential) {
        use CredentialKind::{Certificate, Hmac, Key, Password};
        let own: [(&str, bool, &[CredentialKind]); 5] = [
            ("key", raw.key.is_some(), &[Key]),
            ("hash", raw.hash.is_some(), &[Key, Password]),
            ("id", raw.id.is_some(), &[Key, Hmac]),
            ("username", raw.username.is_some(), &[Password]),
            ("secret", raw.secret.is_some(), &[Hmac]),
        ];
        let names = certificate_names(raw).map(|(name, _)| (name.word(), true, &[Certificate][..]));
        let given = own.into_iter().chain(names).filter(|(_, given, _)| *given);
        let of_others = given.filter(|(_, _, kinds)| !kinds.contains(&raw.kind));
        for (key, _, kinds) in of_others.collect::<Vec<_>>() {
            let kinds: Vec<_> = kinds.iter().map(|kind| format!("{:?}", kind.word())).collect();
            self.fault(&path.key(key), format!("`{key}` is for `kind = {}`", kinds.join(" and ")));
        }
    }

    fn api_key(&mut self, path: &KeyPath, raw: &raw::Credential) -> Option<(String, Proof)> {
        let (digest, id) = match (&raw.key, &raw.hash) {
            (Some(key), None) => self.key(&path.key("key"), key)?,
            (None, Some(text)) => {
                let digest = |text: &str| {
                    let digest = text.strip_prefix("sha256:").and_then(Digest::from_hex);
                    digest.ok_or_else(|| format!("expected {DIGEST}"))
                };
                (self.parsed(&path.key("hash"), text, DIGEST, digest)?, None)
            }
            _ => {
                self.fault(path, "expected exactly one of `key` and `hash`");
                return None;
            }
        };
        let is_new = self.taken.digests.insert(digest);
        if !is_new {
            self.fault(path, "another credential has the same key");
        }
        let id = raw.id.clone().or(id).unwrap_or_else(|| digest.hex().chars().take(12).collect());
        if let Some(fault) = name_fault(&id) {
            self.fault(&path.key("id"), fault);
        }
        if !self.taken.ids.insert((CredentialKind::Key, id.clone())) && is_new {
            self.fault(&path.key("id"), "another credential has this id");
        }
        Some((id, Proof::Key(digest)))
    }

    /// Its digest, and the id that is in it.
    fn key(&mut self, path: &KeyPath, key: &str) -> Option<(Digest, Option<String>)> {
        let fault = match (self.source.is_hidden(path), api_key::form(key)) {
            (false, _) => {
                "a key is a secret: take it from `${env:NAME}` or `${file:PATH}`, or give its `hash`"
            }
            (true, Form::Mistyped) => "this key of the gateway's is mistyped: its checksum is another one",
            (true, _) if key.is_empty() || key.len() > api_key::LONGEST => "a key has from 1 to 4096 bytes",
            (true, Form::Own(id)) => return Some((Digest::of(key), Some(id.to_owned()))),
            (true, Form::Other) => return Some((Digest::of(key), None)),
        };
        self.fault(path, fault);
        None
    }

    fn password(&mut self, path: &KeyPath, raw: &raw::Credential) -> Option<(String, Proof)> {
        let (Some(username), Some(hash)) = (&raw.username, &raw.hash) else {
            self.fault(path, "a password has `username` and `hash`");
            return None;
        };
        if let Some(fault) = hash_fault(hash) {
            self.fault(&path.key("hash"), fault);
        }
        self.claim(&path.key("username"), CredentialKind::Password, username, username_fault(username));
        Some((username.clone(), Proof::Password(hash.as_str().into())))
    }

    fn hmac(&mut self, path: &KeyPath, raw: &raw::Credential) -> Option<(String, Proof)> {
        let (Some(id), Some(text)) = (&raw.id, &raw.secret) else {
            self.fault(path, "what signs has `id` and `secret`");
            return None;
        };
        let place = path.key("secret");
        let secret = match self.source.is_hidden(&place) {
            false => Err("has to be taken from `${env:NAME}` or `${file:PATH}`"),
            true => hmac_secret(text),
        };
        let secret = secret.map_err(|fault| self.fault(&place, fault)).ok();
        self.claim(&path.key("id"), CredentialKind::Hmac, id, name_fault(id));
        Some((id.clone(), Proof::Hmac(secret?)))
    }

    fn certificate(&mut self, path: &KeyPath, raw: &raw::Credential) -> Option<(String, Proof)> {
        let names: Vec<_> = certificate_names(raw).collect();
        let [(name, text)] = names[..] else {
            let words = CertificateName::ALL.map(|name| format!("`{}`", name.word()));
            self.fault(path, format!("a certificate has exactly one of {}", words.join(", ")));
            return None;
        };
        let place = path.key(name.word());
        let id = name.id(text).map_err(|fault| self.fault(&place, fault)).ok()?;
        self.claim(&place, CredentialKind::Certificate, &id, None);
        Some((id, Proof::Certificate))
    }

    /// No two of a kind are called the same.
    fn claim(&mut self, path: &KeyPath, kind: CredentialKind, id: &str, fault: Option<&'static str>) {
        let is_new = self.taken.ids.insert((kind, id.to_owned()));
        let taken = (!is_new).then_some("another credential has this already");
        if let Some(fault) = fault.or(taken) {
            self.fault(path, fault);
        }
    }

    fn time(&mut self, path: &KeyPath, text: &str) -> Option<SystemTime> {
        self.parsed(path, text, TIME, |text| {
            humantime::parse_rfc3339(text).map_err(|_| format!("expected {TIME}, found {text:?}"))
        })
    }
}

/// Of which kinds a plugin may ask.
pub(super) fn granted(raw: &raw::ConsumerGrant) -> Option<Vec<CredentialKind>> {
    match raw {
        raw::ConsumerGrant::All(false) => None,
        // What is found by these is no secret.
        raw::ConsumerGrant::All(true) => Some(vec![CredentialKind::Key, CredentialKind::Certificate]),
        raw::ConsumerGrant::Kinds(kinds) => Some(kinds.clone()),
    }
}

fn certificate_names(raw: &raw::Credential) -> impl Iterator<Item = (CertificateName, &str)> {
    let given = CertificateName::ALL.map(|name| {
        let text = match name {
            CertificateName::Fingerprint => &raw.fingerprint,
            CertificateName::SanUri => &raw.san_uri,
            CertificateName::SanDns => &raw.san_dns,
            CertificateName::SanEmail => &raw.san_email,
            CertificateName::SubjectCn => &raw.subject_cn,
            CertificateName::Subject => &raw.subject,
        };
        Some((name, text.as_deref()?))
    });
    given.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use crate::config::{self, Config, CredentialKind, Problems, Proof};

    const MAIN: &str = r#"
[[listener]]
address = ":1"
[consumers]
file = "more.toml"
[plugin.none]
on_load_error = "disable-route"
[[route]]
name = "all"
plugins = ["none"]
[[consumer.alice.credential]]
kind = "password"
username = "alice"
hash = "$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK"
[[consumer.alice.credential]]
kind = "hmac"
id = "k1"
secret = "${file:secret}"
expires = 2027-01-01T00:00:00Z
[[consumer.alice.credential]]
kind = "certificate"
san_dns = "A.test"
enabled = false
"#;

    fn load(main: &str, more: &str) -> Result<Config, Problems> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "a secret of the tests\n").unwrap();
        fs::write(folder.path().join("short"), "short").unwrap();
        fs::write(folder.path().join("more.toml"), more).unwrap();
        config::parse(main, "main.toml", folder.path())
    }

    /// What is wrong with a credential of Bob's in the file of consumers.
    fn fault(credential: &str) -> String {
        let problems = load(MAIN, &format!("[[consumer.bob.credential]]\n{credential}\n")).unwrap_err();
        let lines: Vec<_> = problems.lines().collect();
        let [only] = &lines[..] else { panic!("{credential}: {lines:?}") };
        only.split_once("consumer.bob.credential[0]").unwrap().1.to_owned()
    }

    #[test]
    fn a_consumer_has_credentials_of_several_kinds() {
        let more = "[[consumer.bob.credential]]\nkind = \"password\"\nusername = \"k1\"\nhash = \"{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\"\n";
        let config = load(MAIN, more).unwrap();
        let [alice, bob] = &config.consumers.declared[..] else { panic!() };
        let known: Vec<_> = alice.credentials.iter().map(|known| (&*known.id, known.proof.kind())).collect();
        use CredentialKind::{Certificate, Hmac, Password};
        assert_eq!(known, [("alice", Password), ("k1", Hmac), ("san_dns:a.test", Certificate)]);
        assert_eq!(alice.credentials[1].proof, Proof::Hmac(b"a secret of the tests".to_vec()));
        assert!(alice.credentials[1].term.expires.is_some() && !alice.credentials[2].enabled);
        assert_eq!(&*bob.credentials[0].id, "k1", "of another kind");
        let shown = format!("{config:?}{}", config::effective(&config.source));
        assert!(!shown.contains("a secret") && !shown.contains("$2y$04"), "{shown}");
    }

    #[test]
    fn what_cannot_be_is_located() {
        let sha = "hash = \"{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\"";
        let taken = "another credential has this already";
        let name = "is empty, longer than 255 bytes or holds a control character";
        for (credential, told) in [
            (format!("kind = \"password\"\nusername = \"alice\"\n{sha}"), format!(".username: {taken}")),
            (
                format!("kind = \"password\"\nusername = \"a:b\"\n{sha}"),
                ".username: holds a colon, which ends a name".to_owned(),
            ),
            (format!("kind = \"password\"\nusername = \" \"\n{sha}"), format!(".username: {name}")),
            ("kind = \"password\"\nusername = \"b\"".to_owned(), ": a password has `username` and `hash`".to_owned()),
            (
                "kind = \"password\"\nusername = \"b\"\nhash = \"sesame\"".to_owned(),
                ".hash: is no hash of bcrypt, Argon2, {SHA} or $apr1$".to_owned(),
            ),
            (
                "kind = \"password\"\nusername = \"b\"\nhash = \"$2y$04$short\"".to_owned(),
                ".hash: is not a whole hash".to_owned(),
            ),
            (
                "kind = \"password\"\nusername = \"b\"\nhash = \"$2y$18$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK\"".to_owned(),
                ".hash: costs more than 17 (bcrypt), or 1 GiB of memory or 100 passes (Argon2)".to_owned(),
            ),
            (
                format!("kind = \"password\"\nusername = \"b\"\n{sha}\nid = \"x\""),
                ".id: `id` is for `kind = \"key\" and \"hmac\"`".to_owned(),
            ),
            ("kind = \"hmac\"\nid = \"k1\"\nsecret = \"${file:secret}\"".to_owned(), format!(".id: {taken}")),
            ("kind = \"hmac\"\nid = \"k2\"".to_owned(), ": what signs has `id` and `secret`".to_owned()),
            (
                "kind = \"hmac\"\nid = \"k2\"\nsecret = \"it stands here for all to read\"".to_owned(),
                ".secret: has to be taken from `${env:NAME}` or `${file:PATH}`".to_owned(),
            ),
            (
                "kind = \"hmac\"\nid = \"k2\"\nsecret = \"${file:short}\"".to_owned(),
                ".secret: has fewer than 16 bytes".to_owned(),
            ),
            ("kind = \"certificate\"\nsan_dns = \"a.TEST\"".to_owned(), format!(".san_dns: {taken}")),
            (
                "kind = \"certificate\"\nfingerprint = \"ab:cd\"".to_owned(),
                ".fingerprint: is not a SHA-256, 64 hexadecimal digits with or without colons".to_owned(),
            ),
            (
                "kind = \"certificate\"\nsan_uri = \"spiffe://corp/*\"".to_owned(),
                ".san_uri: names one URI: there is no `*`".to_owned(),
            ),
            (
                "kind = \"certificate\"\nsan_dns = \"b\"\nsubject_cn = \"b\"".to_owned(),
                ": a certificate has exactly one of `fingerprint`, `san_uri`, `san_dns`, `san_email`, `subject_cn`, `subject`".to_owned(),
            ),
            (
                "kind = \"certificate\"\nsan_dns = \"b\"\nexpires = \"soon\"".to_owned(),
                ".expires: expected a time such as \"2027-01-01T00:00:00Z\", found \"soon\"".to_owned(),
            ),
            (
                "kind = \"key\"\nhash = \"$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK\"".to_owned(),
                ".hash: expected \"sha256:\" and 64 hexadecimal digits".to_owned(),
            ),
        ] {
            assert_eq!(fault(&credential), told, "{credential}");
        }
    }

    #[test]
    fn a_plugin_is_granted_kinds() {
        use CredentialKind::{Certificate, Hmac, Key};
        let granted = |consumers: &str| {
            let main = MAIN.replace("[plugin.none]\n", &format!("[plugin.none]\n{consumers}\n"));
            load(&main, "").map(|config| config.plugins[0].consumers.clone())
        };
        for (consumers, expected) in [
            ("", None),
            ("consumers = false", None),
            ("consumers = true", Some(vec![Key, Certificate])),
            ("consumers = []", Some(Vec::new())),
            ("consumers = [\"hmac\"]", Some(vec![Hmac])),
        ] {
            assert_eq!(granted(consumers).unwrap(), expected, "{consumers}");
        }
        let lines: Vec<_> = granted("consumers = [\"hmacs\"]").unwrap_err().lines().collect();
        assert!(lines.len() == 1 && lines[0].contains("did you mean `hmac`?"), "{lines:?}");
        let lines: Vec<_> = granted("consumers = \"hmac\"").unwrap_err().lines().collect();
        assert!(lines.len() == 1 && lines[0].contains("plugin.none.consumers: expected"), "{lines:?}");
    }

    #[test]
    fn keys_that_seal_are_keys() {
        let folder = tempfile::tempdir().unwrap();
        let encode = |key: Vec<u8>| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, key);
        for (name, key) in [
            ("good", (1..33).collect()),
            ("other", (2..34).collect()),
            ("weak", vec![7; 32]),
            ("short", vec![1, 2]),
        ] {
            fs::write(folder.path().join(name), encode(key)).unwrap();
        }
        let parse = |keys: &str| {
            let main = MAIN.split("[[consumer").next().unwrap();
            let main = main.replace("file = \"more.toml\"", &format!("seal_keys = {keys}"));
            config::parse(&main, "main.toml", folder.path())
        };
        let good = parse("[\"${file:good}\", \"${file:other}\"]").unwrap();
        assert_eq!(good.consumers.seal_keys.0, [(1..33).collect::<Vec<_>>(), (2..34).collect()]);
        let shown = format!("{good:?}{}", config::effective(&good.source));
        assert!(!shown.contains(&encode((1..33).collect())) && !shown.contains("[1, 2"), "{shown}");
        let given = format!("[\"{}\"]", encode((1..33).collect()));
        let many = format!("[{}]", ["\"${file:good}\""; 17].join(", "));
        let no_key = "is not Base64 of 32 random bytes: openssl rand -base64 32";
        for (keys, told) in [
            ("[\"${file:good}\", \"${file:weak}\"]", format!("seal_keys[1]: {no_key}")),
            ("[\"${file:short}\"]", format!("seal_keys[0]: {no_key}")),
            (&given, "seal_keys[0]: has to be taken from `${env:NAME}` or `${file:PATH}`".to_owned()),
            (&many, "seal_keys: expected at most 16 entries".to_owned()),
            ("[]", "seal_keys: expected at least 1 entry".to_owned()),
        ] {
            let lines: Vec<_> = parse(keys).unwrap_err().lines().collect();
            let [only] = &lines[..] else { panic!("{keys}: {lines:?}") };
            assert!(only.contains(&format!("consumers.{told}")), "{only}");
        }
    }

    #[test]
    fn files_of_secrets_are_watched() {
        let config = load(MAIN, "").unwrap();
        let files: Vec<_> = config.files().iter().filter_map(|(file, _)| file.file_name()).collect();
        assert!(files.contains(&Path::new("secret").as_os_str()), "{files:?}");
    }
}
