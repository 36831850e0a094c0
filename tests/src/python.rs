//! Programs in Python, with the libraries of others: `tests/peers`.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use crate::peer::{or_skip, peer};

/// A program of `tests/peers`, and the library that it needs.
pub struct Python {
    interpreter: PathBuf,
    program: PathBuf,
}

impl Python {
    /// None where the library is not there.
    pub fn peer(program: &str, library: &str) -> Option<Python> {
        let interpreter = peer("python3")?;
        let imported = Command::new(&interpreter).args(["-c", &format!("import {library}")]).output();
        let found = imported.is_ok_and(|output| output.status.success());
        or_skip(&format!("the Python library {library}"), found.then_some(()))?;
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers").join(program);
        Some(Python { interpreter, program })
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.interpreter).arg(&self.program).args(arguments).output().expect("Python runs")
    }

    /// Runs it until the returned value is dropped; it prints the port that it serves on.
    pub fn serve(&self, arguments: &[&str]) -> Served {
        let mut command = Command::new(&self.interpreter);
        command.arg(&self.program).arg("serve").args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("its port");
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line:?}"));
        Served { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

pub struct Served {
    child: Child,
    pub address: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
