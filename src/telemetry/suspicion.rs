//! What becomes of requests of clients that are over their budgets.

/// How such a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// It was proven genuine.
    Genuine,
    /// It was verified, or ended before it could be, and was not.
    NotGenuine,
    /// It was refused unseen: the share of such requests was full.
    Refused,
}

impl Suspicion {
    /// Every end.
    pub const ALL: [Self; 3] = [Self::Genuine, Self::NotGenuine, Self::Refused];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Genuine => "genuine",
            Self::NotGenuine => "not_genuine",
            Self::Refused => "refused",
        }
    }
}
