//! What a listener lets in, counted over all workers: open connections, and requests by token buckets. Time is an
//! argument.
//!
//! A client is an IPv4 address or an IPv6 network of 64 bits, which is what a subscriber gets (RFC 6177).

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use papaya::{HashMap, Operation};

use crate::{
    bucket::{Bucket, Rate},
    config::ListenerLimits,
};

/// Clients whose bucket is not full, of one listener. Further ones are held to the limits of the listener alone:
/// whoever has so many addresses must not be able to keep others out.
const MAX_CLIENTS: usize = 1 << 18;

/// A listener's limits and what counts against them, which outlives the snapshot that it is in.
pub struct Limiter {
    limits: ListenerLimits,
    connections: Arc<Connections>,
    requests: Option<Arc<Whole>>,
    requests_per_client: Option<Arc<PerClient>>,
}

/// Which limit on connections was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Listener,
    Client,
}

/// Whose requests come too fast, and when the next one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooFast {
    All(Duration),
    Client(Duration),
}

impl Limiter {
    pub fn new(limits: &ListenerLimits, now: Instant) -> Self {
        Limiter {
            limits: limits.clone(),
            connections: Arc::default(),
            requests: limits.requests.map(|rate| Whole::new(rate, now)),
            requests_per_client: limits.requests_per_client.map(|rate| PerClient::new(rate, now)),
        }
    }

    /// The same listener with these limits: its connections are still open, and buckets that fill as fast as before
    /// have what they had.
    pub fn with(&self, limits: &ListenerLimits, now: Instant) -> Self {
        let whole = self.requests.as_ref().filter(|kept| limits.requests == Some(kept.rate));
        let clients = self.requests_per_client.as_ref();
        let clients = clients.filter(|kept| limits.requests_per_client == Some(kept.rate));
        let new = Limiter::new(limits, now);
        Limiter {
            connections: self.connections.clone(),
            requests: whole.cloned().or(new.requests),
            requests_per_client: clients.cloned().or(new.requests_per_client),
            limits: new.limits,
        }
    }

    /// Lets a connection in until what is returned is dropped. Without a client it only counts for the listener.
    /// Connections from before there was a limit per client do not count against it.
    pub fn connect(&self, client: Option<IpAddr>) -> Result<Place, Full> {
        let connections = &self.connections;
        let counted = client.map(network).zip(self.limits.connections_per_client);
        if counted.is_some_and(|(client, most)| !connections.enter(client, most)) {
            return Err(Full::Client);
        }
        let client = counted.map(|(client, _)| client);
        let most = self.limits.connections.unwrap_or(usize::MAX);
        let more = |open| (open < most).then_some(open + 1);
        if connections.open.fetch_update(Relaxed, Relaxed, more).is_err() {
            client.into_iter().for_each(|client| connections.leave(client));
            return Err(Full::Listener);
        }
        Ok(Place { connections: connections.clone(), client })
    }

    /// Counts a connection for its client, who was not known when it was let in.
    pub fn recognise(&self, place: &mut Place, client: IpAddr) -> Result<(), Full> {
        let (client, most) = (network(client), self.limits.connections_per_client);
        if let Some(most) = most {
            if !place.connections.enter(client, most) {
                return Err(Full::Client);
            }
            place.client = Some(client);
        }
        Ok(())
    }

    /// Takes a request's tokens. One that its client may not send costs the others nothing.
    pub fn request(&self, client: IpAddr, now: Instant) -> Result<(), TooFast> {
        if let Some(clients) = &self.requests_per_client {
            clients.take(network(client), now).map_err(TooFast::Client)?;
        }
        if let Some(whole) = &self.requests {
            let now = nanos(whole.start, now);
            let taken = whole.bucket.take(whole.rate, 1, now);
            return if taken.allowed { Ok(()) } else { Err(TooFast::All(taken.retry_after)) };
        }
        Ok(())
    }

    /// Forgets clients whose bucket is full again. To be called now and then.
    pub fn sweep(&self, now: Instant) {
        if let Some(clients) = &self.requests_per_client {
            let now = nanos(clients.start, now);
            clients.buckets.pin().retain(|_, bucket| !bucket.is_full(now));
        }
    }
}

