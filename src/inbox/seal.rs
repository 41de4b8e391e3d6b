//! What makes a chunk proof against change, and hides it where there is a key.
//!
//! No pair of key and nonce encrypts two contents. The key of a chunk is derived (HKDF with SHA-256, RFC 5869) from the key
//! of the configuration and the salt. The salt is made at random each time a file is made or opened: so no two openings
//! share a key, also after a restart, after a crash that took back an id, and in copies of a directory. Within one
//! opening the nonce is id and position. A process gives no id twice; what it writes twice under one id is the
//! same delivery with the same content, when it moves to another file and back.

use core::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::inbox::delivery::DeliveryId;

/// Bytes of a chunk's header.
pub const HEADER_SIZE: usize = 32;

/// Bytes of a seal.
pub const SEAL_SIZE: usize = 16;

/// Bytes of salt in an encrypted chunk.
pub const SALT_SIZE: usize = 16;

/// Which chunk of which delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkPlace {
    /// The delivery.
    pub id: DeliveryId,
    /// The position, from 0.
    pub chunk: u16,
    /// How many there are.
    pub of: u16,
}

impl ChunkPlace {
    /// No two chunks with one salt and different contents have the same: see the head of this file.
    fn nonce(self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let bytes = self.id.0.to_le_bytes().into_iter().chain(self.chunk.to_le_bytes());
        nonce.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The name of a key in chunks: the beginning of the digest of its id.
pub type KeyTag = [u8; 8];

/// The name in chunks of the key with this id.
#[must_use]
pub fn key_tag(id: &str) -> KeyTag {
    let mut tag = KeyTag::default();
    tag.iter_mut().zip(digest(&SHA256, id.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    tag
}

/// From which the key of a chunk is derived.
pub type ChunkSalt = [u8; SALT_SIZE];

/// What tells whether two keys are the same, and nothing else of them.
pub type KeyCheck = [u8; 16];

/// Seals chunks, and opens them. Its debug form has nothing of the key.
pub enum Sealer {
    /// By a digest: finds damage, hides nothing.
    Plain,
    /// By encryption.
    Encrypted(Box<ChunkCipher>),
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Encrypted(..) => "Encrypted",
        })
    }
}

/// Encrypts with a key that is its own, and decrypts what others have encrypted that were made of the same key.
pub struct ChunkCipher {
    tag: KeyTag,
    root: Prk,
    salt: ChunkSalt,
    key: LessSafeKey,
}

impl ChunkCipher {
    fn derived(root: &Prk, salt: &ChunkSalt) -> Option<LessSafeKey> {
        let okm = root.expand(&[b"countersign inbox chunk", salt], &AES_256_GCM).ok().map(UnboundKey::from)?;
        Some(LessSafeKey::new(okm))
    }

    /// Opens a chunk in place. Gives its content.
    fn open<'a>(&self, chunk: &'a mut [u8], place: ChunkPlace) -> Option<&'a [u8]> {
        let (before, sealed) = chunk.split_at_mut_checked(HEADER_SIZE + SALT_SIZE)?;
        let salt: &ChunkSalt = before.last_chunk()?;
        let other;
        let key = if *salt == self.salt {
            &self.key
        } else {
            other = Self::derived(&self.root, salt)?;
            &other
        };
        key.open_in_place(place.nonce(), Aad::from(&*before), sealed).ok().map(|content| &*content)
    }
}

/// The length of a [`KeyCheck`].
struct CheckLength;

impl KeyType for CheckLength {
    fn len(&self) -> usize {
        size_of::<KeyCheck>()
    }
}

impl Sealer {
    /// Encrypts with the key of the configuration (32 bytes). The salt must be a fresh random one for every sealer that
    /// writes. Nothing for a key of another length.
    #[must_use]
    pub fn encrypted(id: &str, key: &[u8], salt: &ChunkSalt) -> Option<Self> {
        if key.len() != 32 {
            return None;
        }
        let root = Salt::new(HKDF_SHA256, b"countersign inbox").extract(key);
        let key = ChunkCipher::derived(&root, salt)?;
        Some(Self::Encrypted(Box::new(ChunkCipher { tag: key_tag(id), root, salt: *salt, key })))
    }

    /// The same for two sealers of the same key, and different for two of different keys; nothing for a plain one.
    #[must_use]
    pub fn check(&self) -> Option<KeyCheck> {
        let Self::Encrypted(cipher) = self else { return None };
        let mut check = KeyCheck::default();
        cipher.root.expand(&[b"countersign inbox check"], CheckLength).ok()?.fill(&mut check).ok()?;
        Some(check)
    }

    /// The key, as headers name it; nothing for a plain sealer.
    pub(super) fn key(&self) -> Option<KeyTag> {
        match self {
            Self::Plain => None,
            Self::Encrypted(cipher) => Some(cipher.tag),
        }
    }

    /// What is between header and content.
    pub(super) fn salt(&self) -> &[u8] {
        match self {
            Self::Plain => &[],
            Self::Encrypted(cipher) => &cipher.salt,
        }
    }

    /// Seals a chunk of which everything but the seal is there.
    pub(super) fn seal(&self, chunk: &mut Vec<u8>, place: ChunkPlace) -> Option<()> {
        match self {
            Self::Plain => {
                let sum = digest(&SHA256, chunk);
                chunk.extend(sum.as_ref().iter().take(SEAL_SIZE));
            }
            Self::Encrypted(cipher) => {
                let (before, content) = chunk.split_at_mut_checked(HEADER_SIZE + SALT_SIZE)?;
                let tag = cipher.key.seal_in_place_separate_tag(place.nonce(), Aad::from(&*before), content).ok()?;
                chunk.extend(tag.as_ref());
            }
        }
        Some(())
    }

    /// Opens a chunk in place. Gives its content.
    pub(super) fn open<'a>(&self, chunk: &'a mut [u8], place: ChunkPlace) -> Option<&'a [u8]> {
        match self {
            Self::Plain => {
                let (sealed, seal) = chunk.split_at_checked(chunk.len().checked_sub(SEAL_SIZE)?)?;
                if digest(&SHA256, sealed).as_ref().get(..SEAL_SIZE)? != seal {
                    return None;
                }
                sealed.get(HEADER_SIZE..)
            }
            Self::Encrypted(cipher) => cipher.open(chunk, place),
        }
    }
}
