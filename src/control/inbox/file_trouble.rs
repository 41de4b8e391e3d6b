//! Why a file of the inbox cannot be read or written.

use std::fmt;
use std::io::{self, ErrorKind};

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

use super::keys::KeyTrouble;

/// Why a file cannot be read or written.
#[derive(Debug)]
pub enum FileTrouble {
    /// The disk fails, or is full: it may be over soon.
    Io(io::Error),
    /// The file is not what was written.
    Damaged(String),
    /// Its records are encrypted with a key that is not there.
    Locked(KeyTrouble),
}

impl fmt::Display for FileTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Damaged(what) => write!(f, "it is damaged: {what}"),
            Self::Locked(trouble) => trouble.fmt(f),
        }
    }
}

impl FileTrouble {
    /// Whether the disk has no room, or the file has reached its bound.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, Self::Io(error) if [StorageFull, QuotaExceeded, FileTooLarge].contains(&error.kind()))
    }

    /// Whether it is the bound of the file that is met.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == ErrorKind::QuotaExceeded)
    }
}

impl From<StorageError> for FileTrouble {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                Self::Damaged(error.to_string())
            }
            StorageError::Io(error) => Self::Io(error),
            StorageError::PreviousIo => Self::Io(io::Error::other("the disk has failed before")),
            other => Self::Damaged(other.to_string()),
        }
    }
}

macro_rules! through_storage_error {
    ($($error:ident)+) => {
        $(impl From<$error> for FileTrouble {
            fn from(error: $error) -> Self {
                match error {
                    $error::Storage(error) => error.into(),
                    other => Self::Damaged(other.to_string()),
                }
            }
        })+
    };
}

through_storage_error!(CommitError DatabaseError TableError TransactionError);