#[derive(Default)]
struct Connections {
    open: AtomicUsize,
    /// Those of clients, while there is a limit for them; none has 0.
    clients: HashMap<IpAddr, usize>,
}

impl Connections {
    fn enter(&self, client: IpAddr, most: usize) -> bool {
        let mut room = false;
        self.clients.pin().compute(client, |known| {
            let open = known.map_or(0, |(_, open)| *open);
            room = open < most;
            if room { Operation::Insert(open + 1) } else { Operation::Abort(()) }
        });
        room
    }

    fn leave(&self, client: IpAddr) {
        self.clients.pin().compute(client, |known| match known {
            Some((_, &open)) if open > 1 => Operation::Insert(open - 1),
            Some(_) => Operation::Remove,
            None => Operation::Abort(()),
        });
    }
}

/// An open connection.
pub struct Place {
    connections: Arc<Connections>,
    client: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Relaxed);
        if let Some(client) = self.client {
            self.connections.leave(client);
        }
    }
}

/// The bucket of all requests.
struct Whole {
    rate: Rate,
    start: Instant,
    bucket: Bucket,
}

impl Whole {
    fn new(rate: Rate, start: Instant) -> Arc<Self> {
        Arc::new(Whole { rate, start, bucket: Bucket::default() })
    }
}

struct PerClient {
    rate: Rate,
    start: Instant,
    buckets: HashMap<IpAddr, Bucket>,
}

impl PerClient {
    fn new(rate: Rate, start: Instant) -> Arc<Self> {
        Arc::new(PerClient { rate, start, buckets: HashMap::new() })
    }

    /// Fails with the time until it would not.
    fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let buckets = self.buckets.pin();
        let bucket = match buckets.get(&client) {
            Some(bucket) => bucket,
            None if self.buckets.len() >= MAX_CLIENTS => return Ok(()),
            None => buckets.get_or_insert_with(client, Bucket::default),
        };
        let taken = bucket.take(self.rate, 1, nanos(self.start, now));
        if taken.allowed { Ok(()) } else { Err(taken.retry_after) }
    }
}

