//! Headers, trailers and metadata. Names are lower case; a name's first value stands for all of them where one
//! is asked for. What belongs to the connection (RFC 9110, section 7.6.1) is not shown and cannot be set: such a
//! call changes nothing.
//!
//! Requests stay readable for the life of the stream; in Envoy only until they go on, and filters written with
//! its SDKs end there when they look later.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::functions;
use crate::{
    plugin::{
        exchange::State,
        headers::{MAX_HEADER, MAX_LINES},
    },
    wasm::proxy_wasm::{
        abi::{Answer, Fault, MapType, Status, Version},
        call::{Call, slice},
        context::{Flaws, Pairs, VmData},
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
    /// With its pseudo headers, of which some may be missing. Host is shown as one of them.
    Request([Option<Entry<'a>>; 4], &'a HeaderMap),
    Response(Option<Entry<'a>>, &'a HeaderMap),
    Plain(&'a HeaderMap),
    Pairs(&'a Pairs),
}

type Entry<'a> = (&'a [u8], &'a [u8]);

impl<'a> Map<'a> {
    pub fn request(state: &'a State, flaws: &'a Flaws) -> Self {
        let head = &state.request;
        let authority = head.send_authority.as_ref().unwrap_or(&head.authority);
        let pseudo = [
            (":authority", authority.as_str()),
            (":path", head.current_target().as_str()),
            (":method", head.method.as_str()),
            (":scheme", flaws.scheme.as_deref().unwrap_or(state.scheme())),
        ];
        Map::Request(pseudo.map(|(name, value)| flaws.seen(name, value)), &head.headers)
    }

    pub fn response(state: &'a State, flaws: &'a Flaws) -> Option<Self> {
        let head = state.response.as_ref()?;
        Some(Map::Response(flaws.seen(":status", head.status.as_str()), &head.headers))
    }

    pub fn entries(&self) -> Vec<Entry<'a>> {
        let fields =
            |map: &'a HeaderMap| map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        match *self {
            Map::Request(pseudo, map) => {
                let fields = fields(map).filter(|(name, _)| *name != b"host");
                pseudo.into_iter().flatten().chain(fields).collect()
            }
            Map::Response(status, map) => status.into_iter().chain(fields(map)).collect(),
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
        let of = |pseudo: &[Option<Entry<'a>>], name: &[u8]| {
            pseudo.iter().flatten().find(|(known, _)| *known == name).map(|(_, value)| *value)
        };
        match self {
            Map::Request(pseudo, _) if name == b"host" => of(pseudo, b":authority"),
            Map::Request(pseudo, _) if name.starts_with(b":") => of(pseudo, name),
            Map::Response(status, _) if name.starts_with(b":") => of(&[*status], name),
            Map::Request(_, map) | Map::Response(_, map) | Map::Plain(map) => field(map),
            Map::Pairs(pairs) => {
                pairs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
            }
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Map::Request(pseudo, map) => {
                pseudo.iter().flatten().count() + map.len() - usize::from(map.contains_key("host"))
            }
            Map::Response(status, map) => status.iter().count() + map.len(),
            Map::Plain(map) => map.len(),
            Map::Pairs(pairs) => pairs.len(),
        }
    }
}

impl Flaws {
    fn seen<'a>(&self, name: &'static str, value: &'a str) -> Option<Entry<'a>> {
        (!self.missing.contains(&name)).then_some((name.as_bytes(), value.as_bytes()))
    }
}

/// None where it is not there, or not yet.
fn readable(data: &mut VmData, kind: MapType) -> Option<Map<'_>> {
    match kind {
        MapType::RequestHeaders => {
            let stream = data.stream()?;
            Some(Map::request(stream.state.as_deref()?, &stream.request.flaws))
        }
        MapType::RequestTrailers => data.state()?.request_trailers.as_deref().map(Map::Plain),
        MapType::ResponseHeaders => {
            let stream = data.stream()?;
            let state = stream.state.as_deref().filter(|_| stream.response_reached)?;
            Map::response(state, &stream.response.flaws)
        }
        MapType::ResponseTrailers => data.state()?.response_trailers.as_deref().map(Map::Plain),
        MapType::GrpcInitialMetadata => data.reply.initial.as_ref().map(Map::Pairs),
        MapType::GrpcTrailingMetadata => data.reply.trailing.as_ref().map(Map::Pairs),
        MapType::CallHeaders => data.reply.headers.as_ref().map(Map::Pairs),
        MapType::CallTrailers => data.reply.trailers.as_ref().map(Map::Pairs),
    }
}

/// Envoy tells the bytes of names and values, not those of the list; of messages of the stream only.
fn get_size(call: &mut Call<'_>, map: u32, size_out: u32) -> Answer {
    let map = readable(call.data(), MapType::of(map)?).filter(|map| !matches!(map, Map::Pairs(_)));
    let map = map.ok_or(Status::BadArgument)?;
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
    let (version, is_log) = (data.guest.version, data.stream().is_some_and(|stream| stream.log_open));
    let Some(map) = readable(data, kind) else {
        return Err(if is_log { Status::NotFound } else { Status::BadArgument }.into());
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
    change(call, map, (key, key_size), (value, size), Put::Add)
}

fn replace_value(call: &mut Call<'_>, map: u32, key: u32, key_size: u32, value: u32, size: u32) -> Answer {
    change(call, map, (key, key_size), (value, size), Put::Replace)
}

fn change(call: &mut Call<'_>, map: u32, key: (u32, u32), value: (u32, u32), how: Put) -> Answer {
    let kind = MapType::of(map)?;
    let mut name = [0; 128];
    let name = lower_case(call, key.0, key.1, &mut name)?;
    let (memory, data) = call.split()?;
    let value = slice(memory, value.0, value.1)?;
    data.account(value.len() as u32)?;
    Writable::of(data, kind)?.put(&name, value, how);
    Ok(())
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
        map.put(&name.to_ascii_lowercase(), value, Put::Add);
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    Add,
    Replace,
}

/// A map that may be changed now.
enum Writable<'a> {
    Request(&'a mut State, &'a mut Flaws),
    Response(&'a mut State, &'a mut Flaws),
    Plain(&'a mut HeaderMap),
}

const PSEUDO: [&str; 4] = [":authority", ":path", ":method", ":scheme"];
const STATUS: [&str; 1] = [":status"];

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
                Writable::Request(state, &mut stream.request.flaws)
            }
            MapType::ResponseHeaders if stream.response.head_open => {
                Writable::Response(state, &mut stream.response.flaws)
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

    fn pseudo(&self) -> &'static [&'static str] {
        match self {
            Writable::Request(..) => &PSEUDO,
            Writable::Response(..) => &STATUS,
            Writable::Plain(_) => &[],
        }
    }

    fn flaws(&mut self) -> Option<&mut Flaws> {
        match self {
            Writable::Request(_, flaws) | Writable::Response(_, flaws) => Some(flaws),
            Writable::Plain(_) => None,
        }
    }

    /// What is no HTTP spoils the whole head; trailers go without it.
    fn put(&mut self, name: &[u8], value: &[u8], how: Put) {
        if let Some(name) = self.pseudo_name(name) {
            return self.put_pseudo(name, value, how);
        }
        let pair = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
        let length = name.len() + value.len();
        match (pair, self.map()) {
            (Some((name, _)), _) if belongs_to_connection(&name) => {}
            (Some((name, value)), Some(map)) if length <= MAX_HEADER && map.len() < MAX_LINES => match how {
                Put::Add => _ = map.append(name, value),
                Put::Replace => _ = map.insert(name, value),
            },
            _ if name.starts_with(b":") => {}
            _ => {
                if let Some(flaws) = self.flaws() {
                    flaws.broken = true;
                }
            }
        }
    }

    /// The name of a pseudo header that this map can have.
    fn pseudo_name(&self, name: &[u8]) -> Option<&'static str> {
        let name = if name == b"host" { b":authority" } else { name };
        self.pseudo().iter().find(|known| known.as_bytes() == name).copied()
    }

    /// Envoy adds to one by a comma. One that is no HTTP is as good as none.
    fn put_pseudo(&mut self, name: &'static str, value: &[u8], how: Put) {
        let old = self.value(name).filter(|_| how == Put::Add);
        let text = String::from_utf8_lossy(value);
        let text = old.map_or(text.to_string(), |old| format!("{old},{text}"));
        let set = match (&mut *self, name) {
            (Writable::Request(state, _), ":method") => state.set_method(&text).is_ok(),
            (Writable::Request(state, _), ":path") => state.set_target(&text).is_ok(),
            (Writable::Request(state, _), ":authority") => state.set_authority(&text).is_ok(),
            (Writable::Response(state, _), _) => {
                text.parse().is_ok_and(|status| state.set_status(status).is_ok())
            }
            (Writable::Request(_, flaws), _) => {
                flaws.scheme = Some(text);
                true
            }
            (Writable::Plain(_), _) => true,
        };
        if let Some(flaws) = self.flaws() {
            flaws.missing.retain(|missing| *missing != name);
            flaws.missing.extend((!set).then_some(name));
        }
    }

    fn value(&self, name: &str) -> Option<String> {
        let map = match self {
            Writable::Request(state, flaws) => Map::request(state, flaws),
            Writable::Response(state, flaws) => Map::response(state, flaws)?,
            Writable::Plain(map) => Map::Plain(map),
        };
        map.value(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    fn remove(&mut self, name: &[u8]) {
        if let Some(name) = self.pseudo_name(name) {
            if let Some(flaws) = self.flaws().filter(|flaws| !flaws.missing.contains(&name)) {
                flaws.missing.push(name);
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
        let pseudo = self.pseudo();
        if let Some(flaws) = self.flaws() {
            *flaws = Flaws { missing: pseudo.to_vec(), ..Flaws::default() };
        }
    }
}

fn belongs_to_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    )
}
