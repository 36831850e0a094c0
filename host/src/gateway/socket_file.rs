//! The file of a Unix socket. It goes when nobody listens there any more, and stays for a successor.

use std::{
    cell::Cell,
    fs::{self, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

pub struct SocketFile {
    path: PathBuf,
    /// Device and number, which tell it from another one in its place.
    inode: (u64, u64),
    /// Whether it is for this process to remove.
    is_ours: Cell<bool>,
}

impl SocketFile {
    pub fn at(path: &Path, is_ours: bool) -> io::Result<SocketFile> {
        let inode = inode(&fs::symlink_metadata(path)?);
        Ok(SocketFile { path: path.to_owned(), inode, is_ours: Cell::new(is_ours) })
    }

    /// From now on this process removes it, or leaves it to another one.
    pub fn set_ours(&self, is_ours: bool) {
        self.is_ours.set(is_ours);
    }

    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_there = || fs::symlink_metadata(&self.path).is_ok_and(|found| inode(&found) == self.inode);
        if self.is_ours.get()
            && is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

fn inode(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
