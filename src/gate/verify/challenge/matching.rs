//! Whether a request is a call, and what it brings. The bytes are those of a client.

use std::borrow::Cow;

use super::shape::{CHALLENGE_BODY_LIMIT, Condition, ConfirmRule, HandshakeCall, Spot, ValueSource};
use crate::gate::verify::Delivery;
use crate::gate::verify::form;
use crate::outcome::Rejection;

/// What stands at a place of a request.
pub(super) enum Read<'d> {
    Absent,
    Value(Cow<'d, [u8]>),
    /// Something that cannot be read, or stands there twice.
    Unclear,
}

impl<'d> Read<'d> {
    fn of<E>(found: Result<Option<Cow<'d, [u8]>>, E>) -> Self {
        match found {
            Ok(None) => Self::Absent,
            Ok(Some(value)) => Self::Value(value),
            Err(_) => Self::Unclear,
        }
    }
}

impl Spot {
    pub(super) fn read<'d, D: Delivery>(&self, delivery: &'d D) -> Read<'d> {
        match self {
            Self::Query(name) => Read::of(form::unique(form::query(delivery.target()).unwrap_or_default(), name)),
            Self::Header(name) => Read::of(delivery.headers().unique(name).map(|value| value.map(Cow::Borrowed))),
            Self::Form(_) if !form::is_form(delivery.headers()) => Read::Absent,
            Self::Form(name) => Read::of(form::unique(delivery.body(), name)),
            // Whatever is not there ends the search soon: nothing is parsed that cannot have the field.
            Self::Json(path) if path.names().any(|name| !contains(delivery.body(), name)) => Read::Absent,
            Self::Json(path) => Read::of(path.find(delivery.body())),
        }
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    memchr::memmem::find(body, text.as_bytes()).is_some()
}

impl Condition {
    fn is_in_head(&self) -> bool {
        match self {
            Self::Is(spot, _) | Self::Present(spot) | Self::Absent(spot) => spot.is_in_head(),
            Self::Body(_) => false,
        }
    }

    fn holds<D: Delivery>(&self, delivery: &D) -> bool {
        match self {
            Self::Is(Spot::Json(_) | Spot::Form(_), text) if !contains(delivery.body(), text) => false,
            Self::Is(spot, text) => matches!(spot.read(delivery), Read::Value(value) if *value == *text.as_bytes()),
            Self::Present(spot) => !matches!(spot.read(delivery), Read::Absent),
            Self::Absent(spot) => matches!(spot.read(delivery), Read::Absent),
            Self::Body(text) => is_body(text, delivery.body()),
        }
    }
}

fn is_body(text: &str, body: &[u8]) -> bool {
    if text.as_bytes() == body {
        return true;
    }
    let wanted = serde_json::from_str::<serde_json::Value>(text);
    let found = serde_json::from_slice::<serde_json::Value>(body);
    matches!((wanted, found), (Ok(wanted), Ok(found)) if wanted == found)
}

impl HandshakeCall {
    /// Whether the head of a request can be that of this call; its body is not looked at.
    pub(super) fn fits_head<D: Delivery>(&self, delivery: &D) -> bool {
        let value = self.value.as_ref().map(|value| &value.spot).filter(|spot| spot.is_in_head());
        self.method.as_bytes() == delivery.method()
            && self.when.iter().filter(|condition| condition.is_in_head()).all(|condition| condition.holds(delivery))
            && value.is_none_or(|spot| !matches!(spot.read(delivery), Read::Absent))
    }

    /// Whether a request, of which everything is there, is this call.
    pub(super) fn fits<D: Delivery>(&self, delivery: &D) -> bool {
        self.fits_head(delivery)
            && delivery.body().len() <= CHALLENGE_BODY_LIMIT
            && self.when.iter().filter(|condition| !condition.is_in_head()).all(|it| it.holds(delivery))
            && self.value.as_ref().is_none_or(|value| !matches!(value.spot.read(delivery), Read::Absent))
            && (self.members.is_empty() || self.has_no_other_members(delivery))
    }

    fn has_no_other_members<D: Delivery>(&self, delivery: &D) -> bool {
        let is_member = |name: &[u8]| self.members.iter().any(|member| member.as_bytes() == name);
        if form::is_form(delivery.headers()) {
            return form::has_only(delivery.body(), is_member);
        }
        let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(delivery.body());
        object.is_ok_and(|object| object.keys().all(|name| is_member(name.as_bytes())))
    }
}

impl ConfirmRule {
    /// The URL that a call brings, if it may be fetched.
    ///
    /// # Errors
    /// [`Rejection::ChallengeMalformed`]
    pub(super) fn take<D: Delivery>(&self, delivery: &D) -> Result<Box<str>, Rejection> {
        let Read::Value(url) = self.spot.read(delivery) else { return Err(Rejection::ChallengeMalformed) };
        let admitted = self.pins.iter().any(|pin| pin.admits(&url));
        let url = core::str::from_utf8(&url).ok().filter(|_| admitted);
        url.map(Box::from).ok_or(Rejection::ChallengeMalformed)
    }
}

impl ValueSource {
    /// The value of a request that is a call.
    ///
    /// # Errors
    /// [`Rejection::ChallengeTooLong`], [`Rejection::ChallengeMalformed`]
    pub(super) fn take<'d, D: Delivery>(&self, delivery: &'d D) -> Result<Cow<'d, [u8]>, Rejection> {
        let Read::Value(value) = self.spot.read(delivery) else { return Err(Rejection::ChallengeMalformed) };
        if value.len() > self.limit {
            return Err(Rejection::ChallengeTooLong);
        }
        if value.is_empty() || !value.iter().all(|byte| self.alphabet.has(*byte)) {
            return Err(Rejection::ChallengeMalformed);
        }
        Ok(value)
    }
}
