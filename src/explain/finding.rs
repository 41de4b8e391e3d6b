//! A mistake that was found in one case, in words.

use core::fmt;

use super::mistake::{Certainty, Mistake};
use super::quoted::escaped;

/// A mistake, with what is particular to the case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedMistake {
    /// Which.
    pub mistake: Mistake,
    /// What stands for each `{}` of its sentence.
    pub details: Vec<String>,
    /// What to do, where that depends on the case.
    pub advice: Option<String>,
    /// A second mistake, where only both together explain it.
    pub and: Option<Box<Self>>,
    /// What keeps the delivery refused when the mistake is repaired.
    pub stays: Option<StillRefused>,
}

/// Why a delivery stays refused when its mistake is repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StillRefused {
    /// In words that go on behind "it stays refused all the same:".
    pub why: String,
    /// What to do about that.
    pub advice: &'static str,
}

impl NamedMistake {
    /// The details may quote the request: what is not printable in them is escaped here, whatever has made them.
    pub(super) fn new(mistake: Mistake, details: &[&str]) -> Self {
        let details = details.iter().map(|detail| escaped(detail)).collect();
        Self { mistake, details, advice: None, and: None, stays: None }
    }

    /// The codes: one, or two that belong together.
    pub fn codes(&self) -> impl Iterator<Item = &'static str> {
        let mut next = Some(self);
        core::iter::from_fn(move || {
            let this = next?;
            next = this.and.as_deref();
            Some(this.mistake.code())
        })
    }

    /// What to do, for each mistake.
    #[must_use]
    pub fn remedy(&self) -> String {
        let own = self.advice.as_deref().unwrap_or_else(|| self.mistake.remedy());
        let mut all = own.to_owned();
        if let Some(other) = self.and.as_deref().map(Self::remedy).filter(|other| other != own) {
            all = format!("{all}; and {other}");
        }
        match &self.stays {
            Some(stays) => format!("{all}; {}", stays.advice),
            None => all,
        }
    }

    /// How sure it is.
    #[must_use]
    pub const fn certainty(&self) -> Certainty {
        self.mistake.certainty()
    }
}

impl fmt::Display for NamedMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut details = self.details.iter();
        for (position, piece) in self.mistake.cause().split("{}").enumerate() {
            if position > 0 {
                f.write_str(details.next().map(String::as_str).unwrap_or_default())?;
            }
            f.write_str(piece)?;
        }
        self.and.as_ref().map_or(Ok(()), |other| write!(f, ", and {other}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_filled_in_and_codes_are_distinct() {
        let mut finding = NamedMistake::new(Mistake::SecretJson, &["`a`", "{}"]);
        assert_eq!(finding.to_string(), "the secret `a` is a JSON document with the secret in `{}`");
        finding.and = Some(Box::new(NamedMistake::new(Mistake::BodySpace, &[])));
        assert!(finding.to_string().ends_with(", and the body has white space around it"));
        assert_eq!(finding.codes().collect::<Vec<_>>(), ["secret_json", "body_space"]);
        for mistake in Mistake::ALL {
            let same = Mistake::ALL.iter().filter(|other| other.code() == mistake.code()).count();
            assert!(same == 1 || mistake.code() == "body_python", "{}", mistake.code());
        }
    }
}
