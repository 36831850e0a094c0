//! What certificates have to be, and whose they are then.

use wasmgate_sdk::{
    Error, Result,
    auth::{Identity, check_name},
    config,
};

use crate::certificate::{Certificate, email};

#[config]
pub struct Rule {
    /// SHA-256 of the certificate, 64 hex digits, with or without colons.
    #[serde(default)]
    fingerprint: Option<String>,
    /// A URI of the certificate, such as a SPIFFE ID. A `*` at the end of a segment of the path stands for its rest.
    #[serde(default)]
    san_uri: Option<String>,
    /// A DNS name of the certificate.
    #[serde(default)]
    san_dns: Option<String>,
    /// An e-mail address of the certificate.
    #[serde(default)]
    san_email: Option<String>,
    /// The common name of its subject.
    #[serde(default)]
    subject_cn: Option<String>,
    /// The whole subject (RFC 4514), such as "CN=alice,O=Acme".
    #[serde(default)]
    subject: Option<String>,
    /// Whose such certificates are.
    consumer: String,
    /// Groups of the consumer, for X-Consumer-Groups.
    #[serde(default)]
    groups: Vec<String>,
    /// Plan of the consumer, for rate-limit.
    #[serde(default)]
    plan: Option<String>,
}

/// A name of a certificate.
#[config]
#[serde(rename_all = "snake_case")]
#[derive(Clone, Copy)]
pub enum Name {
    SanUri,
    SanDns,
    SanEmail,
    SubjectCn,
    Subject,
    Fingerprint,
}

pub struct Rules {
    rules: Vec<Checked>,
    consumer_from: Vec<Name>,
}

/// All that a certificate has to be.
struct Checked {
    fingerprint: Option<String>,
    san_uri: Option<Pattern>,
    san_dns: Option<String>,
    san_email: Option<String>,
    subject_cn: Option<String>,
    subject: Option<String>,
    identity: Identity,
}

impl Rules {
    pub fn new(rules: Vec<Rule>, consumer_from: Vec<Name>) -> Result<Self> {
        let checked = rules.into_iter().enumerate().map(|(place, rule)| {
            rule.checked().map_err(|error| Error::msg(format_args!("rules[{place}]{error}")))
        });
        Ok(Rules { rules: checked.collect::<Result<_>>()?, consumer_from })
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.consumer_from.is_empty()
    }

    /// Whose certificate it is; none where nobody is known by it.
    pub fn identity(&self, certificate: &Certificate) -> Option<Identity> {
        let identity = match self.rules.iter().find(|rule| rule.fits(certificate)) {
            Some(rule) => rule.identity.clone(),
            None => {
                let name = self.consumer_from.iter().find_map(|name| name.of(certificate))?;
                check_name("", name).ok()?;
                Identity::of(name)
            }
        };
        Some(Identity { credential: Some(certificate.fingerprint.clone()), ..identity })
    }
}

impl Name {
    fn of(self, certificate: &Certificate) -> Option<&str> {
        let name = match self {
            Name::SanUri => certificate.uris.first()?,
            Name::SanDns => certificate.dns.first()?,
            Name::SanEmail => certificate.emails.first()?,
            Name::SubjectCn => certificate.common_name.as_ref()?,
            Name::Subject => &certificate.subject,
            Name::Fingerprint => &certificate.fingerprint,
        };
        Some(name.as_str()).filter(|name| !name.is_empty())
    }
}

impl Rule {
    /// An error begins with the key: ".consumer: is empty".
    fn checked(self) -> Result<Checked> {
        let Rule { fingerprint, san_uri, san_dns, san_email, subject_cn, subject, consumer, groups, plan } =
            self;
        let conditions = [&fingerprint, &san_uri, &san_dns, &san_email, &subject_cn, &subject];
        if conditions.iter().all(|condition| condition.is_none()) {
            return Err(Error::msg(": says nothing of what certificates have to be"));
        }
        let names = [("fingerprint", &fingerprint), ("san_uri", &san_uri), ("san_dns", &san_dns)].into_iter();
        let names =
            names.chain([("san_email", &san_email), ("subject_cn", &subject_cn), ("subject", &subject)]);
        for (key, value) in names.chain([("plan", &plan)]) {
            value.as_deref().map_or(Ok(()), |value| check_name(&format!(".{key}"), value))?;
        }
        check_name(".consumer", &consumer)?;
        for (place, group) in groups.iter().enumerate() {
            check_name(&format!(".groups[{place}]"), group)?;
            if group.contains(',') {
                return Err(Error::msg(format_args!(".groups[{place}]: holds a comma")));
            }
        }
        Ok(Checked {
            fingerprint: fingerprint.as_deref().map(digits).transpose()?,
            san_uri: san_uri.as_deref().map(Pattern::new).transpose()?,
            san_dns: san_dns.map(|name| name.to_ascii_lowercase()),
            san_email: san_email.map(|address| email(&address)),
            subject_cn,
            subject,
            identity: Identity { consumer, groups, plan, ..Identity::default() },
        })
    }
}

impl Checked {
    fn fits(&self, certificate: &Certificate) -> bool {
        let Checked { fingerprint, san_uri, san_dns, san_email, subject_cn, subject, .. } = self;
        let is_one_of = |wanted: &Option<String>, names: &[String]| {
            wanted.as_ref().is_none_or(|wanted| names.contains(wanted))
        };
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        is(fingerprint, &certificate.fingerprint)
            && san_uri.as_ref().is_none_or(|pattern| certificate.uris.iter().any(|uri| pattern.fits(uri)))
            && is_one_of(san_dns, &certificate.dns)
            && is_one_of(san_email, &certificate.emails)
            && (subject_cn.is_none() || *subject_cn == certificate.common_name)
            && is(subject, &certificate.subject)
    }
}

/// A URI, of whose path segments may end in a star.
struct Pattern(Vec<String>);

impl Pattern {
    fn new(text: &str) -> Result<Self> {
        let segments: Vec<String> = text.split('/').map(str::to_string).collect();
        // What comes before the third slash is scheme and authority: spiffe://corp/...
        let is_star_good = |(place, segment): (usize, &String)| match segment.find('*') {
            None => true,
            Some(at) => place > 2 && text.contains("://") && at + 1 == segment.len(),
        };
        match segments.iter().enumerate().all(is_star_good) {
            true => Ok(Pattern(segments)),
            false => Err(Error::msg(".san_uri: a * may stand only at the end of a segment of the path")),
        }
    }

    fn fits(&self, uri: &str) -> bool {
        let segments: Vec<&str> = uri.split('/').collect();
        let fits = |(pattern, segment): (&String, &&str)| match pattern.strip_suffix('*') {
            None => pattern == segment,
            // Nothing that a reader might take for another path.
            Some(front) => {
                let rest = segment.strip_prefix(front).unwrap_or_default();
                !rest.is_empty() && !matches!(*segment, "." | "..") && !rest.contains(['%', '?', '#', '\\'])
            }
        };
        segments.len() == self.0.len() && self.0.iter().zip(&segments).all(fits)
    }
}

fn digits(fingerprint: &str) -> Result<String> {
    let digits: String = fingerprint.chars().filter(|c| *c != ':').collect();
    match digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(digits.to_ascii_lowercase()),
        false => Err(Error::msg(".fingerprint: is not a SHA-256, 64 hex digits")),
    }
}
