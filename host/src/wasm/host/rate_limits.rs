//! `rate-limits`: limits by several algorithms, under the plugin's name.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    bindings::wasmgate::plugin::{
        rate_limits::{self, Limit, Standing},
        types::Error,
    },
    store::checked,
};
use crate::{
    capability::{
        rate_limits::{self as limits, Algorithm, Demand},
        redis::Link,
    },
    wasm::store::Host,
};

/// Limits of one call.
const MAX_LIMITS: usize = 32;

impl rate_limits::Host for Host {
    async fn take(&mut self, limits: Vec<Limit>) -> Result<Vec<Standing>, Error> {
        if limits.len() > MAX_LIMITS {
            return Err(Error::InvalidValue);
        }
        let demands = limits.into_iter().map(|limit| self.demand(limit)).collect::<Result<Vec<_>, _>>()?;
        let shared = async |link: &Arc<Link>, scope: &str| link.take(scope, &demands).await;
        let local = |host: &Host| {
            let limits = &host.plugin.capabilities.rate_limits;
            Ok(limits.take(&host.plugin.scope, &demands, Instant::now())?)
        };
        let untouched = || demands.iter().map(Demand::untouched).collect();
        let standings = self.kept(shared, local, untouched).await?;
        Ok(standings.into_iter().map(standing).collect())
    }

    async fn take_one(&mut self, limit: Limit) -> Result<Standing, Error> {
        let demand = self.demand(limit)?;
        let shared = async |link: &Arc<Link>, scope: &str| link.take_one(scope, &demand).await;
        let local = |host: &Host| {
            let limits = &host.plugin.capabilities.rate_limits;
            Ok(limits.take_one(&host.plugin.scope, &demand, Instant::now())?)
        };
        Ok(standing(self.kept(shared, local, || demand.untouched()).await?))
    }
}

impl Host {
    fn demand(&self, limit: Limit) -> Result<Demand, Error> {
        let Limit { key, per_route, per_client, algorithm, amount, per_ms, burst, cost } = limit;
        let key = match per_route || per_client.is_some() {
            true => self.extended(&key, per_route, per_client)?,
            false => key,
        };
        checked(&key)?;
        let algorithm = match algorithm {
            rate_limits::Algorithm::FixedWindow => Algorithm::FixedWindow,
            rate_limits::Algorithm::SlidingLog => Algorithm::SlidingLog,
            rate_limits::Algorithm::SlidingCounter => Algorithm::SlidingCounter,
            rate_limits::Algorithm::TokenBucket => Algorithm::TokenBucket,
            rate_limits::Algorithm::LeakyBucket => Algorithm::LeakyBucket,
        };
        let limit = limits::Limit::new(algorithm, amount, Duration::from_millis(per_ms), burst);
        Ok(Demand { key, limit: limit.ok_or(Error::InvalidValue)?, cost })
    }

    /// The key with the route's name and the client's network in front.
    fn extended(&self, key: &str, per_route: bool, per_client: Option<u8>) -> Result<String, Error> {
        let state = self.exchange.as_deref().ok_or(Error::Immutable)?;
        let route = if per_route { &*state.route } else { "" };
        let mut text = String::with_capacity(route.len() + key.len() + 48);
        text.push_str(route);
        if let Some(prefix) = per_client {
            let network = network(state.client_ip, prefix).ok_or(Error::InvalidValue)?;
            // No error: it is a text.
            let _ = write!(text, " {network}");
        }
        text.push(' ');
        text.push_str(key);
        Ok(text)
    }
}

/// An IPv6 client has a whole network to choose addresses from.
fn network(ip: IpAddr, prefix: u8) -> Option<IpAddr> {
    let ignored = 128_u32.checked_sub(prefix.into())?;
    Some(match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let bits = v6.to_bits().checked_shr(ignored).unwrap_or(0);
            Ipv6Addr::from_bits(bits.checked_shl(ignored).unwrap_or(0)).into()
        }
        v4 => v4,
    })
}

fn standing(standing: limits::Standing) -> Standing {
    Standing {
        allowed: standing.allowed,
        remaining: standing.remaining,
        reset_ms: millis_up(standing.reset),
        retry_after_ms: millis_up(standing.retry_after),
        delay_ms: millis_up(standing.delay),
    }
}

pub fn millis_up(duration: Duration) -> u64 {
    let below_a_second = u64::from(duration.subsec_nanos().div_ceil(1_000_000));
    duration.as_secs().saturating_mul(1000).saturating_add(below_a_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_clients() {
        let of = |ip: &str, prefix| network(ip.parse().unwrap(), prefix).map(|ip| ip.to_string());
        for (ip, prefix, expected) in [
            ("192.0.2.7", 64, "192.0.2.7"),
            ("::ffff:192.0.2.7", 0, "192.0.2.7"),
            ("2001:db8:1:2:3::9", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3::9", 128, "2001:db8:1:2:3::9"),
            ("2001:db8:1:2:3::9", 0, "::"),
        ] {
            assert_eq!(of(ip, prefix).as_deref(), Some(expected), "{ip}/{prefix}");
        }
        assert_eq!(of("::1", 129), None);
    }
}
