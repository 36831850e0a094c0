//! The component's side of the contract: the generated guest traits over [`Plugin`]. Compiled for
//! wasm only, and exported phase by phase by the attribute `#[plugin]`.

use std::cell::OnceCell;
use std::thread::LocalKey;

use crate::bindings::{log, plugin, request, request_body, response, response_body};
use crate::host::exchange;
use crate::host::types::{BodyVerdict, Phases, Summary, Verdict};
use crate::{Plugin, Request, Response, Result, config};

/// A plugin with a place for its one instance, which `#[plugin]` provides.
pub trait Component: Plugin {
    fn instance() -> &'static LocalKey<OnceCell<Self>>;
}

fn call<P: Component, T>(phase: impl FnOnce(&P) -> Result<T>) -> Result<T, String> {
    P::instance().with(|instance| match instance.get() {
        Some(plugin) => phase(plugin).map_err(|error| error.to_string()),
        None => Err("a phase was called before init".to_string()),
    })
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
    fn on_request(request: &exchange::Request) -> Result<Verdict, String> {
        call(|plugin: &P| plugin.on_request(&Request::new(request)))
    }
}

impl<P: Component> request_body::exports::wasmgate::plugin::request_body_phase::Guest for P {
    fn on_request_body(
        request: &exchange::Request,
        chunk: Vec<u8>,
        end: bool,
    ) -> Result<BodyVerdict, String> {
        call(|plugin: &P| plugin.on_request_body(&Request::new(request), chunk, end))
    }
}

impl<P: Component> response::exports::wasmgate::plugin::response_phase::Guest for P {
    fn on_response(request: &exchange::Request, response: &exchange::Response) -> Result<Verdict, String> {
        call(|plugin: &P| plugin.on_response(&Request::new(request), &Response::new(response)))
    }
}

impl<P: Component> response_body::exports::wasmgate::plugin::response_body_phase::Guest for P {
    fn on_response_body(
        request: &exchange::Request,
        response: &exchange::Response,
        chunk: Vec<u8>,
        end: bool,
    ) -> Result<BodyVerdict, String> {
        call(|plugin: &P| {
            plugin.on_response_body(&Request::new(request), &Response::new(response), chunk, end)
        })
    }
}

impl<P: Component> log::exports::wasmgate::plugin::log_phase::Guest for P {
    fn on_log(request: &exchange::Request, response: &exchange::Response, summary: Summary) {
        // Only an instance without init could fail here, and there is nobody left to tell.
        let _ = call(|plugin: &P| {
            plugin.on_log(&Request::new(request), &Response::new(response), &summary);
            Ok(())
        });
    }
}
