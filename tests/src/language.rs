//! Filters in other languages than Rust (`tests/languages`), each compiled by its own toolchain when a test first asks
//! for it. Where the toolchain is not there, the test is skipped as it is without a [`peer`].

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use wasmgate_build::{replace, target_directory, workspace};

use crate::peer::{or_skip, peer};

/// A language in which there is a filter.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    C,
    AssemblyScript,
    Go,
}

impl Language {
    pub const ALL: [Language; 3] = [Language::C, Language::AssemblyScript, Language::Go];

    pub fn name(self) -> &'static str {
        match self {
            Language::C => "c",
            Language::AssemblyScript => "assemblyscript",
            Language::Go => "go",
        }
    }

    /// The filter's file; none without the toolchain.
    pub fn filter(self) -> Option<PathBuf> {
        static BUILT: [OnceLock<io::Result<PathBuf>>; 3] = [const { OnceLock::new() }; 3];
        let compiler = self.compiler()?;
        match BUILT[self as usize].get_or_init(|| self.compile(&compiler)) {
            Ok(file) => Some(file.clone()),
            Err(error) => panic!("the filter in {} cannot be built: {error}", self.name()),
        }
    }

    fn compiler(self) -> Option<PathBuf> {
        match self {
            Language::C => {
                let clang = peer("clang").filter(|_| peer("wasm-ld").is_some())?;
                or_skip("wasi-libc", Some(clang).filter(|clang| has_libc(clang)))
            }
            Language::AssemblyScript => {
                let asc = self.directory().join("node_modules/.bin/asc");
                peer("node").and_then(|_| or_skip("asc (by npm ci)", Some(asc).filter(|asc| asc.is_file())))
            }
            Language::Go => {
                let go = peer("go")?;
                or_skip("go 1.24 or newer", Some(go).filter(|go| exports_functions(go)))
            }
        }
    }

    fn compile(self, compiler: &Path) -> io::Result<PathBuf> {
        let target = target_directory().join("languages");
        std::fs::create_dir_all(&target)?;
        // Another process may be at the same.
        let fresh = tempfile::tempdir_in(&target)?;
        let fresh = fresh.path().join("filter.wasm");
        let mut command = Command::new(compiler);
        match self {
            Language::C => {
                command.args(["--target=wasm32-wasi", "-mexec-model=reactor", "-O2", "-Wall"]);
                command.args(["-Wl,--export=malloc,--strip-all", "filter.c", "-o"]);
            }
            // The rest is in asconfig.json.
            Language::AssemblyScript => _ = command.arg("--outFile"),
            Language::Go => {
                // Nothing is fetched, and the file is the same wherever it is built.
                command.env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
                command.env("GOOS", "wasip1").env("GOARCH", "wasm").args(["build", "-buildmode=c-shared"]);
                command.args(["-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o"]);
            }
        }
        let status = command.arg(&fresh).current_dir(self.directory()).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("{command:?}: {status}")));
        }
        let file = target.join(self.name()).with_extension("wasm");
        replace(&fresh, &file)?;
        Ok(file)
    }

    fn directory(self) -> PathBuf {
        workspace().join("tests/languages").join(self.name())
    }
}

/// Whether it finds a C library for WASI.
fn has_libc(clang: &Path) -> bool {
    let mut command = Command::new(clang);
    let output = command.args(["--target=wasm32-wasi", "-print-file-name=libc.a"]).output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_file())
}

/// Whether it knows `go:wasmexport`.
fn exports_functions(go: &Path) -> bool {
    let output = Command::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output();
    output.is_ok_and(|output| {
        let version = String::from_utf8_lossy(&output.stdout);
        let minor = version.trim().strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse().ok());
        minor.is_some_and(|minor: u32| minor >= 24)
    })
}
