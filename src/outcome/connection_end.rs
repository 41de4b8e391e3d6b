//! How connections end without an exchange.

use super::coded::coded_causes;
use super::{AnswerRow, Fate};

coded_causes! {
    /// How a connection ended at a bound, without an exchange: there was no request to answer.
    ConnectionEnd {
        /// Refused: it comes from none of the proxies from which alone this listener takes connections.
        ProxyUnknown = "proxy_unknown";
        /// Closed: a trusted proxy did not begin it with a header of the PROXY protocol, or not in time.
        ProxyHeaderInvalid = "proxy_header_invalid";
        /// Refused: the process has as many connections as it may, and no idle one could be closed.
        ConnectionsFull = "connections_full";
        /// Refused: the client has as many connections as it may.
        ClientConnectionsFull = "client_connections_full";
        /// Closed while it was idle, to make room for another.
        IdleClosed = "idle_closed";
        /// Answered 400, in plain text: the client speaks HTTP where TLS is spoken.
        TlsPlaintext = "tls_plaintext";
        /// Refused: the process makes as many TLS handshakes as it may.
        TlsHandshakesFull = "tls_handshakes_full";
        /// Refused: the client begins TLS handshakes faster than its rate, and as many of such handshakes wait for their
        /// turn as may.
        TlsHandshakeRateLimited = "tls_handshake_rate_limited";
        /// The client did not finish its part of the TLS handshake in time.
        TlsHandshakeTimeout = "tls_handshake_timeout";
        /// Client and listener have no TLS version, cipher suite or application protocol in common.
        TlsNothingInCommon = "tls_nothing_in_common";
        /// The client broke off the TLS handshake with an alert: often because it does not trust our certificate.
        TlsRefusedByClient = "tls_refused_by_client";
        /// The client has shown no certificate where one is required.
        TlsCertificateMissing = "tls_certificate_missing";
        /// The client's certificate, or one between it and its authority, has expired.
        TlsCertificateExpired = "tls_certificate_expired";
        /// The client's certificate, or one between it and its authority, does not hold yet.
        TlsCertificateNotYetValid = "tls_certificate_not_yet_valid";
        /// None of the authorities of `client_ca` has signed the client's certificate, or one between is missing.
        TlsCertificateUnknownAuthority = "tls_certificate_unknown_authority";
        /// A signature is wrong: an authority of the same name with another key has signed, the client does not have the
        /// key that belongs to its certificate, or something was altered.
        TlsCertificateBadSignature = "tls_certificate_bad_signature";
        /// A signature in the chain, or the key of the client, is of a kind that is not supported.
        TlsCertificateAlgorithmUnsupported = "tls_certificate_algorithm_unsupported";
        /// The client's certificate is not for clients: its extendedKeyUsage does not have clientAuth.
        TlsCertificateWrongPurpose = "tls_certificate_wrong_purpose";
        /// The client's certificate is of X.509 version 1 or 2.
        TlsCertificateOldVersion = "tls_certificate_old_version";
        /// The client has shown the certificate of an authority (CA:TRUE) as its own.
        TlsCertificateOfAuthority = "tls_certificate_of_authority";
        /// The client has sent more intermediate certificates than it may.
        TlsCertificateChainTooLong = "tls_certificate_chain_too_long";
        /// The client's certificates take more bytes than they may, or have more names.
        TlsCertificateTooLarge = "tls_certificate_too_large";
        /// What the client has shown is not an X.509 certificate.
        TlsCertificateMalformed = "tls_certificate_malformed";
        /// The client's certificate does not hold for another reason, which the log has.
        TlsCertificateRefused = "tls_certificate_refused";
        /// The client's certificate holds, but has none of the names that may call.
        TlsNameRefused = "tls_name_refused";
        /// The TLS handshake failed in another way: malformed, out of order, or broken off.
        TlsHandshakeFailed = "tls_handshake_failed";
    }
}

impl ConnectionEnd {
    /// Whether a handshake ended because of what the client has shown as its certificate, or has not shown.
    #[must_use]
    pub const fn is_of_certificate(self) -> bool {
        Self::TlsCertificateMissing as usize <= self as usize && self as usize <= Self::TlsNameRefused as usize
    }

    /// What to answer, in plain text, if the client can read it.
    #[must_use]
    pub const fn answer(self) -> Option<AnswerRow> {
        match self {
            Self::TlsPlaintext => Some(AnswerRow { status: 400, error: "tls_required", fate: Fate::Close }),
            _ => None,
        }
    }
}
