//! Checks that only count: what they would have refused is noted in [`crate::outcome::Observed`] and passes, so that an
//! operator can see what a new rule does before it bites. Verification is not among them.

use crate::outcome::{Observed, Rejection};

/// Which checks of a route only count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observe {
    /// Who may call: `allow`, `allow_file` and `deny`.
    pub allow: bool,
    /// How many genuine deliveries may come: `rate`.
    pub rate: bool,
    /// What has been seen before: `replay`.
    pub replay: bool,
    /// How old a delivery may be: `tolerance`.
    pub tolerance: bool,
}

/// Lets a refusal pass if its check is `observed`, and notes it.
///
/// # Errors
/// The verdict itself, if it is a refusal and the check counts.
pub fn unless_observed(verdict: Result<(), Rejection>, observed: bool, noted: &mut Observed) -> Result<(), Rejection> {
    match verdict {
        Err(rejection) if observed => {
            noted.note(rejection);
            Ok(())
        }
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observed_check_passes_and_is_noted() {
        let mut noted = Observed::NONE;
        let refused = Err(Rejection::ClientNotAllowed);
        assert_eq!(unless_observed(refused, false, &mut noted), refused);
        assert_eq!(unless_observed(Ok(()), true, &mut noted), Ok(()));
        assert!(noted.is_empty());
        assert_eq!(unless_observed(refused, true, &mut noted), Ok(()));
        assert!(noted.contains(Rejection::ClientNotAllowed));
    }
}
