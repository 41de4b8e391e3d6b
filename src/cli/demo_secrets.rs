//! The senders of the demo and their secrets.

use std::fmt::Write as _;

use ring::rand::{SecureRandom, SystemRandom};

/// The routes of the demo: preset, and how its secrets look.
pub(super) const PROVIDERS: [(&str, DemoSecret); 5] = [
    ("github", DemoSecret::Text),
    ("stripe", DemoSecret::Prefixed),
    ("slack", DemoSecret::Text),
    ("shopify", DemoSecret::Text),
    ("standard-webhooks", DemoSecret::Prefixed),
];

/// How a secret looks.
#[derive(Clone, Copy)]
pub(super) enum DemoSecret {
    /// Hex digits.
    Text,
    /// Base64 behind `whsec_`.
    Prefixed,
}

/// A new secret.
///
/// # Errors
/// The system has no randomness.
pub(super) fn random_secret(kind: DemoSecret) -> Result<String, String> {
    use base64::Engine as _;
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system has no randomness".to_owned())?;
    Ok(match kind {
        DemoSecret::Prefixed => format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes)),
        DemoSecret::Text => bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
    })
}
