//! Builds guests (every plugin of this repository, and those that tests ask for) and the gateway.
//! Knows cargo and the file system, nothing of what a guest contains.

use std::ffi::OsStr;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// What native plugins are built for.
const COMPONENT: &str = "wasm32-wasip2";
/// What proxy-wasm filters are built for.
const CORE_MODULE: &str = "wasm32-wasip1";

/// Builds the gateway's binary as `cargo build --release` does. Asking for its package alone would
/// choose other features for shared dependencies, and compile most of them once more.
pub fn gateway() -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--workspace", "--bin", "wasmgate"]))?;
    Ok(target_directory().join("release/wasmgate"))
}

/// Builds every plugin in `plugins/` into `target/plugins/NAME.wasm`; returns that folder.
///
/// The folder's name is the package's name and the plugin's name. A file is written in one step
/// and only when its content changed, so that several processes may do this at once and a running
/// gateway sees each change once.
pub fn plugins() -> Result<PathBuf> {
    let names = plugin_names()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let directory = target_directory().join("plugins");
    guests(&names, &directory)?;
    Ok(directory)
}

/// Builds packages of the workspace as components into `directory`; returns the files in the order
/// of the packages.
pub fn guests(packages: &[&str], directory: &Path) -> Result<Vec<PathBuf>> {
    build(packages, COMPONENT, directory)
}

/// Builds packages of the workspace as core modules, as proxy-wasm filters are.
pub fn modules(packages: &[&str], directory: &Path) -> Result<Vec<PathBuf>> {
    build(packages, CORE_MODULE, directory)
}

/// Root of the workspace.
pub fn workspace() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest)
}

/// Where cargo puts what it builds.
pub fn target_directory() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace().join(directory),
        None => workspace().join("target"),
    }
}

/// Runs a command in the workspace to its end; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    match command.current_dir(workspace()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::other(format!("{command:?}: {status}"))),
        Err(error) => Err(Error::other(format!("{command:?}: {error}"))),
    }
}

/// The cargo that runs this, or the one in the path.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn build(packages: &[&str], target: &str, directory: &Path) -> Result<Vec<PathBuf>> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    install(target)?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--profile", "guest", "--target", target]);
    for package in packages {
        build.args(["--package", package]);
    }
    // Flags meant for this process's own build would rebuild the guests, or break them.
    run(build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    let built = target_directory().join(target).join("guest");
    fs::create_dir_all(directory)?;
    packages
        .iter()
        .map(|package| {
            let from = built.join(package.replace('-', "_")).with_extension("wasm");
            let to = directory.join(package).with_extension("wasm");
            replace(&from, &to)
                .map_err(|error| Error::new(error.kind(), format!("{}: {error}", from.display())))?;
            Ok(to)
        })
        .collect()
}

/// Asks rustup for a target's standard library where the toolchain does not have it.
fn install(target: &str) -> Result<()> {
    let print = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()?;
    let directory = String::from_utf8_lossy(&print.stdout);
    if Path::new(directory.trim()).is_dir() {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", COMPONENT, CORE_MODULE]))
}

/// Every folder of `plugins/` that holds a package, but not this one.
fn plugin_names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace().join("plugins"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if name != "build" && path.join("Cargo.toml").is_file() {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Copies a file unless the copy is there already. Readers see the old content or the new one.
pub fn replace(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from)?;
    if fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let fresh = to.with_extension(format!("{}-{count}.tmp", process::id()));
    fs::write(&fresh, content)?;
    fs::rename(fresh, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_plugins() {
        let names = plugin_names().unwrap();
        assert!(names.contains(&"request-id".to_string()), "{names:?}");
        assert!(!names.contains(&"build".to_string()), "{names:?}");
    }

    #[test]
    fn replaces_only_what_changed() {
        let directory = env::temp_dir().join(format!("wasmgate-build-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (from, to) = (directory.join("from"), directory.join("to.wasm"));
        let write = |content: &str| {
            fs::write(&from, content).unwrap();
            replace(&from, &to).unwrap();
            (fs::read_to_string(&to).unwrap(), fs::metadata(&to).unwrap().modified().unwrap())
        };
        let (first, second, third) = (write("a"), write("a"), write("b"));
        assert_eq!((first.0.as_str(), &first), ("a", &second));
        assert_eq!(third.0, "b");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
        fs::remove_dir_all(&directory).unwrap();
    }
}
