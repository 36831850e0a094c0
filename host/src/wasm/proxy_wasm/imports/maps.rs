//! Headers, trailers and metadata. Names are lower case; a name's first value stands for all of them where one
//! is asked for. What belongs to the connection (RFC 9110, section 7.6.1) is not shown and cannot be set: such a
//! call changes nothing.
//!
//! Requests stay readable for the life of the stream; in Envoy only until they go on, and filters written with
//! its SDKs end there when they look later.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::functions;
use crate::{
    plugin::{
        exchange::{RequestHead, ResponseHead, State},
        headers::{MAX_HEADER, MAX_LINES},
    },
    wasm::proxy_wasm::{
        abi::{Answer, Fault, MapType, Status, Version},
        call::{Call, slice},
        context::{Pairs, VmData},
        pairs,
    },
};

functions! {
    proxy_get_header_map_size(map: u32, size_out: u32) => get_size;
    proxy_get_header_map_pairs(map: u32, at_out: u32, size_out: u32) => get_pairs;
    proxy_set_header_map_pairs(map: u32, at: u32, size: u32) => set_pairs;
    proxy_get_header_map_value(map: u32, key: u32, key_size: u32, at_out: u32, size_out: u32) => get_value;
    proxy_add_header_map_value(map: u32, key: u32, key_size: u32, value: u32, size: u32) => add_value;
    proxy_replace_header_map_value(map: u32, key: u32, key_size: u32, value: u32, size: u32) => replace_value;
    proxy_remove_header_map_value(map: u32, key: u32, key_size: u32) => remove_value;
}

/// A map as it can be read.
pub enum Map<'a> {
    Request(&'a RequestHead, &'static str),
    Response(&'a ResponseHead),
    Plain(&'a HeaderMap),
    Pairs(&'a Pairs),
}

type Entry<'a> = (&'a [u8], &'a [u8]);

impl<'a> Map<'a> {
    pub fn entries(&self) -> Vec<Entry<'a>> {
        let fields =
            |map: &'a HeaderMap| map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        match *self {
            Map::Request(head, scheme) => {
                let pseudo: [Entry<'_>; 4] = [
                    (b":authority", authority(head)),
                    (b":path", head.current_target().as_str().as_bytes()),
                    (b":method", head.method.as_str().as_bytes()),
                    (b":scheme", scheme.as_bytes()),
                ];
                let fields = fields(&head.headers).filter(|(name, _)| *name != b"host");
                pseudo.into_iter().chain(fields).collect()
            }
            Map::Response(head) => {
                let status: Entry<'_> = (b":status", head.status.as_str().as_bytes());
                std::iter::once(status).chain(fields(&head.headers)).collect()
            }
            Map::Plain(map) => fields(map).collect(),
            Map::Pairs(pairs) => pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect(),
        }
    }

    /// The first value of this name.
    pub fn value(&self, name: &[u8]) -> Option<&'a [u8]> {
        let field = |map: &'a HeaderMap| {
            let name = HeaderName::from_bytes(name).ok()?;
            map.get(name).map(HeaderValue::as_bytes)
        };
        match *self {
            Map::Request(head, scheme) => match name {
                b":authority" | b"host" => Some(authority(head)),
                b":path" => Some(head.current_target().as_str().as_bytes()),
                b":method" => Some(head.method.as_str().as_bytes()),
                b":scheme" => Some(scheme.as_bytes()),
                _ => field(&head.headers),
            },
            Map::Response(head) if name == b":status" => Some(head.status.as_str().as_bytes()),
            Map::Response(head) => field(&head.headers),
            Map::Plain(map) => field(map),
            Map::Pairs(pairs) => {
                pairs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
            }
        }
    }

    pub fn len(&self) -> usize {
        match self {
            // Host is shown as :authority.
            Map::Request(head, _) => 4 + head.headers.len() - usize::from(head.headers.contains_key("host")),
            Map::Response(head) => 1 + head.headers.len(),
            Map::Plain(map) => map.len(),
            Map::Pairs(pairs) => pairs.len(),
        }
    }
}

fn authority(head: &RequestHead) -> &[u8] {
    head.send_authority.as_ref().unwrap_or(&head.authority).as_str().as_bytes()
}

pub fn request(state: &State) -> Map<'_> {
    Map::Request(&state.request, state.scheme())
}

