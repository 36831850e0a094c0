//! The plugin's own log lines, in the gateway's log under the plugin's name.
//!
//! The macros take what `format!` takes, and format nothing where the line would not be written.
//! Lines beyond the plugin's rate are dropped and counted by the gateway.
//!
//! ```
//! use wasmgate_sdk::log;
//!
//! fn report(key: &str) {
//!     log::warn!("the key {key} is about to expire");
//! }
//! ```

use std::fmt;

use crate::host::log;

/// How much a line matters, from the most to the least.
///
/// ```
/// use wasmgate_sdk::log::Level;
///
/// assert!(Level::Error < Level::Debug);
/// ```
#[doc(inline)]
pub use crate::bindings::plugin::wasmgate::plugin::log::Level;

/// Whether a line of this level would be written: ask before building a costly one.
///
/// ```
/// use wasmgate_sdk::log::{self, Level};
///
/// fn trace(parts: &[&str]) {
///     if log::enabled(Level::Debug) {
///         log::debug!("parts: {}", parts.join(", "));
///     }
/// }
/// ```
pub fn enabled(level: Level) -> bool {
    log::enabled(level)
}

/// What the macros call.
///
/// ```
/// use wasmgate_sdk::log::{self, Level};
///
/// fn report(level: Level, count: u32) {
///     log::write(level, format_args!("{count} keys loaded"));
/// }
/// ```
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if log::enabled(level) {
        log::write(level, &message.to_string());
    }
}

macro_rules! level_macro {
    ($hidden:ident, $name:ident, $level:ident, $what:literal, $dollar:tt) => {
        #[doc = concat!("Writes a line of the level ", stringify!($name), ": ", $what)]
        ///
        /// ```
        /// fn report(count: u32) {
        #[doc = concat!("    wasmgate_sdk::log::", stringify!($name), "!(\"{count} keys\");")]
        /// }
        /// ```
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $hidden {
            ($dollar($message:tt)*) => {
                $crate::log::write($crate::log::Level::$level, ::std::format_args!($dollar($message)*))
            };
        }
        #[doc(inline)]
        pub use $hidden as $name;
    };
}

level_macro!(__log_error, error, Error, "something is broken.", $);
level_macro!(__log_warn, warn, Warn, "something will break, or was repaired.", $);
level_macro!(__log_info, info, Info, "what an operator wants to know.", $);
level_macro!(__log_debug, debug, Debug, "what helps to find a fault in a config.", $);
level_macro!(__log_trace, trace, Trace, "what helps to find a fault in the plugin.", $);
