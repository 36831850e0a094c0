//! Bodies, messages and configurations.

use super::functions;
use crate::wasm::proxy_wasm::{
    abi::{Answer, BufferType, Status},
    call::{Call, slice},
    context::{Side, VmData, replaced},
};

functions! {
    proxy_get_buffer_bytes(kind: u32, start: u32, size: u32, at_out: u32, size_out: u32) => get;
    proxy_get_buffer_status(kind: u32, size_out: u32, flags_out: u32) => get_status;
    proxy_set_buffer_bytes(kind: u32, start: u32, size: u32, at: u32, length: u32) => set;
    proxy_get_configuration(at_out: u32, size_out: u32) => get_configuration;
}

/// A part of a buffer: as much of it as there is.
fn get(call: &mut Call<'_>, kind: u32, start: u32, size: u32, at_out: u32, size_out: u32) -> Answer {
    let kind = BufferType::of(kind)?;
    let length = buffer(call.data(), kind).ok_or(Status::NotFound)?.len();
    let start = length.min(start as usize);
    let end = length.min(start + size as usize);
    call.give_with(end - start, at_out, size_out, |data, target| {
        // It is as long as it was: nothing of the guest's but its allocator has run.
        if let Some(part) = buffer(data, kind).and_then(|buffer| buffer.get(start..end)) {
            target.copy_from_slice(part);
        }
    })
}

/// Envoy never sets a flag.
fn get_status(call: &mut Call<'_>, kind: u32, size_out: u32, flags_out: u32) -> Answer {
    let length = buffer(call.data(), BufferType::of(kind)?).ok_or(Status::NotFound)?.len();
    call.write_u32(size_out, length as u32)?;
    call.write_u32(flags_out, 0)
}

/// Before all, in place of what is in front, or behind all; not in the middle, as in Envoy.
fn set(call: &mut Call<'_>, kind: u32, start: u32, size: u32, at: u32, length: u32) -> Answer {
    let kind = BufferType::of(kind)?;
    let (memory, data) = call.split()?;
    let bytes = slice(memory, at, length)?;
    data.account(length)?;
    let limit = data.plugin().limits.host_bytes;
    let length = buffer(data, kind).ok_or(Status::NotFound)?.len();
    if length + bytes.len() > limit {
        return Err(Status::InternalFailure.into());
    }
    let (start, size) = (start as usize, size as usize);
    match (kind, &mut data.reply.message) {
        (BufferType::GrpcMessage, Some(message)) => {
            *message = replaced(message, start, size, bytes)?.into();
            Ok(())
        }
        _ => open_side(data, kind).ok_or(Status::BadArgument)?.replace(start, size, bytes),
    }
}

/// Of version 0.1.0: nothing but while the filter is configured.
fn get_configuration(call: &mut Call<'_>, at_out: u32, size_out: u32) -> Answer {
    match buffer(call.data(), BufferType::PluginConfiguration) {
        Some(_) => get(call, BufferType::PluginConfiguration as u32, 0, u32::MAX, at_out, size_out),
        None => call.give(&[], at_out, size_out),
    }
}

fn buffer(data: &mut VmData, kind: BufferType) -> Option<&[u8]> {
    match kind {
        BufferType::RequestBody => Some(data.stream().map_or(&[], |stream| stream.request.data())),
        BufferType::ResponseBody => Some(data.stream().map_or(&[], |stream| stream.response.data())),
        BufferType::CallBody => data.reply.body.as_deref(),
        // Envoy has an empty one where there is none.
        BufferType::GrpcMessage => Some(data.reply.message.as_deref().unwrap_or_default()),
        BufferType::DownstreamData | BufferType::UpstreamData | BufferType::ForeignArguments => Some(&[]),
        BufferType::VmConfiguration => Some(&data.guest.vm_config),
        BufferType::PluginConfiguration => {
            let root = data.root().ok().filter(|root| root.configuring)?;
            Some(&root.settings.config)
        }
    }
}

/// The direction whose body may be changed now.
fn open_side(data: &mut VmData, kind: BufferType) -> Option<&mut Side> {
    let stream = data.stream()?;
    let side = match kind {
        BufferType::RequestBody => &mut stream.request,
        BufferType::ResponseBody => &mut stream.response,
        _ => return None,
    };
    Some(side).filter(|side| side.body_open)
}
