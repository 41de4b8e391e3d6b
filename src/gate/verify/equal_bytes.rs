//! Whether a delivery that is equal to an earlier one is the same event again, and what tells deliveries apart.
//!
//! A scheme that signs an id or a time tells two events apart by it. Where it signs neither, nothing but the bytes is
//! left, and whether the bytes of two events can be equal depends on what the sender writes into its bodies. That is a
//! fact about the sender: each preset states it, and replay protection is on by default only where equal bytes are known
//! to be one event.

/// Whether two events of a sender can have equal bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EqualBytes {
    /// They cannot: every body has an id or a time of its event.
    OneEvent,
    /// They can: the second of two such events is genuine.
    TwoEvents,
    /// It is not known.
    #[default]
    Unknown,
}

impl EqualBytes {
    /// The words in a scheme table.
    pub const NAMES: [(&'static str, Self); 3] =
        [("one-event", Self::OneEvent), ("two-events", Self::TwoEvents), ("unknown", Self::Unknown)];
}

/// What tells two deliveries apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldApart {
    /// Nothing that is signed differs from one delivery to the next.
    Nothing,
    /// The signed id.
    Id,
    /// The signed content, of which the time is a part.
    Time,
    /// The signed content alone, which has neither an id nor a time.
    Bytes(EqualBytes),
}

impl ToldApart {
    /// Whether a delivery that is equal to an earlier one is the same event. Only then may it be kept from the
    /// application by default.
    #[must_use]
    pub const fn equal_is_the_same_event(self) -> bool {
        matches!(self, Self::Id | Self::Time | Self::Bytes(EqualBytes::OneEvent))
    }
}
