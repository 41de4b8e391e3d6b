//! The keys of the encryption at rest: which are there, and which one opens a file.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use crate::config::section::inbox::InboxSettings;
use crate::config::section::inbox_keys::parse_key;
use crate::inbox::record::{ChunkSalt, KeyCheck, Sealer};

/// A key of the encryption at rest.
#[derive(Clone)]
pub struct InboxKey {
    /// Its name.
    pub id: String,
    /// 32 bytes.
    pub bytes: Arc<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for InboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl InboxKey {
    /// The key in a file: 32 bytes, or 64 hexadecimal digits and perhaps the end of a line.
    #[must_use]
    pub fn parse(id: &str, content: Vec<u8>) -> Option<Self> {
        let bytes = parse_key(&Zeroizing::new(content))?;
        Some(Self { id: id.to_owned(), bytes: Arc::new(bytes) })
    }

    /// The keys of a configuration that was loaded, in their order.
    #[must_use]
    pub fn of(settings: &InboxSettings) -> Vec<Self> {
        let keys = settings.encryption.iter();
        keys.filter_map(|it| Self::parse(&it.id, it.key.as_ref()?.bytes().to_vec())).collect()
    }
}

/// The keys that are in force, the one that encrypts first; none without encryption. Clones share them.
#[derive(Clone, Default)]
pub struct KeyRing(Arc<ArcSwap<Vec<InboxKey>>>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.current()).finish()
    }
}

impl From<Vec<InboxKey>> for KeyRing {
    fn from(keys: Vec<InboxKey>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys)))
    }
}

impl KeyRing {
    /// The keys.
    #[must_use]
    pub fn current(&self) -> Arc<Vec<InboxKey>> {
        self.0.load_full()
    }

    /// Puts other keys in force. The store follows when it is mended next.
    pub fn set(&self, keys: Vec<InboxKey>) {
        self.0.store(Arc::new(keys));
    }
}

/// Makes random bytes, for what is encrypted; nothing without randomness.
pub type SaltSource = Box<dyn Fn() -> Option<ChunkSalt> + Send>;

/// Random bytes of the system.
#[must_use]
pub fn random_salt() -> Option<ChunkSalt> {
    let mut salt = ChunkSalt::default();
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut salt).ok()?;
    Some(salt)
}

/// The key that a file says it is encrypted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKey {
    /// Its id.
    pub id: String,
    /// By which another key with this id is found out.
    pub check: KeyCheck,
}

/// Why the records of a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyTrouble {
    /// No key has this id.
    Missing(String),
    /// The key with this id is another one.
    Wrong(String),
    /// The system has no randomness for what would be encrypted.
    NoRandomness,
}

impl fmt::Display for KeyTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(id) => write!(
                f,
                "it is encrypted with the key \"{id}\", which is not among the keys: add it to [inbox] encryption.keys \
                 (or --key {id}=FILE)"
            ),
            Self::Wrong(id) => write!(
                f,
                "it is encrypted with another key than the one that is given as \"{id}\": put the former content of its \
                 file back, and give a new key an id of its own"
            ),
            Self::NoRandomness => f.write_str("the system has no randomness, without which nothing is encrypted"),
        }
    }
}

/// What opens the records of a file with this key, and seals new ones with this salt.
///
/// # Errors
/// [`KeyTrouble`].
pub(super) fn sealer_of(
    keys: &[InboxKey],
    file: Option<&FileKey>,
    salt: Option<ChunkSalt>,
) -> Result<Sealer, KeyTrouble> {
    let Some(file) = file else { return Ok(Sealer::Plain) };
    let missing = || KeyTrouble::Missing(file.id.clone());
    let key = keys.iter().find(|key| key.id == file.id).ok_or_else(missing)?;
    let salt = salt.ok_or(KeyTrouble::NoRandomness)?;
    let sealer = Sealer::encrypted(&file.id, &key.bytes, &salt).ok_or_else(missing)?;
    if sealer.check() == Some(file.check) { Ok(sealer) } else { Err(KeyTrouble::Wrong(file.id.clone())) }
}

/// What seals the records of a new file, and the key that the file names.
///
/// # Errors
/// There is no randomness.
pub(super) fn sealer_for_new(
    keys: &[InboxKey],
    salt: impl FnOnce() -> Option<ChunkSalt>,
) -> Result<(Sealer, Option<FileKey>), KeyTrouble> {
    let Some(key) = keys.first() else { return Ok((Sealer::Plain, None)) };
    let salt = salt().ok_or(KeyTrouble::NoRandomness)?;
    let sealer = Sealer::encrypted(&key.id, &key.bytes, &salt);
    let check = sealer.as_ref().and_then(Sealer::check);
    let missing = || KeyTrouble::Missing(key.id.clone());
    let (sealer, check) = sealer.zip(check).ok_or_else(missing)?;
    Ok((sealer, Some(FileKey { id: key.id.clone(), check })))
}
