//! The binary: arguments only, all else is in the library.

fn main() -> std::process::ExitCode {
    wasmgate::cli::main()
}
