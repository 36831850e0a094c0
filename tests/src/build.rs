//! What the tests run: the release binary, the plugins and the guests, each built when a test first
//! asks for it, once per process. Several processes may do this at once: cargo waits for its lock,
//! and files are replaced whole.

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use wasmgate_build::{gateway, guests, plugins, target_directory};

type Built = OnceLock<io::Result<PathBuf>>;

/// The gateway's binary: the one of WASMGATE_BINARY, or that of this workspace, built if need be.
pub fn binary() -> &'static Path {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || match env::var_os("WASMGATE_BINARY") {
        Some(binary) => Ok(binary.into()),
        None => gateway(),
    })
}

/// Folder of the repository's own plugins.
pub fn plugin_directory() -> &'static Path {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, plugins)
}

/// Folder of the guests that are made for tests.
pub fn guest_directory() -> &'static Path {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || {
        let directory = target_directory().join("guests");
        guests(&["rogue"], &directory)?;
        Ok(directory)
    })
}

/// A plugin's file.
pub fn plugin(name: &str) -> PathBuf {
    plugin_directory().join(name).with_extension("wasm")
}

/// A guest's file.
pub fn guest(name: &str) -> PathBuf {
    guest_directory().join(name).with_extension("wasm")
}

/// A build that failed is not tried again for the next test.
fn once(built: &'static Built, build: fn() -> io::Result<PathBuf>) -> &'static Path {
    match built.get_or_init(build) {
        Ok(path) => path,
        Err(error) => panic!("what the tests run cannot be built: {error}"),
    }
}
