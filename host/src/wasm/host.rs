//! The WIT interfaces that guests import: one file each, which converts, checks and delegates.

mod audit;
mod clock;
mod consumers;
mod counters;
mod crypto;
mod http_call;
mod key_value;
pub mod log;
mod message;
mod metrics;
mod networks;
mod outcome;
mod random;
mod rate_limits;
mod request;
mod response;
mod secrets;
mod store;
mod types;

use wasmtime::{
    Engine,
    component::{HasSelf, Linker},
};

use super::store::Host;

/// The host's side of package wasmgate:plugin, as wit/v0.1 has it.
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/v0.1",
        world: "everything",
        imports: {
            "wasmgate:plugin/request": trappable,
            "wasmgate:plugin/response": trappable,
            "wasmgate:plugin/http-call": async,
            "wasmgate:plugin/counters": async,
            "wasmgate:plugin/key-value": async,
            "wasmgate:plugin/rate-limits": async,
            "wasmgate:plugin/clock.sleep": async,
            "wasmgate:plugin/crypto.verify-password": async | trappable,
            "wasmgate:plugin/crypto": trappable,
        },
        with: {
            "wasmgate:plugin/crypto.verification-key": wasmgate_crypto::VerificationKey,
            "wasmgate:plugin/crypto.sealer": wasmgate_crypto::Sealer,
        },
        exports: { default: async },
    });
}

pub use bindings::wasmgate::plugin::types::Phases as GuestPhases;
pub use outcome::Outcome;
pub use types::{phases, summary};

/// A linker with all that a native plugin may import. WASI is complete, but opens nothing: no
/// files, no environment, no sockets.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::<Host>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    bindings::Everything::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| {
        host.calls += 1;
        host
    })?;
    Ok(linker)
}
