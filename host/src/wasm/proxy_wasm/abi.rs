//! Numbers of the proxy-wasm ABI: versions 0.1.0, 0.2.0 and 0.2.1.

use wasmtime::Error;

/// What a module was built for, told by the name of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_2_1,
}

impl Version {
    pub const MARKERS: [(&str, Version); 3] = [
        ("proxy_abi_version_0_1_0", Version::V0_1_0),
        ("proxy_abi_version_0_2_0", Version::V0_2_0),
        ("proxy_abi_version_0_2_1", Version::V0_2_1),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_2_1 => "0.2.1",
        }
    }
}

/// What a host function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    SerializationFailure = 3,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
    Unimplemented = 12,
}

/// Why a host function has no result: a status for the guest, or the end of its VM.
#[derive(Debug)]
pub enum Fault {
    Status(Status),
    Trap(Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Fault::Status(status)
    }
}

impl Fault {
    pub fn trap(text: impl Into<String>) -> Self {
        Fault::Trap(Error::msg(text.into()))
    }
}

pub type Answer<T = ()> = Result<T, Fault>;

/// The guest's view of an answer.
pub fn status(answer: Answer) -> wasmtime::Result<u32> {
    match answer {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Fault::Status(status)) => Ok(status as u32),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// A header map by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    GrpcInitialMetadata,
    GrpcTrailingMetadata,
    CallHeaders,
    CallTrailers,
}

impl MapType {
    pub fn of(number: u32) -> Answer<MapType> {
        use MapType as M;
        let types = [
            M::RequestHeaders,
            M::RequestTrailers,
            M::ResponseHeaders,
            M::ResponseTrailers,
            M::GrpcInitialMetadata,
            M::GrpcTrailingMetadata,
            M::CallHeaders,
            M::CallTrailers,
        ];
        types.get(number as usize).copied().ok_or(Fault::Status(Status::BadArgument))
    }
}

/// A buffer by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferType {
    RequestBody,
    ResponseBody,
    DownstreamData,
    UpstreamData,
    CallBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
    ForeignArguments,
}

impl BufferType {
    pub fn of(number: u32) -> Answer<BufferType> {
        use BufferType as B;
        let types = [
            B::RequestBody,
            B::ResponseBody,
            B::DownstreamData,
            B::UpstreamData,
            B::CallBody,
            B::GrpcMessage,
            B::VmConfiguration,
            B::PluginConfiguration,
            B::ForeignArguments,
        ];
        types.get(number as usize).copied().ok_or(Fault::Status(Status::BadArgument))
    }
}

/// What a callback for a head or for trailers decides: anything but 0 and 2 stops; 2
/// (ContinueAndEndStream) is as good as 0 in Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Continue,
    Pause,
}

impl Action {
    pub fn of(number: u32) -> Action {
        match number {
            0 | 2 => Action::Continue,
            _ => Action::Pause,
        }
    }
}

/// What a callback for a piece of a body decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataAction {
    Continue,
    /// Keep this piece and the next ones; more than the limit is an error.
    Buffer,
    /// The same, but past the limit the peer has to wait.
    Watermark,
    /// Drop this piece.
    NoBuffer,
}

impl DataAction {
    pub fn of(number: u32) -> DataAction {
        match number {
            0 => DataAction::Continue,
            1 => DataAction::Buffer,
            2 => DataAction::Watermark,
            _ => DataAction::NoBuffer,
        }
    }
}
