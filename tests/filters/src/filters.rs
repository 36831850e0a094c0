//! The filters, one a file. Most do what the request header `x-do` asks for.

mod bodies;
mod calls;
mod chain;
mod contexts;
mod done;
mod everywhere;
mod examples;
mod foreign;
mod grpc_calls;
mod grpc_streams;
mod headers;
mod levels;
mod locals;
mod metrics;
mod observe;
mod pauses;
mod pointers;
mod properties;
mod queues;
mod routes;
mod shared;
mod start;
mod state;
mod streams;
mod tcp;
mod ticks;
mod trailers;
mod traps;
mod wasi;

use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext, RootContext},
    types::{ContextType, MapType},
};

use crate::host::say;

/// The root context of a filter.
pub fn root(name: &str, id: u32) -> Box<dyn RootContext> {
    match name {
        "bodies" => Plain::of(|| Box::new(bodies::Bodies::default())),
        "calls" => Box::new(calls::Root),
        "chain" => Box::new(chain::Root::default()),
        "contexts" => Box::new(contexts::Root::new(id)),
        "done" => Box::new(done::Root),
        "reads" => everywhere::Root::boxed(everywhere::reads),
        "writes" => everywhere::Root::boxed(everywhere::writes),
        "services" => everywhere::Root::boxed(everywhere::services),
        "foreign" => Plain::of(|| Box::new(foreign::Foreign)),
        "grpc_calls" => Plain::of(|| Box::new(grpc_calls::Calls::default())),
        "grpc_streams" => Plain::of(|| Box::new(grpc_streams::Streams::default())),
        "headers" => Plain::of(|| Box::new(headers::Headers::default())),
        "levels" => Plain::of(|| Box::new(levels::Levels)),
        "locals" => Plain::of(|| Box::new(locals::Locals::default())),
        "metrics" => Box::new(metrics::Root::default()),
        "observe" => Plain::of(|| Box::new(observe::Observe)),
        "pauses" => Plain::of(|| Box::new(pauses::Pauses::default())),
        "pointers" => Plain::of(|| Box::new(pointers::Pointers)),
        "properties" => Plain::of(|| Box::new(properties::Properties)),
        "queues" => Box::new(queues::Root::default()),
        "routes" => Plain::of(|| Box::new(routes::Routes)),
        "shared" => Plain::of(|| Box::new(shared::Shared)),
        "start" => Box::new(start::Root),
        "state" => Plain::of(|| Box::new(state::State)),
        "streams" => Plain::of(|| Box::new(streams::Streams::default())),
        "tcp" => Box::new(tcp::Root),
        "ticks" => Box::new(ticks::Root::default()),
        "trailers" => Plain::of(|| Box::new(trailers::Trailers::default())),
        "traps" => Box::new(traps::Root::default()),
        "wasi" => Plain::of(|| Box::new(wasi::Wasi)),
        "hello_world" => Box::new(examples::hello_world::HelloWorld),
        "http_auth_random" => Plain::of(|| Box::new(examples::http_auth_random::HttpAuthRandom)),
        "http_body" => Plain::of(|| Box::new(examples::http_body::HttpBody)),
        "http_config" => Box::new(examples::http_config::Root::default()),
        "http_headers" => Box::new(examples::http_headers::Root),
        "grpc_auth_random" => Plain::of(|| Box::new(examples::grpc_auth_random::GrpcAuthRandom)),
        name => {
            say(format!("there is no filter {name:?}"));
            Plain::of(|| Box::new(observe::Observe))
        }
    }
}

/// A root context that only makes HTTP contexts.
struct Plain(fn() -> Box<dyn HttpContext>);

impl Plain {
    fn of(make: fn() -> Box<dyn HttpContext>) -> Box<dyn RootContext> {
        Box::new(Plain(make))
    }
}

impl Context for Plain {}

impl RootContext for Plain {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some((self.0)())
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// What the request asks for. Only in the phase of the request's headers.
fn wish() -> String {
    let value = hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, "x-do");
    String::from_utf8_lossy(&value.ok().flatten().unwrap_or_default()).into_owned()
}