fn nanos(start: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(start).as_nanos() as u64
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn per_second(rate: u32) -> Option<Rate> {
        Rate::new(rate, rate, S)
    }

    fn connections(all: Option<usize>, per_client: Option<usize>) -> ListenerLimits {
        ListenerLimits { connections: all, connections_per_client: per_client, ..ListenerLimits::default() }
    }

    #[test]
    fn connections_count_until_they_are_dropped() {
        let limiter = Limiter::new(&connections(Some(2), None), Instant::now());
        let first = limiter.connect(Some(ip("192.0.2.1"))).ok().unwrap();
        let _second = limiter.connect(None).ok().unwrap();
        assert_eq!(limiter.connect(Some(ip("192.0.2.2"))).err(), Some(Full::Listener));
        drop(first);
        assert!(limiter.connect(None).is_ok());
    }

    #[test]
    fn connections_of_one_client_count_apart() {
        let limiter = Limiter::new(&connections(Some(3), Some(1)), Instant::now());
        let connect = |text: &str| limiter.connect(Some(ip(text)));
        let held = [connect("192.0.2.1").ok().unwrap(), connect("2001:db8:0:1::1").ok().unwrap()];
        for same in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8:0:1:ffff::2"] {
            assert_eq!(connect(same).err(), Some(Full::Client), "{same}");
        }
        let other = connect("2001:db8:0:2::1").ok().unwrap();
        assert_eq!(connect("192.0.2.9").err(), Some(Full::Listener));
        drop((held, other));
        assert!(limiter.connections.clients.is_empty(), "clients without a connection are forgotten");
        assert_eq!(limiter.connections.open.load(Relaxed), 0, "also where they were refused");
    }

    #[test]
    fn clients_may_become_known_later() {
        let limiter = Limiter::new(&connections(None, Some(1)), Instant::now());
        let connect = |text: &str| {
            let mut place = limiter.connect(None).ok().unwrap();
            limiter.recognise(&mut place, ip(text)).map(|()| place)
        };
        let first = connect("192.0.2.1").ok().unwrap();
        assert_eq!(connect("::ffff:192.0.2.1").err(), Some(Full::Client));
        drop((first, connect("192.0.2.2").ok().unwrap()));
        assert!(limiter.connections.clients.is_empty());
        assert_eq!(limiter.connections.open.load(Relaxed), 0, "also where one was refused");
    }

    #[test]
    fn what_is_open_counts_against_new_limits() {
        let before = Limiter::new(&connections(None, None), Instant::now());
        let _open = before.connect(None).ok().unwrap();
        let after = before.with(&connections(Some(1), None), Instant::now());
        assert_eq!(after.connect(None).err(), Some(Full::Listener));
        assert!(after.with(&connections(Some(2), None), Instant::now()).connect(None).is_ok());
    }

    #[test]
    fn threads_together_open_no_more_than_the_limit() {
        let limiter = Limiter::new(&connections(Some(100), Some(60)), Instant::now());
        let connect = |client: &str| {
            let client = Some(ip(client));
            (0..100).filter_map(|_| limiter.connect(client).ok()).collect::<Vec<_>>()
        };
        let open: Vec<_> = std::thread::scope(|scope| {
            let clients = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"];
            let threads: Vec<_> = clients.map(|client| scope.spawn(move || connect(client))).into();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(open.len(), 100);
        drop(open);
        assert!(limiter.connections.clients.is_empty());
    }

    #[test]
    fn requests_are_held_to_both_rates() {
        let (t, limits) = (
            Instant::now(),
            ListenerLimits {
                requests: per_second(3),
                requests_per_client: per_second(2),
                ..ListenerLimits::default()
            },
        );
        let limiter = Limiter::new(&limits, t);
        let request = |text: &str, now| limiter.request(ip(text), now);
        assert!(request("192.0.2.1", t).is_ok() && request("192.0.2.1", t).is_ok());
        assert_eq!(request("192.0.2.1", t), Err(TooFast::Client(S / 2)));
        assert!(request("192.0.2.2", t).is_ok(), "the one before has cost nothing");
        let all = request("192.0.2.2", t);
        assert!(matches!(all, Err(TooFast::All(wait)) if wait <= S / 3 && wait > S / 4), "{all:?}");
        assert!(request("192.0.2.1", t + S / 2).is_ok());
    }

    #[test]
    fn buckets_stay_as_they_are_unless_their_rate_changes() {
        let (t, client) = (Instant::now(), ip("192.0.2.1"));
        let limits = |all, per_client| ListenerLimits {
            requests: per_second(all),
            requests_per_client: per_second(per_client),
            ..connections(Some(1), None)
        };
        let before = Limiter::new(&limits(2, 1), t);
        assert!(before.request(client, t).is_ok());
        let same = before.with(&ListenerLimits { connections: None, ..limits(2, 1) }, t);
        assert!(matches!(same.request(client, t), Err(TooFast::Client(_))));
        let more = same.with(&limits(2, 5), t);
        assert!(more.request(client, t).is_ok());
        assert!(matches!(more.request(client, t), Err(TooFast::All(_))));
        let none = more.with(&ListenerLimits::default(), t);
        assert!((0..100).all(|_| none.request(client, t).is_ok()));
    }

    #[test]
    fn clients_are_forgotten_and_never_too_many() {
        let t = Instant::now();
        let limits = ListenerLimits { requests_per_client: per_second(1), ..ListenerLimits::default() };
        let limiter = Limiter::new(&limits, t);
        let clients = limiter.requests_per_client.clone().unwrap();
        for number in 0..MAX_CLIENTS as u32 + 10 {
            assert!(limiter.request(IpAddr::V4(number.into()), t).is_ok());
        }
        assert_eq!(clients.buckets.len(), MAX_CLIENTS);
        assert!(limiter.request(ip("0.0.0.1"), t).is_err(), "known ones are held to their limit");
        limiter.sweep(t + S / 2);
        assert_eq!(clients.buckets.len(), MAX_CLIENTS);
        limiter.sweep(t + S);
        assert!(clients.buckets.is_empty());
    }
}
