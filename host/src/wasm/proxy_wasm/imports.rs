//! The host functions that filters import, one file for each group. All versions' functions are there for
//! every module: what a version does not have its modules do not import.

mod attribute;
pub mod buffers;
pub mod foreign;
pub mod grpc;
pub mod http;
pub mod maps;
pub mod metrics;
pub mod properties;
pub mod shared;
pub mod stream;
pub mod vm;
pub mod wasi;

use wasmtime::{Engine, Linker};

use super::context::VmData;

/// Defines host functions from a list of their names, parameters and what runs; and the list of their names.
/// A function of `always` may also be called while the module starts or its allocator runs.
macro_rules! functions {
    ($($(#[$always:ident])? $name:ident($($parameter:ident: $type:ty),*) => $run:path;)*) => {
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        pub fn define(linker: &mut wasmtime::Linker<crate::wasm::proxy_wasm::context::VmData>) -> wasmtime::Result<()> {
            use crate::wasm::proxy_wasm::{abi, call::Call, context::VmData};
            $(
                linker.func_wrap(
                    "env",
                    stringify!($name),
                    |caller: wasmtime::Caller<'_, VmData>, $($parameter: $type),*| {
                        let mut call = Call::new(caller);
                        let always = [$(stringify!($always))?].contains(&"always");
                        abi::status(call.check(|_| always).and_then(|()| $run(&mut call, $($parameter),*)))
                    },
                )?;
            )*
            Ok(())
        }
    };
}
use functions;

/// By module, the names of all that can be imported.
pub const KNOWN: [(&str, &[&str]); 13] = [
    ("env", vm::NAMES),
    ("env", vm::HELPERS),
    ("env", maps::NAMES),
    ("env", buffers::NAMES),
    ("env", properties::NAMES),
    ("env", stream::NAMES),
    ("env", http::NAMES),
    ("env", grpc::NAMES),
    ("env", shared::NAMES),
    ("env", metrics::NAMES),
    ("env", foreign::NAMES),
    (wasi::MODULES[0], wasi::NAMES),
    (wasi::MODULES[1], wasi::NAMES),
];

pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<VmData>> {
    let mut linker = Linker::new(engine);
    vm::define(&mut linker)?;
    vm::define_helpers(&mut linker)?;
    maps::define(&mut linker)?;
    buffers::define(&mut linker)?;
    properties::define(&mut linker)?;
    stream::define(&mut linker)?;
    http::define(&mut linker)?;
    grpc::define(&mut linker)?;
    shared::define(&mut linker)?;
    metrics::define(&mut linker)?;
    foreign::define(&mut linker)?;
    for module in wasi::MODULES {
        wasi::define(&mut linker, module)?;
    }
    Ok(linker)
}
