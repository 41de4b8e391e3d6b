//! TLS handshakes: those that let a client in, by what tells them apart, and what can be told of a certificate that was
//! refused.

/// One kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// TLS 1.2, with certificates and a key exchange.
    Full12,
    /// TLS 1.2, going on where an earlier session ended.
    Resumed12,
    /// TLS 1.3, with certificates and a key exchange.
    Full13,
    /// TLS 1.3, going on where an earlier session ended.
    Resumed13,
}

impl Handshake {
    /// All of them, in the order of their values.
    pub const ALL: [Self; 4] = [Self::Full12, Self::Resumed12, Self::Full13, Self::Resumed13];

    /// The version of the protocol.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::Full12 | Self::Resumed12 => "1.2",
            Self::Full13 | Self::Resumed13 => "1.3",
        }
    }

    /// Whether keys were exchanged anew.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Full12 | Self::Full13 => "full",
            Self::Resumed12 | Self::Resumed13 => "resumed",
        }
    }
}

/// A certificate of a client that was refused. Both texts are short and printable ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedCertificate {
    /// Whom it is for, as it says. From a stranger.
    pub subject: String,
    /// Why, in words.
    pub why: String,
}
