//! HTTP/2 with clients (RFC 9113), frame by frame and with the programs of others.

mod downgrade;
mod floods;
mod flow;
mod life;
mod peers;
mod rfc;

/// Codes of errors (RFC 9113, section 7).
mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL: u32 = 1;
    pub const INTERNAL: u32 = 2;
    pub const FLOW_CONTROL: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE: u32 = 6;
    pub const REFUSED: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION: u32 = 9;
    pub const CALM: u32 = 11;
}

/// Names of settings (RFC 9113, section 6.5.2).
mod setting {
    pub const TABLE: u16 = 1;
    pub const PUSH: u16 = 2;
    pub const STREAMS: u16 = 3;
    pub const WINDOW: u16 = 4;
    pub const FRAME: u16 = 5;
}
