//! An address or a network, as it is written.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A network; an address is one of its whole length. What is written as IPv4-mapped IPv6 (RFC 4291, section 2.5.5.2) is
/// IPv4. Shown as an address, or with its length behind a slash.
///
/// ```
/// use wasmgate_networks::Network;
///
/// let network = Network::new("192.0.2.77".parse().unwrap(), 24).unwrap();
/// assert_eq!(network.to_string(), "192.0.2.0/24");
/// assert!(Network::new("192.0.2.77".parse().unwrap(), 33).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

/// What is written in a list.
///
/// ```
/// use wasmgate_networks::Entry;
///
/// let entry = Entry::read("10.0.0.1/8").unwrap();
/// assert!(entry.has_host_bits);
/// assert_eq!(entry.network.to_string(), "10.0.0.0/8");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub network: Network,
    /// Bits behind the length were set; they mean nothing.
    pub has_host_bits: bool,
}

impl Network {
    /// The network of this length that the address is in. None where addresses are not that long.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Self::v4(address, length),
            IpAddr::V6(address) => match (address.to_ipv4_mapped(), length.checked_sub(96)) {
                (Some(address), Some(length)) => Self::v4(address, length),
                _ => Self::v6(address, length),
            },
        }
    }

    fn v4(address: Ipv4Addr, length: u8) -> Option<Self> {
        let address = Ipv4Addr::from_bits(address.to_bits().mask(length));
        (length <= 32).then(|| Network { address: address.into(), length })
    }

    fn v6(address: Ipv6Addr, length: u8) -> Option<Self> {
        let address = Ipv6Addr::from_bits(address.to_bits().mask(length));
        (length <= 128).then(|| Network { address: address.into(), length })
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits its addresses have in common.
    pub fn length(&self) -> u8 {
        self.length
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Network { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.length) {
            (IpAddr::V4(address), 32) => write!(f, "{address}"),
            (IpAddr::V6(address), 128) => write!(f, "{address}"),
            (address, length) => write!(f, "{address}/{length}"),
        }
    }
}

impl Entry {
    /// An address, or an address and the length of its network. None where the text is neither.
    pub fn read(text: &str) -> Option<Self> {
        let Some((address, length)) = text.split_once('/') else {
            let address: IpAddr = text.parse().ok()?;
            return Some(Entry { network: address.into(), has_host_bits: false });
        };
        let (address, length): (IpAddr, _) = (address.parse().ok()?, number(length)?);
        let network = Network::new(address, length)?;
        Some(Entry { network, has_host_bits: network.address != address.to_canonical() })
    }
}

/// Without signs and leading zeros, which others may read in another way.
fn number(text: &str) -> Option<u8> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Bits of an address.
pub trait Bits: Copy + Ord {
    /// Those of the length, and zeros behind them.
    fn mask(self, length: u8) -> Self;
}

impl Bits for u32 {
    fn mask(self, length: u8) -> Self {
        self & !u32::MAX.checked_shr(length.into()).unwrap_or(0)
    }
}

impl Bits for u128 {
    fn mask(self, length: u8) -> Self {
        self & !u128::MAX.checked_shr(length.into()).unwrap_or(0)
    }
}
