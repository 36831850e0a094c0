//! Which endpoints of an upstream are in service: by checks of the gateway's own, and by what became of
//! requests.

pub mod checks;
pub mod outliers;
