//! A named pipe in the place of a file: a test knows when the file is read.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::eventually;

/// `O_NONBLOCK` of Linux: an open for writing fails where nobody reads.
const NONBLOCK: i32 = 0o4000;

pub struct Pipe(PathBuf);

impl Pipe {
    pub fn make(path: &Path) -> Pipe {
        let made = Command::new("mkfifo").arg(path).status();
        assert!(made.is_ok_and(|status| status.success()), "a pipe is made");
        Pipe(path.to_owned())
    }

    /// Waits until somebody writes it.
    pub fn reader(&self) -> File {
        File::open(&self.0).expect("a pipe")
    }

    /// Waits until somebody reads it. What is written should be little: nobody waits for a slow reader.
    pub fn writer(&self) -> File {
        let mut writer = None;
        eventually!({
            writer = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&self.0).ok();
            writer.is_some()
        });
        writer.expect("it was opened")
    }
}