/// None where it is not there, or not yet.
fn readable(data: &mut VmData, kind: MapType) -> Option<Map<'_>> {
    match kind {
        MapType::RequestHeaders => data.state().map(|state| request(state)),
        MapType::RequestTrailers => data.state()?.request_trailers.as_deref().map(Map::Plain),
        MapType::ResponseHeaders => {
            let stream = data.stream()?;
            let reached = stream.response_reached;
            let state = stream.state.as_deref()?;
            state.response.as_ref().filter(|_| reached).map(Map::Response)
        }
        MapType::ResponseTrailers => data.state()?.response_trailers.as_deref().map(Map::Plain),
        MapType::GrpcInitialMetadata => data.reply.initial.as_ref().map(Map::Pairs),
        MapType::GrpcTrailingMetadata => data.reply.trailing.as_ref().map(Map::Pairs),
        MapType::CallHeaders => data.reply.headers.as_ref().map(Map::Pairs),
        MapType::CallTrailers => data.reply.trailers.as_ref().map(Map::Pairs),
    }
}

/// Envoy tells the bytes of names and values, not those of the list.
fn get_size(call: &mut Call<'_>, map: u32, size_out: u32) -> Answer {
    let map = readable(call.data(), MapType::of(map)?).ok_or(Status::BadArgument)?;
    let size: usize = map.entries().iter().map(|(name, value)| name.len() + value.len()).sum();
    call.write_u32(size_out, size as u32)
}

fn get_pairs(call: &mut Call<'_>, map: u32, at_out: u32, size_out: u32) -> Answer {
    let map = readable(call.data(), MapType::of(map)?);
    let bytes = map.map(|map| pairs::encode(map.entries().into_iter())).unwrap_or_default();
    call.give(&bytes, at_out, size_out)
}

fn get_value(call: &mut Call<'_>, map: u32, key: u32, key_size: u32, at_out: u32, size_out: u32) -> Answer {
    let kind = MapType::of(map)?;
    let mut name = [0; 128];
    let name = lower_case(call, key, key_size, &mut name)?;
    let data = call.data();
    let (version, over) = (data.guest.version, data.stream().is_some_and(|stream| stream.summary.is_some()));
    let Some(map) = readable(data, kind) else {
        return Err(if over { Status::NotFound } else { Status::BadArgument }.into());
    };
    match map.value(&name) {
        Some(value) => {
            // A few bytes, and its owner is behind the allocator's call.
            let value = value.to_vec();
            call.give(&value, at_out, size_out)
        }
        None if version == Version::V0_1_0 => call.give(&[], at_out, size_out),
        None => Err(Status::NotFound.into()),
    }
}

/// A name in the guest's memory.
fn lower_case<'a>(
    call: &mut Call<'_>,
    at: u32,
    size: u32,
    short: &'a mut [u8; 128],
) -> Answer<std::borrow::Cow<'a, [u8]>> {
    let (memory, data) = call.split()?;
    let name = slice(memory, at, size)?;
    data.account(size)?;
    match short.get_mut(..name.len()) {
        Some(short) => {
            short.copy_from_slice(name);
            short.make_ascii_lowercase();
            Ok((&*short).into())
        }
        None => Ok(name.to_ascii_lowercase().into()),
    }
}

fn add_value(call: &mut Call<'_>, map: u32, key: u32, key_size: u32, value: u32, size: u32) -> Answer {
    change(call, map, (key, key_size), (value, size), |map, name, value| {
        map.append(name, value);
    })
}

fn replace_value(call: &mut Call<'_>, map: u32, key: u32, key_size: u32, value: u32, size: u32) -> Answer {
    change(call, map, (key, key_size), (value, size), |map, name, value| {
        map.insert(name, value);
    })
}

fn change(
    call: &mut Call<'_>,
    map: u32,
    key: (u32, u32),
    value: (u32, u32),
    put: impl FnOnce(&mut HeaderMap, HeaderName, HeaderValue),
) -> Answer {
    let kind = MapType::of(map)?;
    let mut name = [0; 128];
    let name = lower_case(call, key.0, key.1, &mut name)?;
    let (memory, data) = call.split()?;
    let value = slice(memory, value.0, value.1)?;
    data.account(value.len() as u32)?;
    Writable::of(data, kind)?.put(&name, value, put)
}

/// Nothing there is nothing to do.
fn remove_value(call: &mut Call<'_>, map: u32, key: u32, key_size: u32) -> Answer {
    let kind = MapType::of(map)?;
    let mut name = [0; 128];
    let name = lower_case(call, key, key_size, &mut name)?;
    Writable::of(call.data(), kind)?.remove(&name);
    Ok(())
}

/// Everything goes; then these come, pseudo headers among them.
fn set_pairs(call: &mut Call<'_>, map: u32, at: u32, size: u32) -> Answer {
    let kind = MapType::of(map)?;
    let (memory, data) = call.split()?;
    let bytes = slice(memory, at, size)?;
    data.account(size)?;
    let mut map = Writable::of(data, kind)?;
    map.clear();
    for (name, value) in pairs::decode(bytes) {
        map.put(&name.to_ascii_lowercase(), value, |map, name, value| {
            map.append(name, value);
        })?;
    }
    Ok(())
}

