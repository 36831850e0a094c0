//! `rate-limits` of the fake host: the gateway's own algorithms.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

pub use crate::bindings::plugin::wasmgate::plugin::rate_limits::{Algorithm, Limit, Standing};
use crate::host::types::Error;
use crate::testing::host::current;

/// Limits of one call.
const MAX_LIMITS: usize = 32;

pub fn take(limits: &[Limit<'_>]) -> Result<Vec<Standing>, Error> {
    if limits.len() > MAX_LIMITS {
        return Err(Error::InvalidValue);
    }
    let known = limits.iter().map(known).collect::<Option<Vec<_>>>().ok_or(Error::InvalidValue)?;
    let keys = limits.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    current(|host| {
        let now = host.now().as_nanos() as u64;
        let asked = limits.iter().zip(&known).zip(&keys);
        let asked: Vec<_> = asked.map(|((limit, known), key)| (key.as_str(), *known, limit.cost)).collect();
        host.store.take_all(now, &asked)
    })
    .map(|standings| standings.iter().map(standing).collect())
}

pub fn take_one(limit: Limit<'_>) -> Result<Standing, Error> {
    Ok(take(&[limit])?[0])
}

/// With the route's name and the client's network in front.
fn key(limit: &Limit<'_>) -> Result<String, Error> {
    let Limit { key, per_route, per_client, .. } = limit;
    if !per_route && per_client.is_none() {
        return Ok(key.to_string());
    }
    let (route, ip) = current(|host| host.request.clone()).ok_or(Error::Immutable)?;
    let route = if *per_route { route } else { String::new() };
    let network = match (per_client, ip.parse().map(|ip: IpAddr| ip.to_canonical())) {
        (None, _) => String::new(),
        (Some(129..), _) | (_, Err(_)) => return Err(Error::InvalidValue),
        (Some(0), Ok(IpAddr::V6(_))) => " ::".to_string(),
        (Some(bits), Ok(IpAddr::V6(v6))) => {
            format!(" {}", Ipv6Addr::from_bits(v6.to_bits() & u128::MAX << (128 - u32::from(*bits))))
        }
        (Some(_), Ok(v4)) => format!(" {v4}"),
    };
    Ok(format!("{route}{network} {key}"))
}

fn known(limit: &Limit<'_>) -> Option<wasmgate_rate_limit::Limit> {
    use wasmgate_rate_limit::Algorithm as Known;
    let algorithm = match limit.algorithm {
        Algorithm::FixedWindow => Known::FixedWindow,
        Algorithm::SlidingLog => Known::SlidingLog,
        Algorithm::SlidingCounter => Known::SlidingCounter,
        Algorithm::TokenBucket => Known::TokenBucket,
        Algorithm::LeakyBucket => Known::LeakyBucket,
    };
    wasmgate_rate_limit::Limit::new(algorithm, limit.amount, Duration::from_millis(limit.per_ms), limit.burst)
}

fn standing(standing: &wasmgate_rate_limit::Standing) -> Standing {
    let millis = |time: Duration| u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Standing {
        allowed: standing.allowed,
        remaining: standing.remaining,
        reset_ms: millis(standing.reset),
        retry_after_ms: millis(standing.retry_after),
        delay_ms: millis(standing.delay),
    }
}
