//! What a call has to show.

/// What has to be shown before a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallProof {
    /// The signature or credential of a delivery: the call is verified like any other.
    Signature,
    /// Nothing, or the verify token. The answer gives a stranger nothing that helps it.
    Nothing,
    /// Nothing, and the route has to say `first_calls = true`.
    FirstCall,
    /// Nothing. It brings the secret of what follows, and is answered only while a pairing window is open.
    Pairing,
}
