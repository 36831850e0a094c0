//! The component's side of the contract: the generated guest traits over [`Plugin`]. Compiled for
//! wasm only, and exported phase by phase by the attribute `#[plugin]`.

use std::cell::OnceCell;
use std::thread::LocalKey;

use crate::bindings::plugin::wasmgate::plugin::outcome;
use crate::bindings::{log, plugin, request, request_body, response, response_body};
use crate::host::{exchange, types};
use crate::{
    BodyVerdict, LocalResponse, Phases, Plugin, Request, Response, Result, Summary, Verdict, audit, config,
};

/// A plugin with a place for its one instance, which `#[plugin]` provides.
pub trait Component: Plugin {
    fn instance() -> &'static LocalKey<OnceCell<Self>>;
}

const REQUEST: Request = Request::new(&exchange::Request);
const RESPONSE: Response = Response::new(&exchange::Response);
const NO_INIT: &str = "a phase was called before init";

fn head<P: Component>(phase: impl FnOnce(&P) -> Result<Verdict>) -> types::Verdict {
    P::instance().with(|instance| match instance.get().map(phase) {
        Some(Ok(Verdict::Next)) => types::Verdict::Next,
        Some(Ok(Verdict::Respond(answer))) => {
            respond(&answer);
            types::Verdict::Respond
        }
        Some(Err(error)) => {
            outcome::fail(&error.to_string());
            types::Verdict::Fail
        }
        None => {
            outcome::fail(NO_INIT);
            types::Verdict::Fail
        }
    })
}

fn body<P: Component>(phase: impl FnOnce(&P) -> Result<BodyVerdict>) -> types::BodyVerdict {
    P::instance().with(|instance| match instance.get().map(phase) {
        Some(Ok(BodyVerdict::Pass)) => types::BodyVerdict::Pass,
        Some(Ok(BodyVerdict::Replace(bytes))) => {
            outcome::replace(&bytes);
            types::BodyVerdict::Replace
        }
        Some(Ok(BodyVerdict::Respond(answer))) => {
            respond(&answer);
            types::BodyVerdict::Respond
        }
        Some(Err(error)) => {
            outcome::fail(&error.to_string());
            types::BodyVerdict::Fail
        }
        None => {
            outcome::fail(NO_INIT);
            types::BodyVerdict::Fail
        }
    })
}

#[cold]
fn respond(answer: &LocalResponse) {
    if let Some(reason) = &answer.reason {
        audit::explain(reason);
    }
    let headers: Vec<_> = answer.headers.iter().collect();
    outcome::respond(types::LocalResponse {
        status: answer.status,
        headers: &headers,
        body: answer.body.as_deref(),
        code: answer.code.as_deref(),
        detail: answer.detail.as_deref(),
    });
}

impl<P: Component> plugin::exports::wasmgate::plugin::lifecycle::Guest for P {
    fn init(config: String) -> Result<Phases, String> {
        let plugin = config::read(&config).and_then(P::new).map_err(|error| error.to_string())?;
        let phases = plugin.phases();
        P::instance()
            .with(|instance| instance.set(plugin))
            .map_err(|_| "init was called twice".to_string())?;
        Ok(phases)
    }

    fn config_schema() -> String {
        config::schema::<P::Config>()
    }
}

impl<P: Component> request::exports::wasmgate::plugin::request_phase::Guest for P {
    fn on_request() -> types::Verdict {
        head(|plugin: &P| plugin.on_request(&REQUEST))
    }
}

impl<P: Component> request_body::exports::wasmgate::plugin::request_body_phase::Guest for P {
    fn on_request_body(chunk: Vec<u8>, end: bool) -> types::BodyVerdict {
        body(|plugin: &P| plugin.on_request_body(&REQUEST, chunk, end))
    }
}

impl<P: Component> response::exports::wasmgate::plugin::response_phase::Guest for P {
    fn on_response() -> types::Verdict {
        head(|plugin: &P| plugin.on_response(&REQUEST, &RESPONSE))
    }
}

impl<P: Component> response_body::exports::wasmgate::plugin::response_body_phase::Guest for P {
    fn on_response_body(chunk: Vec<u8>, end: bool) -> types::BodyVerdict {
        body(|plugin: &P| plugin.on_response_body(&REQUEST, &RESPONSE, chunk, end))
    }
}

impl<P: Component> log::exports::wasmgate::plugin::log_phase::Guest for P {
    fn on_log(summary: Summary) {
        // An instance without init has nothing to log, and there is nobody left to tell.
        P::instance().with(|instance| {
            if let Some(plugin) = instance.get() {
                plugin.on_log(&REQUEST, &RESPONSE, &summary);
            }
        });
    }
}