/// A map that may be changed now.
enum Writable<'a> {
    Request(&'a mut State, &'a mut Option<&'static str>),
    Response(&'a mut State, &'a mut Option<&'static str>),
    Plain(&'a mut HeaderMap),
}

impl<'a> Writable<'a> {
    fn of(data: &'a mut VmData, kind: MapType) -> Answer<Self> {
        Self::find(data, kind).ok_or(Fault::Status(Status::BadArgument))
    }

    fn find(data: &'a mut VmData, kind: MapType) -> Option<Self> {
        let reroute = data.root().is_ok_and(|root| root.settings.reroute);
        let stream = data.stream()?;
        let state = stream.state.as_deref_mut()?;
        Some(match kind {
            MapType::RequestHeaders if stream.request.head_open => {
                stream.reroute |= reroute;
                Writable::Request(state, &mut stream.request.missing)
            }
            MapType::ResponseHeaders if stream.response.head_open => {
                Writable::Response(state, &mut stream.response.missing)
            }
            MapType::RequestTrailers if stream.request.trailers_open => {
                Writable::Plain(state.request_trailers.get_or_insert_default())
            }
            MapType::ResponseTrailers if stream.response.trailers_open => {
                Writable::Plain(state.response_trailers.get_or_insert_default())
            }
            _ => return None,
        })
    }

    fn map(&mut self) -> Option<&mut HeaderMap> {
        match self {
            Writable::Request(state, _) => Some(&mut state.request.headers),
            Writable::Response(state, _) => state.response.as_mut().map(|head| &mut head.headers),
            Writable::Plain(map) => Some(map),
        }
    }

    fn put(
        &mut self,
        name: &[u8],
        value: &[u8],
        put: impl FnOnce(&mut HeaderMap, HeaderName, HeaderValue),
    ) -> Answer {
        if self.is_pseudo(name) {
            return self.put_pseudo(name, value);
        }
        let name = HeaderName::from_bytes(name).map_err(|_| Status::BadArgument)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| Status::BadArgument)?;
        let Some(map) = self.map() else { return Ok(()) };
        if name.as_str().len() + value.len() > MAX_HEADER || map.len() >= MAX_LINES {
            return Err(Status::BadArgument.into());
        }
        if !belongs_to_connection(&name) {
            put(map, name, value);
        }
        Ok(())
    }

    fn is_pseudo(&self, name: &[u8]) -> bool {
        match self {
            Writable::Request(..) => name.starts_with(b":") || name == b"host",
            Writable::Response(..) | Writable::Plain(_) => name.starts_with(b":"),
        }
    }

    /// The scheme is the connection's; unknown ones have no meaning.
    fn put_pseudo(&mut self, name: &[u8], value: &[u8]) -> Answer {
        let text = std::str::from_utf8(value).map_err(|_| Status::BadArgument)?;
        let set = match self {
            Writable::Request(state, missing) => {
                if missing.is_some_and(|missing| missing.as_bytes() == name) {
                    **missing = None;
                }
                match name {
                    b":method" => {
                        state.request.method = Method::from_bytes(value).map_err(|_| Status::BadArgument)?;
                        Ok(())
                    }
                    b":path" => state.set_target(text),
                    b":authority" | b"host" => state.set_authority(text),
                    _ => Ok(()),
                }
            }
            Writable::Response(state, missing) if name == b":status" => {
                **missing = None;
                state.set_status(text.parse().map_err(|_| Status::BadArgument)?)
            }
            _ => Ok(()),
        };
        set.map_err(|_| Status::BadArgument.into())
    }

    fn remove(&mut self, name: &[u8]) {
        if self.is_pseudo(name) {
            let required = [":method", ":path", ":authority", ":status"];
            let found = required.into_iter().find(|known| known.as_bytes() == name);
            match self {
                Writable::Request(_, missing) | Writable::Response(_, missing) => {
                    **missing = found.or(**missing)
                }
                Writable::Plain(_) => {}
            }
        } else if let (Ok(name), Some(map)) = (HeaderName::from_bytes(name), self.map()) {
            map.remove(name);
        }
    }

    fn clear(&mut self) {
        if let Some(map) = self.map() {
            let host = map.remove(http::header::HOST);
            map.clear();
            host.map(|host| map.insert(http::header::HOST, host));
        }
        match self {
            Writable::Request(_, missing) => **missing = Some(":path"),
            Writable::Response(_, missing) => **missing = Some(":status"),
            Writable::Plain(_) => {}
        }
    }
}

fn belongs_to_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    )
}
