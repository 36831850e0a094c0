//! Sets of addresses and networks, and which entry of a set an address falls under. The gateway, the fake host of
//! plugins' tests and plugins with lists of their own run the same code.

mod network;
mod set;
#[cfg(test)]
mod tests;

pub use network::{Entry, Network};
pub use set::NetworkSet;
