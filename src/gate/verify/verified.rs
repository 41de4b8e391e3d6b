//! The proof that a delivery is genuine. It owns the delivery it vouches for, and only the engine can make one.

use core::fmt;
use std::borrow::Cow;

use super::Delivery;
use super::mac::Tag;
use super::name::Name;
use super::reading;
use super::scheme::{Scheme, Source};
use crate::outcome::Rejection;

/// What the engine found, by the rule of a route. It borrows from the rule: counting references would be a write that all
/// cores share.
pub(super) struct Evidence<'r> {
    pub(super) scheme: &'r Scheme,
    pub(super) key_id: &'r str,
    /// Whether the delivery id is signed.
    pub(super) signs_id: bool,
    pub(super) timestamp: Option<i64>,
    /// What an observed tolerance would have refused.
    pub(super) untimely: Option<Rejection>,
    /// An id out of the body; ids out of headers are read again where they are wanted.
    pub(super) id: Option<Box<[u8]>>,
    /// Nothing for credentials.
    pub(super) proof: Option<Proof>,
}

/// What was computed of the signed content.
#[derive(Clone, Copy)]
pub(super) struct Proof {
    /// The tag of the signed content under the first active key, or the digest of the signed bytes.
    pub(super) tag: Tag,
    /// Which key's tag it is; nothing for a digest.
    pub(super) key: Option<usize>,
    /// The key that matched and its tag, where it is another one.
    pub(super) matched: Option<(usize, Tag)>,
}

/// A delivery that has been verified, or that a route with `scheme = "none"` takes as it is.
pub struct Verified<'r, D> {
    delivery: D,
    evidence: Option<Evidence<'r>>,
}

impl<D> fmt::Debug for Verified<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

impl<'r, D> Verified<'r, D> {
    pub(super) const fn new(delivery: D, evidence: Option<Evidence<'r>>) -> Self {
        Self { delivery, evidence }
    }

    /// The delivery.
    pub const fn delivery(&self) -> &D {
        &self.delivery
    }

    /// The delivery, to be forwarded.
    pub fn into_delivery(self) -> D {
        self.delivery
    }

    /// The id of the key that matched; nothing where nothing is verified.
    pub fn key_id(&self) -> Option<&'r str> {
        self.evidence.as_ref().map(|evidence| evidence.key_id)
    }

    /// The signed timestamp in unix milliseconds, where the scheme has one.
    pub fn timestamp(&self) -> Option<i64> {
        self.evidence.as_ref()?.timestamp
    }

    /// What the tolerance would have refused, on a route that only observes it.
    pub fn untimely(&self) -> Option<Rejection> {
        self.evidence.as_ref()?.untimely
    }

    /// Whether [`Verified::delivery_id`] is covered by the signature.
    pub fn delivery_id_is_signed(&self) -> bool {
        self.evidence.as_ref().is_some_and(|evidence| evidence.signs_id)
    }
}

impl<'r, D: Delivery> Verified<'r, D> {
    /// The delivery id, where the scheme has one and this delivery carries it. Whether it can be trusted is said by
    /// [`Verified::delivery_id_is_signed`].
    pub fn delivery_id(&self) -> Option<&[u8]> {
        let evidence = self.evidence.as_ref()?;
        if let Some(id) = &evidence.id {
            return Some(id);
        }
        match reading::id_in_head(evidence.scheme, &self.delivery) {
            Some(Cow::Borrowed(id)) => Some(id),
            _ => None,
        }
    }

    /// The delivery id, where the signature covers it and this delivery carries it.
    pub fn signed_delivery_id(&self) -> Option<&[u8]> {
        if self.delivery_id_is_signed() { self.delivery_id() } else { None }
    }

    /// The text of the timestamp as received, where it stands in the head.
    pub fn timestamp_text(&self) -> Option<&[u8]> {
        let evidence = self.evidence.as_ref()?;
        let from = &evidence.scheme.timestamp.as_ref()?.source;
        match (from, reading::source(evidence.scheme, from, &self.delivery, reading::TIMESTAMP)) {
            (Source::Headers(_) | Source::Field(_), Ok(Some(Cow::Borrowed(text)))) => Some(text),
            _ => None,
        }
    }

    /// The id, where it tells deliveries apart.
    fn identifying_id(&self) -> Option<&[u8]> {
        let evidence = self.evidence.as_ref()?;
        if evidence.signs_id { self.delivery_id() } else { None }
    }

    /// Whether the delivery id tells this delivery apart. Two deliveries with one id may still differ in their bodies.
    pub fn is_named_by_id(&self) -> bool {
        self.identifying_id().is_some()
    }

    /// The body, where the delivery id names the delivery and a signature covers every byte of the body: then two bodies
    /// under one id are two deliveries. Where anybody can change bytes of the body, the id alone tells deliveries apart.
    pub fn body_beside_id(&self) -> Option<&[u8]> {
        let is_covered = self.evidence.as_ref().is_some_and(|evidence| evidence.scheme.covers_body_as_received());
        (is_covered && self.is_named_by_id()).then(|| self.delivery.body())
    }

    /// Whether the tag of the signed content tells this delivery apart: it then has another name under each key.
    pub fn is_named_by_tag(&self) -> bool {
        let proof = self.evidence.as_ref().and_then(|evidence| evidence.proof.as_ref());
        proof.is_some_and(|proof| proof.key.is_some()) && !self.is_named_by_id()
    }

    pub(super) fn evidence(&self) -> Option<&Evidence<'r>> {
        self.evidence.as_ref()
    }

    /// What tells this delivery apart from every other one: the delivery id where the signature covers it, else the tag
    /// under the first active key, the signed bytes or the body ([`Scheme::replay_key`]). `None` where nothing is
    /// verified. A tag names a delivery only as long as the same key counts: other names are those of
    /// [`super::Verifier::name_under`].
    pub fn replay_key(&self) -> Option<Name> {
        let evidence = self.evidence.as_ref()?;
        if let Some(id) = self.identifying_id() {
            return Some(Name::of_id(id));
        }
        Some(match &evidence.proof {
            Some(Proof { tag, key: Some(_), .. }) => Name::of_tag(tag),
            Some(Proof { tag, key: None, .. }) => Name::of_signed_bytes(tag),
            None => Name::of_body(self.delivery.body()),
        })
    }
}
