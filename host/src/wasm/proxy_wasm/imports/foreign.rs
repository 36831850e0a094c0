//! Foreign functions: those that Envoy offers to HTTP filters, by name.

pub mod expression;
mod signature;

use std::{collections::hash_map::Entry, io::Read};

use flate2::{
    Compression,
    read::{ZlibDecoder, ZlibEncoder},
};
use prost::Message;

use super::{functions, stream};
use crate::wasm::proxy_wasm::{
    abi::{Answer, Fault, Status},
    call::Call,
    proto,
};

functions! {
    proxy_call_foreign_function(name: u32, name_size: u32, at: u32, size: u32, at_out: u32, size_out: u32) => call_foreign;
}

/// Names and what they do; nothing else is known.
type Function = fn(&mut Call<'_>, &[u8]) -> Answer<Vec<u8>>;
pub const FUNCTIONS: [(&str, Function); 10] = [
    ("compress", compress),
    ("uncompress", uncompress),
    ("clear_route_cache", clear_route_cache),
    ("set_envoy_filter_state", set_filter_state),
    ("declare_property", declare_property),
    ("expr_create", expression::create),
    ("expr_evaluate", expression::evaluate),
    ("expr_delete", expression::delete),
    ("verify_signature", signature::verify),
    ("sign", signature::sign),
];

/// The result may be of no interest: then there is no place for it.
fn call_foreign(
    call: &mut Call<'_>,
    name: u32,
    name_size: u32,
    at: u32,
    size: u32,
    at_out: u32,
    size_out: u32,
) -> Answer {
    let name = call.text(name, name_size)?;
    let argument = call.copy(at, size)?;
    let function = FUNCTIONS.iter().find(|(known, _)| *known == name);
    let (_, function) = function.ok_or(Status::NotFound)?;
    let result = function(call, &argument)?;
    match at_out != 0 && size_out != 0 {
        true => call.give(&result, at_out, size_out),
        false => Ok(()),
    }
}

fn compress(call: &mut Call<'_>, bytes: &[u8]) -> Answer<Vec<u8>> {
    read(call, ZlibEncoder::new(bytes, Compression::default()))
}

fn uncompress(call: &mut Call<'_>, bytes: &[u8]) -> Answer<Vec<u8>> {
    read(call, ZlibDecoder::new(bytes))
}

/// No more than the guest may be given.
fn read(call: &mut Call<'_>, reader: impl Read) -> Answer<Vec<u8>> {
    let mut result = Vec::new();
    let limit = call.data().bytes_left as u64;
    let read = reader.take(limit + 1).read_to_end(&mut result);
    read.map_err(|_| Fault::Status(Status::SerializationFailure))?;
    Ok(result)
}

fn clear_route_cache(call: &mut Call<'_>, _: &[u8]) -> Answer<Vec<u8>> {
    stream::clear_route_cache(call)?;
    Ok(Vec::new())
}

/// A variable of the request.
fn set_filter_state(call: &mut Call<'_>, bytes: &[u8]) -> Answer<Vec<u8>> {
    let state = proto::SetFilterState::decode(bytes).map_err(|_| Status::BadArgument)?;
    let stream = call.data().state().ok_or(Status::NotFound)?;
    let set = stream.set_var(state.path, state.value.into_bytes());
    set.map_err(|_| Fault::Status(Status::InternalFailure))?;
    Ok(Vec::new())
}

/// How a property behaves that filters of this VM set. Expressions see it as text or as bytes; nothing else comes of it
/// here, and in Envoy `readonly` keeps none from setting it twice either.
fn declare_property(call: &mut Call<'_>, bytes: &[u8]) -> Answer<Vec<u8>> {
    let property = proto::DeclareProperty::decode(bytes).map_err(|_| Status::BadArgument)?;
    match call.data().declared.entry(property.name) {
        Entry::Vacant(entry) => _ = entry.insert(property.kind),
        Entry::Occupied(_) => return Err(Status::BadArgument.into()),
    }
    Ok(Vec::new())
}
