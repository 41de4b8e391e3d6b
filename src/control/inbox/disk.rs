//! What the inbox needs of a disk: a directory, and files in it.

use std::fmt::Debug;
use std::io;

/// A file of fixed places.
pub trait Medium: Send + Sync + Debug {
    /// Its length in bytes.
    ///
    /// # Errors
    /// Of the disk.
    fn length(&self) -> io::Result<u64>;
    /// Fills `out` from there.
    ///
    /// # Errors
    /// Of the disk; [`io::ErrorKind::UnexpectedEof`] where the file ends before.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` there.
    ///
    /// # Errors
    /// Of the disk; a part may have been written.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes it so long. What is added is zeros, and the disk has room for it.
    ///
    /// # Errors
    /// Of the disk, above all that it is full; the length is then the one before.
    fn resize(&self, length: u64) -> io::Result<()>;
    /// Makes durable what was written.
    ///
    /// # Errors
    /// Of the disk.
    fn sync(&self) -> io::Result<()>;
}

/// A directory that this process alone writes.
pub trait Disk: Send + Debug {
    /// The names of its files, in their order.
    ///
    /// # Errors
    /// Of the disk.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file that is there.
    ///
    /// # Errors
    /// Of the disk.
    fn open(&self, name: &str) -> io::Result<Box<dyn Medium>>;
    /// Opens a file that is there, to be read alone: also on a disk that cannot be written.
    ///
    /// # Errors
    /// Of the disk.
    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn Medium>>;
    /// Makes an empty file, which is still there after a crash.
    ///
    /// # Errors
    /// Of the disk.
    fn create(&self, name: &str) -> io::Result<Box<dyn Medium>>;
    /// Removes a file.
    ///
    /// # Errors
    /// Of the disk.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name.
    ///
    /// # Errors
    /// Of the disk.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Bytes that can still be written.
    ///
    /// # Errors
    /// Of the disk.
    fn free(&self) -> io::Result<u64>;
}
