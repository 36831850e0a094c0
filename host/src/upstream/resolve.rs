//! Asks DNS for the members of an upstream: where they are, how long that holds and when to ask again.

use std::{
    cmp::Reverse,
    fmt,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::stream::{self, StreamExt};
use hickory_resolver::{
    Hosts, NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig},
    net::{
        DnsError, NetError,
        runtime::TokioRuntimeProvider,
        xfer::{DnsHandle, FirstAnswer},
    },
    proto::{
        op::{DnsRequestOptions, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType, rdata::SRV},
    },
    system_conf::parse_resolv_conf,
};

use crate::config::{Dns, Family};

/// What a name stands for: not empty but for a service that says it is not available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// In order, each address once: the same answer in another order is equal.
    pub members: Vec<Found>,
    /// The TTL, within the bounds of the settings.
    pub valid_for: Duration,
    /// Whether all targets of a service could be asked for. Who has an earlier answer should keep it where
    /// not.
    pub complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub address: SocketAddr,
    /// From 1. Of a service: the share of its target among those of the same priority.
    pub weight: u16,
    /// The lowest comes first.
    pub priority: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name does not exist, or has no records of the type.
    Absent { holds: Duration },
    /// The servers could not tell.
    Failed(String),
    /// No server answered.
    Unanswered(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Absent { .. } => f.write_str("no such name, or no address at it"),
            Error::Failed(why) | Error::Unanswered(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

/// Keeps no answers. It belongs to the tokio runtime that it is first used on, where the drivers of its
/// connections run; its futures are Send.
pub struct Resolver {
    /// Pools of one: a pool of several would ask them in an order of its own, and some at once. Below
    /// hickory's own resolver, which has a cache, and loses the way where a service is an alias.
    servers: Vec<NameServerPool<TokioRuntimeProvider>>,
    /// How often the servers are gone through.
    attempts: usize,
    search: Vec<Name>,
    ndots: usize,
    hosts: PathBuf,
    family: Family,
    min_ttl: Duration,
    max_ttl: Duration,
}

/// Targets of a service that are asked for at once.
const AT_ONCE: usize = 16;

impl Resolver {
    /// Reads resolv.conf. Without one, or without a server in it, the server is this machine, as for the C
    /// library: the gateway starts, and what it asks fails until somebody answers there. Fails where a search
    /// domain is none.
    pub fn new(dns: &Dns) -> Result<Self, Error> {
        let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Resolver::from_files(dns, &text, Path::new("/etc/hosts"))
    }

    fn from_files(dns: &Dns, resolv_conf: &str, hosts: &Path) -> Result<Self, Error> {
        let local = |_| parse_resolv_conf(format!("{resolv_conf}\nnameserver {}\n", Ipv4Addr::LOCALHOST));
        let system = parse_resolv_conf(resolv_conf).or_else(local);
        let (config, mut options) = system.map_err(|error| Error::Failed(error.to_string()))?;
        let (domain, mut search, mut servers) = config.into_parts();
        if search.is_empty() {
            search.extend(domain);
        }
        if !dns.servers.is_empty() {
            search.clear();
            servers = dns.servers.iter().map(server).collect();
        }
        let (ndots, attempts) = (options.ndots, options.attempts.max(1));
        options.timeout = dns.timeout;
        let tls = TlsConfig::new().map_err(|error| Error::Failed(error.to_string()))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let pool =
            |server| NameServerPool::from_config([server], context.clone(), TokioRuntimeProvider::default());
        let servers = servers.into_iter().map(pool).collect();
        let (hosts, family) = (hosts.to_owned(), dns.family);
        let (min_ttl, max_ttl) = (dns.min_ttl, dns.max_ttl.max(dns.min_ttl));
        Ok(Resolver { servers, attempts, search, ndots, hosts, family, min_ttl, max_ttl })
    }

    /// The addresses of a host, all of weight 1 and priority 0.
    pub async fn addresses(&self, name: &str, port: u16) -> Result<Resolved, Error> {
        let (addresses, valid_for) = match name.parse() {
            Ok(address) => (vec![address], self.max_ttl),
            Err(_) => self.host(&parse(name)?).await?,
        };
        let found = |address| Found { address: SocketAddr::new(address, port), weight: 1, priority: 0 };
        let members = in_order(addresses.into_iter().map(found));
        Ok(Resolved { members, valid_for, complete: true })
    }

    /// The addresses of the targets of a service, as `_http._tcp.example.com` (RFC 2782).
    pub async fn service(&self, name: &str) -> Result<Resolved, Error> {
        let records = self.search(&parse(name)?, &[RecordType::SRV], false).await?;
        let mut valid_for = self.ttl(&records);
        let targets = records.into_iter().filter_map(|record| match record.data {
            RData::SRV(target) => Some(target),
            _ => None,
        });
        // The root as target: decidedly not available.
        let targets = targets.filter(|srv| !srv.target.is_root()).collect::<Vec<_>>();
        let (unavailable, mut error) = (targets.is_empty(), None);
        let mut members = Vec::new();
        let asked = targets.into_iter().map(|srv| async move { (self.host(&srv.target).await, srv) });
        let mut asked = stream::iter(asked).buffered(AT_ONCE);
        while let Some((found, srv)) = asked.next().await {
            match found {
                Ok((addresses, holds)) => {
                    valid_for = valid_for.min(holds);
                    members.extend(addresses.into_iter().map(|address| Found::new(address, &srv)));
                }
                Err(Error::Absent { holds }) => valid_for = valid_for.min(holds),
                Err(other) => error = Some(other),
            }
        }
        let complete = error.is_none();
        if members.is_empty() && !unavailable {
            return Err(error.unwrap_or(Error::Absent { holds: valid_for }));
        }
        Ok(Resolved { members: in_order(members), valid_for, complete })
    }

    /// The addresses at a name, and for how long.
    async fn host(&self, name: &Name) -> Result<(Vec<IpAddr>, Duration), Error> {
        let (kinds, all): (&[_], _) = match self.family {
            Family::V4Preferred => (&[RecordType::A, RecordType::AAAA], false),
            Family::V6Preferred => (&[RecordType::AAAA, RecordType::A], false),
            Family::V4 => (&[RecordType::A], false),
            Family::V6 => (&[RecordType::AAAA], false),
            Family::Both => (&[RecordType::A, RecordType::AAAA], true),
        };
        if let Some(addresses) = self.in_hosts(name, kinds, all) {
            return Ok((addresses, self.min_ttl));
        }
        // RFC 6761, 6.3: no server is asked where this machine is.
        if name.is_localhost() {
            let local = kinds.iter().map(|kind| match kind {
                RecordType::AAAA => Ipv6Addr::LOCALHOST.into(),
                _ => Ipv4Addr::LOCALHOST.into(),
            });
            return Ok((local.take(if all { kinds.len() } else { 1 }).collect(), self.max_ttl));
        }
        let records = self.search(name, kinds, all).await?;
        Ok((records.iter().filter_map(|record| record.data.ip_addr()).collect(), self.ttl(&records)))
    }

    /// Reads the file each time, as the C library does: an edit shows as soon as the name is asked for.
    fn in_hosts(&self, name: &Name, kinds: &[RecordType], all: bool) -> Option<Vec<IpAddr>> {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(File::open(&self.hosts).ok()?).ok()?;
        let found = kinds.iter().filter_map(|&kind| {
            let lookup = hosts.lookup_static_host(&Query::query(name.clone(), kind))?;
            Some(lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
        });
        let addresses = found.take(if all { kinds.len() } else { 1 }).flatten().collect::<Vec<_>>();
        (!addresses.is_empty()).then_some(addresses)
    }

    /// Goes through the search domains as the C library does: a server that fails at one of them may know the
    /// next, but what is not found then has not been denied; silence ends it.
    async fn search(&self, name: &Name, kinds: &[RecordType], all: bool) -> Result<Vec<Record>, Error> {
        let (mut absent, mut failed) = (self.max_ttl, None);
        for name in self.candidates(name) {
            match self.records(&name, kinds, all).await {
                Err(Error::Absent { holds }) => absent = absent.min(holds),
                Err(error @ Error::Failed(_)) => failed = Some(error),
                decided => return decided,
            }
        }
        Err(failed.unwrap_or(Error::Absent { holds: absent }))
    }

    /// The complete names that a name may stand for (resolv.conf(5), search and ndots).
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut complete = name.clone();
        complete.set_fqdn(true);
        if name.is_fqdn() {
            return vec![complete];
        }
        let searched = self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut names = searched.collect::<Vec<_>>();
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        names.insert(if dots >= self.ndots { 0 } else { names.len() }, complete);
        names.dedup();
        names
    }

    /// The records of the first type that there are any of, or of all types. One type's failure is that of
    /// all: half of the addresses, or those that were not preferred, are not what the name stands for.
    async fn records(&self, name: &Name, kinds: &[RecordType], all: bool) -> Result<Vec<Record>, Error> {
        let (mut records, mut absent) = (Vec::new(), self.max_ttl);
        for &kind in kinds {
            match self.ask(name, kind).await {
                Ok(found) => records.extend(found),
                // Also where the name itself was denied: some servers do that when asked for AAAA (RFC 4074,
                // 4.2).
                Err(Error::Absent { holds }) => absent = absent.min(holds),
                Err(error) => return Err(error),
            }
            if !all && !records.is_empty() {
                break;
            }
        }
        if records.is_empty() { Err(Error::Absent { holds: absent }) } else { Ok(records) }
    }

    /// One server after the other until one can tell, as resolv.conf(5) has it. The records are of the type,
    /// or aliases on the way to them.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Vec<Record>, Error> {
        let mut error = Error::Unanswered("no server to ask".to_owned());
        for server in (0..self.attempts).flat_map(|_| &self.servers) {
            let query = Query::query(name.clone(), kind);
            let answer = server.lookup(query, DnsRequestOptions::default()).first_answer().await;
            let (code, seconds) = match answer {
                Ok(answer) => {
                    let mut records = answer.answers.clone();
                    records.retain(|record| [kind, RecordType::CNAME].contains(&record.record_type()));
                    if records.iter().any(|record| record.record_type() == kind) {
                        return Ok(records);
                    }
                    (answer.response_code, answer.negative_ttl())
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => (none.response_code, none.negative_ttl),
                Err(NetError::Dns(DnsError::ResponseCode(code))) => (code, None),
                Err(other) => {
                    error = Error::Unanswered(other.to_string());
                    continue;
                }
            };
            if let ResponseCode::NoError | ResponseCode::NXDomain = code {
                return Err(Error::Absent { holds: self.clamp(seconds.unwrap_or_default()) });
            }
            error = Error::Failed(format!("the server answered: {code}"));
        }
        Err(error)
    }

    fn ttl(&self, records: &[Record]) -> Duration {
        self.clamp(records.iter().map(|record| record.ttl).min().unwrap_or_default())
    }

    fn clamp(&self, seconds: u32) -> Duration {
        Duration::from_secs(seconds.into()).clamp(self.min_ttl, self.max_ttl)
    }
}

impl Found {
    fn new(address: IpAddr, srv: &SRV) -> Self {
        // RFC 2782 draws from 0 to the sum, both included, and gives the 0 to those of weight 0: as weight 1.
        let weight = srv.weight.max(1);
        Found { address: SocketAddr::new(address, srv.port), weight, priority: srv.priority }
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}

/// Names of hosts may have what is no host name by the book, as underscores.
fn parse(name: &str) -> Result<Name, Error> {
    Name::from_str_relaxed(name).map_err(|error| Error::Failed(error.to_string()))
}

/// Of an address that is found more than once, the best place.
fn in_order(found: impl IntoIterator<Item = Found>) -> Vec<Found> {
    let mut members = found.into_iter().collect::<Vec<_>>();
    members.sort_by_key(|found| (found.address, found.priority, Reverse(found.weight)));
    members.dedup_by_key(|found| found.address);
    members
}

/// When to ask again. Pure: randomness is an argument.
#[derive(Debug, Default)]
pub struct Schedule {
    /// In a row.
    failures: u32,
}

impl Schedule {
    pub const MIN_BACKOFF: Duration = Duration::from_secs(1);
    pub const MAX_BACKOFF: Duration = Duration::from_secs(30);
    /// Up to this share earlier or later, so that gateways that started together do not ask together.
    pub const JITTER: f64 = 0.1;

    /// How long to wait after this outcome; `random` is from 0 to 1. That a name is absent is an answer too.
    /// An incomplete answer is asked for again as after a failure, but no later than it holds.
    pub fn next(&mut self, outcome: &Result<Resolved, Error>, random: f64) -> Duration {
        let wait = match outcome {
            Ok(Resolved { complete: true, valid_for: holds, .. }) | Err(Error::Absent { holds }) => {
                self.failures = 0;
                *holds
            }
            Ok(Resolved { valid_for, .. }) => self.backoff().min(*valid_for),
            Err(Error::Failed(_) | Error::Unanswered(_)) => self.backoff(),
        };
        wait.mul_f64(1.0 + Self::JITTER * (2.0 * random.clamp(0.0, 1.0) - 1.0))
    }

    fn backoff(&mut self) -> Duration {
        let wait = Self::MIN_BACKOFF.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        wait.min(Self::MAX_BACKOFF)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use wasmgate_tests::dns::{self, Failure, NEGATIVE_TTL, TestDns};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn unset() -> Dns {
        let (family, max_ttl) = (Family::V4Preferred, 3600 * S);
        Dns { servers: Vec::new(), family, min_ttl: S, max_ttl, timeout: 5 * S }
    }

    fn settings(servers: &[&TestDns]) -> Dns {
        let servers = servers.iter().map(|server| server.address()).collect();
        Dns { servers, ..unset() }
    }

    fn resolver(dns: &Dns) -> Resolver {
        Resolver::from_files(dns, "", Path::new("/nowhere")).unwrap()
    }

    fn a(last: u8) -> dns::Record {
        dns::Record::A([192, 0, 2, last].into())
    }

    fn aaaa(last: u16) -> dns::Record {
        dns::Record::Aaaa([0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into())
    }

    fn cname(target: &str) -> dns::Record {
        dns::Record::Cname(target.to_owned())
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> dns::Record {
        dns::Record::Srv { priority, weight, port, target: target.to_owned() }
    }

    fn members(resolved: &Resolved) -> Vec<String> {
        resolved.members.iter().map(|found| found.address.to_string()).collect()
    }

    #[tokio::test]
    async fn an_answer_that_changes_is_seen_at_once() {
        let dns = TestDns::start();
        let resolver = resolver(&settings(&[&dns]));
        dns.set("a.test", 60, [a(2), a(1), a(2)]);
        let first = resolver.addresses("a.test", 80).await.unwrap();
        assert_eq!(members(&first), ["192.0.2.1:80", "192.0.2.2:80"]);
        assert_eq!(first.valid_for, 60 * S);
        assert!(first.members.iter().all(|found| (found.weight, found.priority) == (1, 0)));
        dns.set("a.test", 60, [a(1), a(2)]);
        assert_eq!(resolver.addresses("a.test", 80).await.unwrap(), first, "in another order");
        dns.set("a.test", 60, [a(3)]);
        assert_eq!(members(&resolver.addresses("a.test", 80).await.unwrap()), ["192.0.2.3:80"]);
        assert_eq!(dns.count("a.test"), 3, "A is there, so AAAA is not asked for");
    }

    #[tokio::test]
    async fn a_ttl_is_held_within_bounds() {
        let dns = TestDns::start();
        let resolver = resolver(&Dns { min_ttl: 5 * S, max_ttl: 100 * S, ..settings(&[&dns]) });
        for (ttl, valid_for) in [(0, 5), (5, 5), (6, 6), (100, 100), (101, 100), (u32::MAX / 2, 100)] {
            dns.set("a.test", ttl, [a(1)]);
            assert_eq!(resolver.addresses("a.test", 80).await.unwrap().valid_for, valid_for * S, "{ttl}");
        }
    }

    #[tokio::test]
    async fn the_family_decides_which_addresses_count() {
        let dns = TestDns::start();
        dns.set("both.test", 60, [aaaa(1), a(1)]);
        dns.set("four.test", 60, [a(1)]);
        dns.set("six.test", 60, [aaaa(1)]);
        let (four, six) = ("192.0.2.1:80", "[2001:db8::1]:80");
        let cases: [(_, [&[_]; 3]); 5] = [
            (Family::V4Preferred, [&[four], &[four], &[six]]),
            (Family::V6Preferred, [&[six], &[four], &[six]]),
            (Family::V4, [&[four], &[four], &[]]),
            (Family::V6, [&[six], &[], &[six]]),
            (Family::Both, [&[four, six], &[four], &[six]]),
        ];
        for (family, expected) in cases {
            let resolver = resolver(&Dns { family, ..settings(&[&dns]) });
            for (name, expected) in ["both.test", "four.test", "six.test"].into_iter().zip(expected) {
                match resolver.addresses(name, 80).await {
                    Ok(resolved) => assert_eq!(members(&resolved), expected, "{family:?} {name}"),
                    Err(error) => {
                        assert_eq!(error, Error::Absent { holds: S * NEGATIVE_TTL });
                        assert!(expected.is_empty(), "{family:?} {name}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_absent_is_so_for_as_long_as_the_zone_says() {
        let dns = TestDns::start();
        dns.set("empty.test", 60, []);
        let absent = |seconds: u32| Err(Error::Absent { holds: S * seconds });
        let all = resolver(&settings(&[&dns]));
        assert_eq!(all.addresses("nobody.test", 80).await, absent(NEGATIVE_TTL));
        assert_eq!(all.addresses("empty.test", 80).await, absent(NEGATIVE_TTL));
        assert_eq!(all.service("empty.test").await, absent(NEGATIVE_TTL));
        assert_eq!(dns.count("nobody.test"), 2, "one question for each type, and no retry");
        let short = resolver(&Dns { max_ttl: 7 * S, ..settings(&[&dns]) });
        assert_eq!(short.addresses("nobody.test", 80).await, absent(7));
        let long = resolver(&Dns { min_ttl: 40 * S, ..settings(&[&dns]) });
        assert_eq!(long.addresses("nobody.test", 80).await, absent(40));
    }

    #[tokio::test]
    async fn failures_and_silence_are_told_from_absence() {
        let dns = TestDns::start();
        dns.fail("broken.test", Failure::ServFail);
        dns.fail("silent.test", Failure::Silence);
        let resolver = resolver(&Dns { timeout: S / 4, ..settings(&[&dns]) });
        let broken = resolver.addresses("broken.test", 80).await;
        assert!(matches!(broken, Err(Error::Failed(_))), "{broken:?}");
        assert_eq!(dns.count("broken.test"), 2, "tries");
        let silent = resolver.addresses("silent.test", 80).await;
        assert!(matches!(silent, Err(Error::Unanswered(_))), "{silent:?}");
        assert_eq!(dns.count("silent.test"), 2, "tries");
        dns.set("silent.test", 60, [a(1)]);
        assert!(resolver.addresses("silent.test", 80).await.is_ok(), "it is back");
    }

    /// Those who prefer IPv4 must not be sent elsewhere because it could not be asked for.
    #[tokio::test]
    async fn a_failure_is_no_reason_for_the_other_family() {
        let dns = TestDns::start();
        dns.set("six.test", 60, [aaaa(1)]);
        dns.fail("a.test", Failure::ServFail);
        let resolver = resolver(&settings(&[&dns]));
        assert!(resolver.addresses("six.test", 80).await.is_ok());
        assert!(matches!(resolver.addresses("a.test", 80).await, Err(Error::Failed(_))));
    }

    #[tokio::test]
    async fn servers_are_asked_in_their_order_until_one_can_tell() {
        let (first, second) = (TestDns::start(), TestDns::start());
        let resolver = resolver(&Dns { timeout: S / 4, ..settings(&[&first, &second]) });
        second.set("a.test", 60, [a(2)]);
        for failure in [Failure::ServFail, Failure::Silence] {
            first.fail("a.test", failure);
            assert_eq!(members(&resolver.addresses("a.test", 80).await.unwrap()), ["192.0.2.2:80"]);
        }
        assert_eq!(second.count("a.test"), 2);
        first.fail("a.test", Failure::NxDomain);
        assert!(matches!(resolver.addresses("a.test", 80).await, Err(Error::Absent { .. })));
        first.set("a.test", 60, [a(1)]);
        for _ in 0..20 {
            assert_eq!(members(&resolver.addresses("a.test", 80).await.unwrap()), ["192.0.2.1:80"]);
        }
        assert_eq!(second.count("a.test"), 2, "not asked where the first can tell");
    }

    #[tokio::test]
    async fn aliases_are_followed_and_their_ttl_counts() {
        let dns = TestDns::start();
        dns.set("www.test", 60, [cname("edge.test")]);
        dns.set("edge.test", 20, [cname("Host.TEST")]);
        dns.set("host.test", 300, [a(1)]);
        let resolver = resolver(&settings(&[&dns]));
        let found = resolver.addresses("www.test", 80).await.unwrap();
        assert_eq!((members(&found), found.valid_for), (vec!["192.0.2.1:80".to_owned()], 20 * S));
        dns.set("host.test", 300, [aaaa(1)]);
        assert_eq!(members(&resolver.addresses("www.test", 80).await.unwrap()), ["[2001:db8::1]:80"]);
        dns.fail("host.test", Failure::NxDomain);
        let dangling = resolver.addresses("www.test", 80).await;
        assert_eq!(dangling, Err(Error::Absent { holds: S * NEGATIVE_TTL }));
        dns.set("host.test", 300, []);
        let dangling = resolver.addresses("www.test", 80).await;
        assert_eq!(dangling, Err(Error::Absent { holds: S * NEGATIVE_TTL }));
        dns.set("host.test", 300, [cname("www.test")]);
        assert!(resolver.addresses("www.test", 80).await.is_err(), "a circle");
        dns.set("_http._tcp.www.test", 30, [cname("_http._tcp.test")]);
        dns.set("_http._tcp.test", 60, [srv(0, 1, 8080, "one.test")]);
        dns.set("one.test", 60, [a(1)]);
        let found = resolver.service("_http._tcp.www.test").await.unwrap();
        assert_eq!((members(&found), found.valid_for), (vec!["192.0.2.1:8080".to_owned()], 30 * S));
    }

    #[tokio::test]
    async fn answers_of_many_addresses_arrive_whole() {
        let dns = TestDns::start();
        let resolver = resolver(&settings(&[&dns]));
        // 50 fit into a datagram with EDNS, 200 do not.
        for (count, questions) in [(50, 1), (200, 2)] {
            let name = format!("many-{count}.test");
            dns.set(&name, 60, (0..count).map(a));
            assert_eq!(resolver.addresses(&name, 80).await.unwrap().members.len(), usize::from(count));
            assert_eq!(dns.count(&name), questions);
        }
        let target = |number| srv(0, 1, number, "target-with-a-long-name.test");
        dns.set("_http._tcp.test", 60, (1..=100).map(target));
        dns.set("target-with-a-long-name.test", 60, [a(1)]);
        assert_eq!(resolver.service("_http._tcp.test").await.unwrap().members.len(), 100);
    }

    #[tokio::test]
    async fn a_service_is_its_targets_with_port_priority_and_weight() {
        let dns = TestDns::start();
        let resolver = resolver(&settings(&[&dns]));
        let records =
            [srv(1, 60, 8080, "one.test"), srv(2, 0, 9090, "two.test"), srv(1, 0, 8081, "two.test")];
        dns.set("_http._tcp.test", 60, records);
        dns.set("one.test", 50, [a(1), a(2)]);
        dns.set("two.test", 40, [a(3)]);
        let found = resolver.service("_http._tcp.test").await.unwrap();
        let member = |address: &str, weight, priority| {
            let address = address.parse().unwrap();
            Found { address, weight, priority }
        };
        let expected = [
            member("192.0.2.1:8080", 60, 1),
            member("192.0.2.2:8080", 60, 1),
            member("192.0.2.3:8081", 1, 1),
            member("192.0.2.3:9090", 1, 2),
        ];
        assert_eq!(found, Resolved { members: expected.to_vec(), valid_for: 40 * S, complete: true });
        dns.set("_http._tcp.test", 30, [srv(0, 0, 0, "")]);
        let none = Resolved { members: Vec::new(), valid_for: 30 * S, complete: true };
        assert_eq!(resolver.service("_http._tcp.test").await, Ok(none), "decidedly not available");
    }

    #[tokio::test]
    async fn targets_that_are_absent_are_left_out_and_those_that_fail_are_missed() {
        let dns = TestDns::start();
        let resolver = resolver(&Dns { timeout: S / 4, ..settings(&[&dns]) });
        dns.set("_http._tcp.test", 60, [srv(0, 1, 80, "one.test"), srv(0, 1, 80, "gone.test")]);
        dns.set("one.test", 60, [a(1)]);
        let found = resolver.service("_http._tcp.test").await.unwrap();
        assert_eq!(members(&found), ["192.0.2.1:80"]);
        assert_eq!((found.valid_for, found.complete), (S * NEGATIVE_TTL, true));
        for failure in [Failure::ServFail, Failure::Silence] {
            dns.fail("gone.test", failure);
            let found = resolver.service("_http._tcp.test").await.unwrap();
            assert_eq!((members(&found), found.complete), (vec!["192.0.2.1:80".to_owned()], false));
        }
        dns.fail("one.test", Failure::NxDomain);
        let none = resolver.service("_http._tcp.test").await;
        assert!(matches!(none, Err(Error::Unanswered(_))), "{none:?}");
        dns.fail("gone.test", Failure::NxDomain);
        let none = resolver.service("_http._tcp.test").await;
        assert_eq!(none, Err(Error::Absent { holds: S * NEGATIVE_TTL }));
    }

    #[tokio::test]
    async fn search_domains_are_tried_as_the_c_library_does() {
        let dns = TestDns::start();
        let kubernetes = "search ns.svc.test svc.test\nnameserver 192.0.2.53\noptions ndots:5\n";
        let system = Resolver::from_files(&unset(), kubernetes, Path::new("/nowhere")).unwrap();
        assert_eq!((system.ndots, system.search.len(), system.servers.len()), (5, 2, 1));
        let resolver = Resolver {
            search: system.search,
            ndots: system.ndots,
            ..resolver(&Dns { timeout: S / 4, ..settings(&[&dns]) })
        };
        dns.set("web.ns.svc.test", 60, [a(1)]);
        dns.set("web.other.svc.test", 60, [a(2)]);
        dns.set("_http._tcp.web.ns.svc.test", 60, [srv(0, 1, 80, "web.ns.svc.test")]);
        let found = async |name| resolver.addresses(name, 80).await.map(|found| members(&found));
        assert_eq!(found("web").await.unwrap(), ["192.0.2.1:80"]);
        assert_eq!(found("web.other").await.unwrap(), ["192.0.2.2:80"]);
        assert_eq!(members(&resolver.service("_http._tcp.web").await.unwrap()), ["192.0.2.1:80"]);
        dns.set("web.test", 60, [a(3)]);
        assert_eq!(found("web.test").await.unwrap(), ["192.0.2.3:80"]);
        assert_eq!((dns.count("web.test.ns.svc.test"), dns.count("web.test.svc.test")), (2, 2));
        assert_eq!(found("web.test.").await.unwrap(), ["192.0.2.3:80"]);
        assert_eq!(dns.count("web.test.ns.svc.test"), 2, "the name was complete");
        dns.fail("web.ns.svc.test", Failure::ServFail);
        assert!(matches!(found("web").await, Err(Error::Failed(_))), "not: there is no such name");
        dns.set("web.svc.test", 60, [a(4)]);
        assert_eq!(found("web").await.unwrap(), ["192.0.2.4:80"]);
        dns.fail("web.ns.svc.test", Failure::Silence);
        assert!(matches!(found("web").await, Err(Error::Unanswered(_))));
    }

    #[test]
    fn names_with_enough_dots_are_tried_as_they_are_first() {
        let names = |resolv_conf: &str, name: &str| {
            let resolver = Resolver::from_files(&unset(), resolv_conf, Path::new("/nowhere")).unwrap();
            let names = resolver.candidates(&parse(name).unwrap());
            names.iter().map(Name::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("search a.test b.test", "web"), ["web.a.test.", "web.b.test.", "web."]);
        assert_eq!(names("search a.test", "web.c"), ["web.c.", "web.c.a.test."]);
        assert_eq!(names("search a.test\noptions ndots:2", "web.c"), ["web.c.a.test.", "web.c."]);
        assert_eq!(names("domain a.test", "web"), ["web.a.test.", "web."]);
        assert_eq!(names("search .", "web"), ["web."]);
        assert_eq!(names("search a.test", "web."), ["web."]);
        assert_eq!(names("search a.test", "my_web.c.")[0], "my_web.c.");
    }

    #[tokio::test]
    async fn hosts_and_localhost_need_no_server() {
        let mut hosts = tempfile::NamedTempFile::new().unwrap();
        writeln!(hosts, "192.0.2.1 web web.test\n192.0.2.2 Web\n::2 web six # comment").unwrap();
        for resolv_conf in ["", "# nothing\n", "search ns.test\n", "nonsense\n"] {
            let resolver = Resolver::from_files(&unset(), resolv_conf, hosts.path()).unwrap();
            assert_eq!(resolver.servers.len(), 1);
            let web = resolver.addresses("web", 80).await.unwrap();
            assert_eq!(members(&web), ["192.0.2.1:80", "192.0.2.2:80"], "{resolv_conf}");
            assert_eq!(web.valid_for, resolver.min_ttl);
            assert_eq!(members(&resolver.addresses("WEB.test", 80).await.unwrap()), ["192.0.2.1:80"]);
            assert_eq!(members(&resolver.addresses("six", 80).await.unwrap()), ["[::2]:80"]);
            let local = resolver.addresses("localhost", 80).await.unwrap();
            assert_eq!(members(&local), ["127.0.0.1:80"]);
            let local = resolver.addresses("a.localhost", 80).await.unwrap();
            assert_eq!(
                (members(&local), local.valid_for),
                (vec!["127.0.0.1:80".to_owned()], resolver.max_ttl)
            );
        }
        let both = Dns { family: Family::Both, ..unset() };
        let resolver = Resolver::from_files(&both, "", hosts.path()).unwrap();
        let web = resolver.addresses("web", 80).await.unwrap();
        assert_eq!(members(&web), ["192.0.2.1:80", "192.0.2.2:80", "[::2]:80"]);
        writeln!(hosts, "192.0.2.3 six").unwrap();
        let six = resolver.addresses("six", 80).await.unwrap();
        assert_eq!(members(&six), ["192.0.2.3:80", "[::2]:80"], "read again");
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        let resolver = resolver(&unset());
        let found = resolver.addresses("2001:db8::1", 80).await.unwrap();
        assert_eq!((members(&found), found.valid_for), (vec!["[2001:db8::1]:80".to_owned()], 3600 * S));
        assert!(matches!(resolver.addresses("a..test", 80).await, Err(Error::Failed(_))));
    }

    #[test]
    fn futures_may_change_threads_and_run_where_tasks_may_not() {
        fn is_send<F: Future + Send>(future: F) -> F {
            future
        }
        let dns = TestDns::start();
        dns.set("_http._tcp.test", 60, [srv(0, 1, 80, "one.test")]);
        // By TCP too, whose driver is a task.
        dns.set("one.test", 60, (0..200).map(a));
        let resolver = resolver(&settings(&[&dns]));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        let found = runtime.unwrap().block_on(async {
            is_send(resolver.addresses("one.test", 80)).await.unwrap();
            is_send(resolver.service("_http._tcp.test")).await
        });
        assert_eq!(found.unwrap().members.len(), 200);
    }

    fn answer(seconds: u32, complete: bool) -> Result<Resolved, Error> {
        Ok(Resolved { members: Vec::new(), valid_for: S * seconds, complete })
    }

    #[test]
    fn failures_in_a_row_back_off_and_an_answer_ends_that() {
        let mut schedule = Schedule::default();
        let failed = Err(Error::Failed(String::new()));
        let silent = Err(Error::Unanswered(String::new()));
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(schedule.next(&failed, 0.5), wait * S);
        }
        assert_eq!(schedule.next(&silent, 0.5), 30 * S);
        assert_eq!(schedule.next(&answer(60, false), 0.5), 30 * S);
        assert_eq!(schedule.next(&answer(7, false), 0.5), 7 * S);
        assert_eq!(schedule.next(&answer(60, true), 0.5), 60 * S);
        assert_eq!(schedule.next(&silent, 0.5), S);
        assert_eq!(schedule.next(&Err(Error::Absent { holds: 9 * S }), 0.5), 9 * S);
        assert_eq!(schedule.next(&answer(60, false), 0.5), S);
        assert_eq!(schedule.next(&answer(60, true), 0.0), 54 * S);
        assert_eq!(schedule.next(&answer(60, true), 1.0), 66 * S);
    }

    proptest! {
        #[test]
        fn waits_are_within_their_bounds(
            failures in 0..200_u32,
            seconds in 1..10_000_u32,
            random in 0.0..1.0,
        ) {
            let mut schedule = Schedule::default();
            let failed = Err(Error::Failed(String::new()));
            for _ in 0..failures {
                let wait = schedule.next(&failed, random).as_secs_f64();
                prop_assert!((0.9..=33.0).contains(&wait));
            }
            let wait = schedule.next(&answer(seconds, true), random).as_secs_f64() / f64::from(seconds);
            prop_assert!((0.9..=1.1).contains(&wait));
        }

        #[test]
        fn the_order_of_an_answer_does_not_matter(
            found in prop::collection::vec((0..4_u8, 0..3_u16, 1..3_u16), 0..12).prop_map(|found| {
                let member = |(last, priority, weight)| {
                    Found { address: SocketAddr::from(([192, 0, 2, last], 80)), priority, weight }
                };
                found.into_iter().map(member).collect::<Vec<_>>()
            }),
            seed in any::<u64>(),
        ) {
            let mut other = found.clone();
            let place = seed as usize % other.len().max(1);
            other.rotate_left(place);
            other.reverse();
            let members = in_order(found);
            prop_assert_eq!(&members, &in_order(other));
            prop_assert!(members.is_sorted_by(|one, next| one.address < next.address));
        }
    }
}
