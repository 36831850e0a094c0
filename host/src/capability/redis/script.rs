//! What is asked of a Redis: values, numbers and rate limits. Scripts in the server make each one step.

use std::{
    slice,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use redis::{Cmd, ErrorKind, RedisResult, RedisWrite, Script, ServerErrorKind, cmd};

use super::{Connection, Link, Unavailable};
use crate::capability::rate_limits::{Algorithm, Demand, Limit, Standing};

static RATE_LIMITS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("rate_limits.lua")));
static INCREMENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
         if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
         return sum",
    )
});

impl Link {
    pub async fn get(self: &Arc<Self>, plugin: &str, key: &str) -> Result<Option<Bytes>, Unavailable> {
        let key = &self.key("kv", plugin, key);
        let value: Option<Vec<u8>> = self
            .ask(|mut connection| async move { cmd("GET").arg(key).query_async(&mut connection).await })
            .await?;
        Ok(value.map(Bytes::from))
    }

    pub async fn set(
        self: &Arc<Self>,
        plugin: &str,
        key: &str,
        value: &[u8],
        ttl: Duration,
    ) -> Result<(), Unavailable> {
        let (key, ttl) = (&self.key("kv", plugin, key), millis(ttl));
        self.ask(|mut connection| async move {
            cmd("SET").arg(key).arg(value).arg("PX").arg(ttl).exec_async(&mut connection).await
        })
        .await
    }

    /// Sets what is not there yet; whether it did.
    pub async fn add(
        self: &Arc<Self>,
        plugin: &str,
        key: &str,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, Unavailable> {
        let (key, ttl) = (&self.key("kv", plugin, key), millis(ttl));
        self.ask(|mut connection| async move {
            cmd("SET").arg(key).arg(value).arg("NX").arg("PX").arg(ttl).query_async(&mut connection).await
        })
        .await
    }

    pub async fn delete(self: &Arc<Self>, plugin: &str, key: &str) -> Result<(), Unavailable> {
        let key = &self.key("kv", plugin, key);
        self.ask(|mut connection| async move { cmd("DEL").arg(key).exec_async(&mut connection).await }).await
    }

    pub async fn increment(
        self: &Arc<Self>,
        plugin: &str,
        key: &str,
        by: i64,
        ttl: Duration,
    ) -> Result<i64, Unavailable> {
        let (key, ttl) = (&self.key("n", plugin, key), millis(ttl));
        self.ask(|mut connection| async move {
            INCREMENT.key(key).arg(by).arg(ttl).invoke_async(&mut connection).await
        })
        .await
    }

    /// Takes from all, or from none where one does not allow it.
    pub async fn take(
        self: &Arc<Self>,
        plugin: &str,
        demands: &[Demand],
    ) -> Result<Vec<Standing>, Unavailable> {
        self.take_at(plugin, demands, None).await
    }

    pub async fn take_one(self: &Arc<Self>, plugin: &str, demand: &Demand) -> Result<Standing, Unavailable> {
        let standings = self.take(plugin, slice::from_ref(demand)).await?;
        standings.into_iter().next().ok_or(Unavailable)
    }

    /// The time is told in tests only, in microseconds since 1970.
    pub(super) async fn take_at(
        self: &Arc<Self>,
        plugin: &str,
        demands: &[Demand],
        now: Option<u64>,
    ) -> Result<Vec<Standing>, Unavailable> {
        self.ask(|mut connection| async move {
            if !connection.is_cluster() || demands.len() == 1 {
                return self.ask_all(&mut connection, plugin, demands.iter(), true, now).await;
            }
            // In a Cluster, only what is of one key is on one server.
            let mut groups: Vec<Vec<usize>> = Vec::new();
            for (place, demand) in demands.iter().enumerate() {
                match groups.iter_mut().find(|group| demands[group[0]].key == demand.key) {
                    Some(group) => group.push(place),
                    None => groups.push(vec![place]),
                }
            }
            if groups.len() > 1 {
                // All are asked before anything is taken. Who takes in between may be why one of them refuses then.
                let looked = self.ask_groups(&connection, plugin, demands, &groups, false, now).await?;
                if looked.iter().any(|standing| !standing.allowed) {
                    return Ok(looked);
                }
            }
            self.ask_groups(&connection, plugin, demands, &groups, true, now).await
        })
        .await
    }

    async fn ask_groups(
        &self,
        connection: &Connection,
        plugin: &str,
        demands: &[Demand],
        groups: &[Vec<usize>],
        take: bool,
        now: Option<u64>,
    ) -> RedisResult<Vec<Standing>> {
        let asked = groups.iter().map(async |group| {
            let own = group.iter().map(|&place| &demands[place]);
            self.ask_all(&mut connection.clone(), plugin, own, take, now).await
        });
        let mut standings = vec![None; demands.len()];
        for (group, answer) in groups.iter().zip(join_all(asked).await) {
            for (&place, standing) in group.iter().zip(answer?) {
                standings[place] = Some(standing);
            }
        }
        // Each of them is in a group.
        Ok(standings.into_iter().flatten().collect())
    }

    /// With one call of the script.
    async fn ask_all<'a>(
        &self,
        connection: &mut Connection,
        plugin: &str,
        demands: impl ExactSizeIterator<Item = &'a Demand> + Clone,
        take: bool,
        now: Option<u64>,
    ) -> RedisResult<Vec<Standing>> {
        let count = demands.len();
        // Written here rather than by `Script`, which copies each argument twice.
        let mut command = Cmd::with_capacity(5 + 6 * count, 64 + 160 * count);
        command.arg("EVALSHA").arg(RATE_LIMITS.get_hash()).arg(count);
        for Demand { key, limit, .. } in demands.clone() {
            let (algorithm, per) = (number(limit.algorithm), limit.per().as_micros());
            let Limit { amount, burst, .. } = limit;
            let key = self.key("rl", plugin, key);
            command.write_arg_fmt(format_args!("{key}:{algorithm}:{amount}:{per}:{burst}"));
        }
        command.arg(u8::from(take));
        match now {
            Some(now) => command.arg(now),
            None => command.arg(""),
        };
        for Demand { limit, cost, .. } in demands {
            let (algorithm, per) = (number(limit.algorithm), limit.per().as_micros() as u64);
            command.arg(&[algorithm, limit.amount.into(), per, limit.burst.into(), (*cost).into()][..]);
        }
        let answer: String = match command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                RATE_LIMITS.load_async(connection).await?;
                command.query_async(connection).await?
            }
            answer => answer?,
        };
        let mut numbers = answer.split(' ').map_while(|number| number.parse().ok());
        let standings: Option<_> = (0..count).map(|_| standing(&mut numbers)).collect();
        standings
            .ok_or_else(|| (ErrorKind::UnexpectedReturnType, "the script answers with too little").into())
    }
}

/// Its place among those of the script.
fn number(algorithm: Algorithm) -> u64 {
    match algorithm {
        Algorithm::FixedWindow => 1,
        Algorithm::SlidingLog => 2,
        Algorithm::SlidingCounter => 3,
        Algorithm::TokenBucket => 4,
        Algorithm::LeakyBucket => 5,
    }
}

fn standing(numbers: &mut impl Iterator<Item = i64>) -> Option<Standing> {
    let time = |number: i64| u64::try_from(number).map_or(Duration::MAX, Duration::from_micros);
    Some(Standing {
        allowed: numbers.next()? == 1,
        remaining: numbers.next()?.try_into().unwrap_or(0),
        reset: time(numbers.next()?),
        retry_after: time(numbers.next()?),
        delay: time(numbers.next()?),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
