//! What the tests run: the release binary, the plugins and the guests, each built when a test first
//! asks for it, once per process. Several processes may do this at once: cargo waits for its lock,
//! and files are replaced whole.

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use wasmgate_build::{guests, modules, plugins, target_directory};

type Built = OnceLock<io::Result<PathBuf>>;

/// The gateway's binary: the one of WASMGATE_BINARY, or the one that cargo built for these tests.
pub fn binary() -> &'static Path {
    static BINARY: Built = OnceLock::new();
    once(&BINARY, || {
        let binary = env::var_os("WASMGATE_BINARY").or_else(|| env::var_os("CARGO_BIN_EXE_wasmgate"));
        binary
            .map(PathBuf::from)
            .ok_or_else(|| io::Error::other("neither cargo test nor WASMGATE_BINARY names the gateway"))
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
        guests(&["rogue", "versioned"], &directory)?;
        Ok(directory)
    })
}

/// One package for each version of the ABI.
const FILTERS: [&str; 3] =
    ["wasmgate-test-filters", "wasmgate-test-filters-0-1-0", "wasmgate-test-filters-0-2-0"];

/// Folder of the proxy-wasm filters that are made for tests.
fn module_directory() -> &'static Path {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || {
        let directory = target_directory().join("modules");
        modules(&FILTERS, &directory)?;
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

/// The bytes of guest `rogue`, of whose strings one is no text.
pub fn garbled() -> Vec<u8> {
    let mark = b"these bytes are made invalid";
    let mut bytes = std::fs::read(guest("rogue")).expect("the guest can be read");
    let at = bytes.windows(mark.len()).position(|window| window == mark);
    let at = at.expect("the mark lies in the data section");
    bytes[at..at + 5].fill(0xff);
    bytes
}

/// A proxy-wasm filter's file.
pub fn module(name: &str) -> PathBuf {
    module_directory().join(name).with_extension("wasm")
}

/// A build that failed is not tried again for the next test.
fn once(built: &'static Built, build: fn() -> io::Result<PathBuf>) -> &'static Path {
    match built.get_or_init(build) {
        Ok(path) => path,
        Err(error) => panic!("what the tests run cannot be built: {error}"),
    }
}

/// The bytes of a version of guest `versioned` that does this and goes by this name: four and eight
/// characters.
pub fn version(behaviour: &str, name: &str) -> Vec<u8> {
    let original = b"versioned:good:v0000000:--";
    let mut bytes = std::fs::read(guest("versioned")).expect("the guest can be read");
    let starts = bytes.windows(original.len()).enumerate().filter(|(_, part)| part == original);
    let starts: Vec<_> = starts.map(|(start, _)| start).collect();
    let changed = format!("versioned:{behaviour}:{name}:--");
    assert!(changed.len() == original.len() && starts.len() == 1, "{changed} {starts:?}");
    bytes[starts[0]..][..original.len()].copy_from_slice(changed.as_bytes());
    bytes
}
