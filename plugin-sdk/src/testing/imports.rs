//! The host's services with the signatures that wit-bindgen gives them, answered by the fake host
//! that is entered on this thread.

pub mod exchange {
    pub use crate::testing::exchange::{Request, Response};
}

pub mod crypto;

pub mod consumers {
    pub use crate::bindings::plugin::wasmgate::plugin::consumers::{
        Consumer, Credential, CredentialKind, Failure, Found, Quota,
    };
    use crate::testing::host::current;

    pub fn verify_key(key: &str) -> Result<Option<Credential>, Failure> {
        current(|host| host.consumers.verify_key(key))
    }

    pub fn find(kind: CredentialKind, names: &[&str]) -> Result<Found, Failure> {
        current(|host| host.consumers.find_by(kind, names))
    }

    pub fn named(name: &str) -> Result<Option<Consumer>, Failure> {
        current(|host| host.consumers.named(name))
    }

    pub fn by_custom_id(id: &str) -> Result<Option<Consumer>, Failure> {
        current(|host| host.consumers.by_custom_id(id))
    }

    pub fn plan(name: &str) -> Result<Option<Vec<Quota>>, Failure> {
        current(|host| host.consumers.plan(name))
    }
}

pub mod audit {
    pub use crate::bindings::plugin::wasmgate::plugin::audit::Reason;
    use crate::testing::host::current;

    pub fn explain(reason: Reason<'_>) {
        let Reason { why, detail, consumer, credential } = reason;
        // A word of the plugin's own is as long as its program.
        let why = crate::audit::Why(why.to_string().leak());
        let [detail, consumer, credential] =
            [detail, consumer, credential].map(|text| text.map(str::to_string));
        current(|host| host.reason = Some(crate::audit::Reason { why, detail, consumer, credential }));
    }
}

pub mod log {
    pub use crate::bindings::plugin::wasmgate::plugin::log::Level;
    use crate::testing::host::current;

    pub fn enabled(level: Level) -> bool {
        current(|host| level <= host.log_level)
    }

    pub fn write(level: Level, message: &str) {
        current(|host| host.log(level, message));
    }
}

pub mod metrics {
    pub use crate::bindings::plugin::wasmgate::plugin::metrics::Kind;
    use crate::host::types::Error;
    use crate::testing::host::current;

    pub fn define(kind: Kind, name: &str, labels: &[(&str, &str)]) -> Result<u32, Error> {
        current(|host| host.metrics.define(kind, name, labels))
    }

    pub fn record(series: u32, value: f64) -> Result<(), Error> {
        current(|host| host.metrics.record(series, value))
    }
}

pub mod counters {
    pub use crate::bindings::plugin::wasmgate::plugin::counters::Bucket;
    use crate::host::types::Error;
    use crate::testing::host::current;

    pub fn take(key: &str, cost: u32, capacity: u32, refill: u32, period_ms: u32) -> Result<Bucket, Error> {
        current(|host| host.store.take(host.elapsed_ms(), key, cost, capacity, refill, period_ms))
    }

    pub fn increment(key: &str, by: i64, ttl_ms: u32) -> Result<i64, Error> {
        current(|host| host.store.increment(host.elapsed_ms(), key, by, ttl_ms))
    }
}

pub mod key_value {
    use crate::host::types::Error;
    use crate::testing::host::current;

    pub fn get(key: &str) -> Option<Vec<u8>> {
        current(|host| host.store.get(host.elapsed_ms(), key))
    }

    pub fn set(key: &str, value: &[u8], ttl_ms: u32) -> Result<(), Error> {
        current(|host| host.store.set(host.elapsed_ms(), key, value, ttl_ms))
    }

    pub fn delete(key: &str) {
        current(|host| host.store.delete(key));
    }

    pub fn add(key: &str, value: &[u8], ttl_ms: u32) -> Result<bool, Error> {
        current(|host| host.store.add(host.elapsed_ms(), key, value, ttl_ms))
    }
}

pub mod http_call {
    pub use crate::bindings::plugin::wasmgate::plugin::http_call::{Answer, Failure, Keep, Kept, Outgoing};
    use crate::testing::{host::current, upstreams};

    pub fn may_call(_upstream: &str) -> bool {
        current(|host| host.upstream.is_some())
    }

    pub fn send(request: Outgoing<'_>) -> Result<Answer, Failure> {
        upstreams::send(&request)
    }

    pub fn send_all(requests: &[Outgoing<'_>]) -> Vec<Result<Answer, Failure>> {
        requests.iter().map(upstreams::send).collect()
    }

    pub fn fetch(key: &str, request: Outgoing<'_>, keep: Keep, known: Option<u64>) -> Result<Kept, Failure> {
        upstreams::fetch(key, &request, keep, known)
    }
}

pub mod clock {
    use crate::testing::host::current;

    pub fn now_ms() -> u64 {
        current(|host| host.now().as_millis() as u64)
    }

    pub fn monotonic_ns() -> u64 {
        current(|host| host.elapsed.as_nanos() as u64)
    }

    pub fn sleep(ms: u32) {
        current(|host| host.elapsed += std::time::Duration::from_millis(ms.min(60_000).into()));
    }
}

pub mod rate_limits;

pub mod secrets {
    use crate::testing::host::current;

    pub fn get(name: &str) -> Option<String> {
        current(|host| host.secrets.get(name).cloned())
    }
}

pub mod random {
    use crate::testing::host::current;

    pub fn bytes(len: u32) -> Vec<u8> {
        current(|host| host.random_bytes(len))
    }
}

pub mod networks {
    use crate::host::types::Error;
    use crate::testing::host::current;

    pub fn contains(set: &str, address: &str) -> Result<Option<String>, Error> {
        current(|host| {
            let set = host.networks.get(set).ok_or(Error::Unknown)?;
            let address = address.parse().map_err(|_| Error::InvalidValue)?;
            Ok(set.find(address).map(|network| network.to_string()))
        })
    }
}
