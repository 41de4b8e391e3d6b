//! What an examination says.

/// How good or bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Nothing is to be done.
    Good,
    /// Nothing is wrong here, but it is wrong in some places, and only the operator knows which this is.
    Note,
    /// It works, but worse than it could.
    Warning,
    /// It does not work, or genuine deliveries are lost.
    Fault,
}

impl Grade {
    /// The word for it, in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// One sentence about one thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was examined: one of a fixed list of names.
    pub examined: &'static str,
    /// How it is.
    pub verdict: Grade,
    /// What was found, as a sentence.
    pub says: String,
    /// What to do about it; nothing for [`Grade::Good`].
    pub fix: Option<String>,
}

impl Finding {
    /// Nothing is to be done.
    pub fn good(examined: &'static str, says: impl Into<String>) -> Self {
        Self { examined, verdict: Grade::Good, says: says.into(), fix: None }
    }

    /// Something is to be done, or at least to be known.
    pub fn bad(examined: &'static str, verdict: Grade, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { examined, verdict, says: says.into(), fix: Some(fix.into()) }
    }
}
