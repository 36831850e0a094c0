//! From the bytes of a plugin file, a component or a core module, to compiled code, through a cache on disk. The cache holds
//! native code, so its directory is private; each file carries a digest of its content and of what it was compiled
//! from, and is written whole under another name first: a torn, corrupt or misplaced file is compiled anew, and
//! gateways that start at the same time do not disturb each other.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use rayon::{ThreadPool, ThreadPoolBuilder};
use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module, component::Component};

use crate::background::yield_to_requests;

pub struct Compiled {
    pub code: Code,
    pub time: Duration,
    pub from_cache: bool,
}

/// What a file turned out to be.
pub enum Code {
    Component(Component),
    Module(Module),
}

#[derive(Clone, Copy)]
enum Kind {
    Component,
    Module,
}

pub type Sha256Digest = [u8; 32];

/// A directory of compiled components; without one nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    directory: Option<PathBuf>,
}

/// Why bytes are nothing that can be run.
#[derive(Debug)]
pub enum CompileError {
    NotWasm,
    Invalid(String),
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CompileError::NotWasm => f.write_str("is not WebAssembly: it does not begin with \\0asm"),
            CompileError::Invalid(text) => write!(f, "cannot be compiled: {text}"),
        }
    }
}

impl Cache {
    /// Makes the directory, for this user alone.
    pub fn open(directory: &Path) -> io::Result<Cache> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        trust(&fs::metadata(directory)?)?;
        Ok(Cache { directory: Some(directory.to_owned()) })
    }

    /// Compiles, or finds what was compiled before from the same bytes by the same engine.
    pub fn compile(
        &self,
        engine: &Engine,
        bytes: &[u8],
        digest: &Sha256Digest,
    ) -> Result<Compiled, CompileError> {
        let kind = Kind::of(bytes)?;
        let start = Instant::now();
        let file = self.directory.as_ref().map(|directory| Kept::at(directory, engine, digest));
        let cached = file.as_ref().and_then(|file| file.load(engine, kind));
        let from_cache = cached.is_some();
        let code = match cached {
            Some(code) => code,
            None => {
                let compile = || match kind {
                    Kind::Component => Component::from_binary(engine, bytes).map(Code::Component),
                    Kind::Module => Module::from_binary(engine, bytes).map(Code::Module),
                };
                let code = match compilers() {
                    Some(threads) => threads.install(compile),
                    None => compile(),
                };
                let code = code.map_err(|error| CompileError::Invalid(format!("{error:#}")))?;
                if let Some(file) = &file {
                    file.keep(&code);
                }
                code
            }
        };
        Ok(Compiled { code, time: start.elapsed(), from_cache })
    }
}

/// Threads on which wasmtime compiles. They yield to those that serve requests; None where the system has
/// no threads left.
fn compilers() -> Option<&'static ThreadPool> {
    static COMPILERS: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let build = || {
        let pool = ThreadPoolBuilder::new().thread_name(|number| format!("compiler-{number}"));
        let pool = pool.start_handler(|_| yield_to_requests());
        pool.build().inspect_err(|error| tracing::warn!("no threads to compile on: {error}")).ok()
    };
    COMPILERS.get_or_init(build).as_ref()
}

impl Kind {
    /// The first eight bytes tell a component (layer 1) from a core module (layer 0).
    fn of(bytes: &[u8]) -> Result<Kind, CompileError> {
        match bytes.get(..8) {
            Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(Kind::Component),
            Some([0, b'a', b's', b'm', ..]) => Ok(Kind::Module),
            _ => Err(CompileError::NotWasm),
        }
    }
}

impl Code {
    /// Bytes of native code.
    pub fn size(&self) -> usize {
        let image = match self {
            Code::Component(component) => component.image_range(),
            Code::Module(module) => module.image_range(),
        };
        image.end.addr() - image.start.addr()
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        match self {
            Code::Component(component) => component.serialize(),
            Code::Module(module) => module.serialize(),
        }
    }
}

pub fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256::digest(bytes).into()
}

pub fn hex(digest: &Sha256Digest) -> String {
    HEXLOWER.encode(digest)
}

/// What files consist of; other ones have other names.
const FORMAT: u8 = 2;

/// A file of the cache.
struct Kept {
    path: PathBuf,
    /// Content and compiler: another engine configuration or wasmtime version has another file.
    key: String,
}

impl Kept {
    fn at(directory: &Path, engine: &Engine, digest: &Sha256Digest) -> Kept {
        let mut hasher = DefaultHasher::new();
        (FORMAT, engine.precompile_compatibility_hash()).hash(&mut hasher);
        let key = format!("{}-{:016x}", hex(digest), hasher.finish());
        Kept { path: directory.join(format!("{key}.cwasm")), key }
    }

    /// What the file begins with. The key is part of it: code under another name is other code.
    fn seal(&self, code: &[u8]) -> Sha256Digest {
        Sha256::new().chain_update(&self.key).chain_update(code).finalize().into()
    }

    fn load(&self, engine: &Engine, kind: Kind) -> Option<Code> {
        let content = match self.read() {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %self.path.display(), "a file in the compile cache is compiled anew: {error}");
                return None;
            }
        };
        let Some((_, code)) = content.split_at_checked(32).filter(|(seal, code)| self.seal(code) == *seal)
        else {
            let file = self.path.display();
            tracing::warn!(%file, "a file in the compile cache is not what its name says, and is compiled anew");
            return None;
        };
        // SAFETY: the code was written by `keep` from this engine's own output for this plugin (the seal says so), into a directory and a file that only this user, or root, can write.
        #[expect(unsafe_code, reason = "wasmtime cannot check native code")]
        let code = unsafe {
            match kind {
                Kind::Component => Component::deserialize(engine, code).map(Code::Component),
                Kind::Module => Module::deserialize(engine, code).map(Code::Module),
            }
        };
        code.inspect_err(|error| tracing::warn!("the compile cache is of no use: {error:#}")).ok()
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(&self.path)?;
        trust(&file.metadata()?)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(content)
    }

    /// A cache that cannot be written costs time, not the start.
    fn keep(&self, code: &Code) {
        let write = || -> io::Result<()> {
            let code = code.serialize().map_err(io::Error::other)?;
            let directory = self.path.parent().unwrap_or(Path::new("."));
            let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
            temporary.write_all(&self.seal(&code))?;
            temporary.write_all(&code)?;
            temporary.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::warn!(file = %self.path.display(), "the compile cache cannot be written: {error}");
        }
    }
}

fn trust(metadata: &fs::Metadata) -> io::Result<()> {
    let me = rustix::process::geteuid().as_raw();
    let distrust = |why| io::Error::new(io::ErrorKind::PermissionDenied, why);
    reason_to_distrust(metadata.uid(), metadata.mode(), me).map_or(Ok(()), |why| Err(distrust(why)))
}

/// Who else could have put code there.
fn reason_to_distrust(owner: u32, mode: u32, me: u32) -> Option<&'static str> {
    match (owner == me || owner == 0, mode & 0o022 == 0) {
        (true, true) => None,
        (false, _) => Some("it belongs to another user, and what lies there is run"),
        (true, false) => Some("others may write into it, and what lies there is run"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_user_and_root_are_trusted() {
        for (owner, mode, trusted) in [
            (1000, 0o40700, true),
            (0, 0o40755, true),
            (1001, 0o40700, false),
            (1000, 0o40770, false),
            (0, 0o100602, false),
        ] {
            assert_eq!(reason_to_distrust(owner, mode, 1000).is_none(), trusted, "{owner} {mode:o}");
        }
    }
}
