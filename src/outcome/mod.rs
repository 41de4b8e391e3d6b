//! How an exchange can end, and THE table: from every end to status, reason code and fate of the connection.
//!
//! A [`Rejection`] is a refusal by rule; a [`Fault`] is something that broke, and says on whose side. Both are closed
//! enums, so that a reason can be a metric label, and both are answered here and nowhere else. The client learns the
//! status and one word; the reason code is for the operator.

mod coded;
mod connection_end;
mod observed;

pub(crate) use coded::coded_causes;
pub use connection_end::ConnectionEnd;
pub use observed::Observed;

/// What becomes of the downstream connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Keep-alive, if the request was read to its end and the client wants it.
    Keep,
    /// The answer says `Connection: close`; the write side is shut and a bounded amount of input is discarded, so
    /// that the client can read the answer before the connection goes.
    Close,
    /// The answer says `Connection: close`, and the connection is dropped as soon as it is written: what it held
    /// belongs to others.
    Leave,
    /// No answer can be given: the connection is dropped.
    Abort,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerRow {
    /// HTTP status code.
    pub status: u16,
    /// The one word that the client is told, in the JSON body of the answer.
    pub error: &'static str,
    /// What becomes of the connection.
    pub fate: Fate,
}

/// Whose fault a [`Fault`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one who called us.
    Downstream,
    /// The application behind us.
    Upstream,
    /// Ourselves.
    Internal,
}

macro_rules! ends {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $status:literal $error:literal $fate:ident;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every variant, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason code: bounded, stable, for metrics, logs and the audit trail.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// What it means, in a sentence for the operator.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// The row of the table.
            #[must_use]
            pub const fn answer(self) -> AnswerRow {
                match self { $(Self::$variant => AnswerRow { status: $status, error: $error, fate: Fate::$fate },)+ }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.code())
            }
        }
    };
}

ends! {
    /// A refusal by rule. The order is that of a request's path.
    Rejection {
        /// The request head is not HTTP/1.1 as RFC 9112 writes it, or can be read in two ways.
        HeadMalformed = "head_malformed", 400 "bad_request" Close;
        /// The client begins a TLS handshake where plain HTTP is spoken.
        TlsUnexpected = "tls_unexpected", 400 "plain_http_expected" Close;
        /// A major version that we do not speak.
        VersionUnsupported = "version_unsupported", 505 "version_not_supported" Close;
        /// The request target is longer than the limit.
        TargetTooLong = "target_too_long", 414 "uri_too_long" Close;
        /// The head, the number of its fields or of its `Connection` options, is over the limit.
        HeadTooLarge = "head_too_large", 431 "header_fields_too_large" Close;
        /// The request target is malformed, has a fragment, or its path can be read in two ways.
        TargetInvalid = "target_invalid", 400 "bad_request" Close;
        /// `Host` is missing, repeated, malformed, or contradicts the target.
        HostInvalid = "host_invalid", 400 "bad_request" Close;
        /// `Content-Length` and `Transfer-Encoding` are malformed, repeated, or contradict each other.
        FramingInvalid = "framing_invalid", 400 "bad_request" Close;
        /// A transfer coding other than exactly one `chunked`.
        TransferCodingUnsupported = "transfer_coding_unsupported", 501 "not_implemented" Close;
        /// `CONNECT`.
        MethodUnsupported = "method_unsupported", 501 "not_implemented" Close;
        /// An expectation other than `100-continue`.
        ExpectationFailed = "expectation_failed", 417 "expectation_failed" Close;
        /// A header that collides with one we rely on: nominated by `Connection`, or spelled with underscores.
        HeaderReserved = "header_reserved", 400 "bad_request" Close;
        /// The request has passed through this process before.
        LoopDetected = "loop_detected", 508 "loop_detected" Close;
        /// No route for this host and path.
        RouteUnknown = "route_unknown", 404 "not_found" Keep;
        /// The route does not take this method.
        MethodNotAllowed = "method_not_allowed", 405 "method_not_allowed" Keep;
        /// The client's address is denied on this route, or not among those that are allowed.
        ClientNotAllowed = "client_not_allowed", 403 "forbidden" Keep;
        /// The client's certificate has none of the names that may call this route, or there is no certificate.
        ClientNameRefused = "client_name_refused", 403 "forbidden" Keep;
        /// The media type of the body is none of the route's.
        ContentTypeRefused = "content_type_refused", 415 "unsupported_media_type" Keep;
        /// As many exchanges as the process may have are in flight.
        RequestsFull = "requests_full", 503 "unavailable" Keep;
        /// The client has sent too many requests that were not genuine, and so many of such clients are being looked at as
        /// may be; or the configuration refuses them unseen.
        ClientRateLimited = "client_rate_limited", 429 "too_many_requests" Keep;
        /// The bodies that are being received take as much memory as they may.
        BodyMemoryFull = "body_memory_full", 503 "unavailable" Close;
        /// Others needed the room of a request that we were waiting for: its client held most of it, or had made us
        /// wait longest.
        GaveWay = "gave_way", 503 "unavailable" Leave;
        /// The body is longer than the route's limit.
        BodyTooLarge = "body_too_large", 413 "content_too_large" Close;
        /// The chunked body breaks the grammar.
        ChunkMalformed = "chunk_malformed", 400 "bad_request" Close;
        /// A header that the scheme requires is missing or has another value.
        HeaderRequired = "header_required", 401 "unauthorized" Keep;
        /// No signature where the scheme wants one, or an empty one.
        SignatureMissing = "signature_missing", 401 "unauthorized" Keep;
        /// More than one signature header.
        SignatureDuplicate = "signature_duplicate", 401 "unauthorized" Keep;
        /// The signature does not have the scheme's form (prefix, encoding, length).
        SignatureMalformed = "signature_malformed", 401 "unauthorized" Keep;
        /// The signature is well-formed and wrong under every active key.
        SignatureMismatch = "signature_mismatch", 401 "unauthorized" Keep;
        /// No timestamp where the scheme signs one.
        TimestampMissing = "timestamp_missing", 401 "unauthorized" Keep;
        /// More than one timestamp.
        TimestampDuplicate = "timestamp_duplicate", 401 "unauthorized" Keep;
        /// The timestamp is not in the scheme's unit and form.
        TimestampMalformed = "timestamp_malformed", 401 "unauthorized" Keep;
        /// The timestamp is older than the tolerance.
        TimestampStale = "timestamp_stale", 401 "unauthorized" Keep;
        /// The timestamp is further in the future than the tolerance.
        TimestampFuture = "timestamp_future", 401 "unauthorized" Keep;
        /// No delivery id where the scheme signs one.
        IdMissing = "id_missing", 401 "unauthorized" Keep;
        /// More than one delivery id.
        IdDuplicate = "id_duplicate", 401 "unauthorized" Keep;
        /// The delivery id has a form that would make the signed content ambiguous.
        IdMalformed = "id_malformed", 401 "unauthorized" Keep;
        /// Something else that the signed content is made of is missing, repeated or malformed.
        ContentUnavailable = "content_unavailable", 401 "unauthorized" Keep;
        /// A value that is signed breaks a guard of the scheme: it could have been cut off its neighbour at another place.
        ContentAmbiguous = "content_ambiguous", 401 "unauthorized" Keep;
        /// The JSON or form in which the signature, or what it is over, stands is nested too deeply or has too many values.
        ContentTooComplex = "content_too_complex", 401 "unauthorized" Keep;
        /// The sender signs before it compresses, and the body is not compressed in a way that is read here, or is broken.
        CompressionUnreadable = "compression_unreadable", 401 "unauthorized" Keep;
        /// The sender signs before it compresses, and the body becomes too large when it is decompressed.
        CompressionBomb = "compression_bomb", 401 "unauthorized" Keep;
        /// The signature holds, but the digest of the body that it vouches for is of another body.
        DigestMismatch = "digest_mismatch", 401 "unauthorized" Keep;
        /// A value that the route says must be this one (`values`) is missing or another one.
        ValueMismatch = "value_mismatch", 401 "unauthorized" Keep;
        /// The token is not three parts of base64url with JSON in them, has a claim twice, or is nested too deeply.
        TokenMalformed = "token_malformed", 401 "unauthorized" Keep;
        /// The token, or its header, is longer than it may be.
        TokenTooLarge = "token_too_large", 401 "unauthorized" Keep;
        /// The token names another algorithm than the scheme's, or none.
        TokenAlgorithmRefused = "token_algorithm_refused", 401 "unauthorized" Keep;
        /// The header of the token brings a key or the address of one, or an extension (`crit`, `jku`, `jwk`, `x5u`, `x5c`).
        TokenHeaderRefused = "token_header_refused", 401 "unauthorized" Keep;
        /// A claim that the scheme or the route asks for is missing or has another value.
        TokenClaimMismatch = "token_claim_mismatch", 401 "unauthorized" Keep;
        /// The token has expired.
        TokenExpired = "token_expired", 401 "unauthorized" Keep;
        /// The token does not count yet, or is from the future.
        TokenNotYetValid = "token_not_yet_valid", 401 "unauthorized" Keep;
        /// The delivery names a key that the route does not have.
        KeyUnknown = "key_unknown", 401 "unauthorized" Keep;
        /// The delivery names no key, or one at a URL that the scheme does not allow. Nothing is fetched for it.
        KeyUrlRefused = "key_url_refused", 401 "unauthorized" Keep;
        /// None of the keys that the sender publishes has been fetched yet, or not the one that the delivery names: they cannot
        /// be had, and none was kept.
        KeysUnavailable = "keys_unavailable", 503 "unavailable" Keep;
        /// No key of the route is inside its validity.
        KeyInactive = "key_inactive", 401 "unauthorized" Keep;
        /// No credential (static token, Basic) where the scheme wants one.
        CredentialMissing = "credential_missing", 401 "unauthorized" Keep;
        /// The credential is none of the route's.
        CredentialMismatch = "credential_mismatch", 401 "unauthorized" Keep;
        /// A handshake is right but for its verify token, which is none of the route's.
        ChallengeTokenMismatch = "challenge_token_mismatch", 403 "forbidden" Keep;
        /// The value that a handshake brings is longer than a sender's.
        ChallengeTooLong = "challenge_too_long", 400 "bad_request" Keep;
        /// The value that a handshake brings is empty, stands there twice, or has bytes that a sender's has not: markup,
        /// quotes, control characters.
        ChallengeMalformed = "challenge_malformed", 400 "bad_request" Keep;
        /// More unsigned first calls than the route answers.
        FirstCallRateLimited = "first_call_rate_limited", 429 "too_many_requests" Keep;
        /// A handshake brings the secret of the deliveries, and no pairing window of the route is open: any client could send
        /// a secret of its own.
        PairingRefused = "pairing_refused", 401 "unauthorized" Keep;
        /// A pairing window is open, and the secret that the handshake brings could not be stored.
        PairingFailed = "pairing_failed", 503 "unavailable" Keep;
        /// The sender asks for a confirmation by a request to it, and that request has failed or could not be made in time.
        ConfirmationFailed = "confirmation_failed", 503 "unavailable" Keep;
        /// The delivery cannot be recorded, or not durably, and must not pass without that.
        AuditUnavailable = "audit_unavailable", 503 "unavailable" Keep;
        /// More genuine deliveries than the route takes.
        RouteRateLimited = "route_rate_limited", 429 "too_many_requests" Keep;
        /// The application has accepted this delivery before, and the route acknowledges duplicates: nothing is left
        /// to do for the sender.
        Duplicate = "duplicate", 200 "duplicate" Keep;
        /// The application has accepted this delivery before, and the route tells so.
        DuplicateConflict = "duplicate_conflict", 409 "duplicate" Keep;
        /// Another copy of this delivery is with the application: its fate is known in a moment.
        DuplicateInFlight = "duplicate_in_flight", 409 "in_progress" Keep;
        /// The route cannot remember another delivery, and must not take one that it cannot remember.
        ReplayTableFull = "replay_table_full", 503 "unavailable" Keep;
        /// The shared engine cannot be asked whether another process has this delivery, or for a token of a shared rate, and the route
        /// refuses then.
        SharedUnavailable = "shared_unavailable", 503 "unavailable" Keep;
        /// The delivery has no key to be ordered by, and the route refuses those.
        OrderKeyMissing = "order_key_missing", 400 "bad_request" Keep;
        /// The inbox, or the disk or the engine that keeps it, has no room for another delivery.
        InboxFull = "inbox_full", 503 "unavailable" Keep;
        /// The inbox cannot store deliveries at present: its disk fails, its engine is away, or it could not be opened.
        InboxUnavailable = "inbox_unavailable", 503 "unavailable" Keep;
        /// The inbox is being opened.
        InboxStarting = "inbox_starting", 503 "unavailable" Keep;
        /// The id of this delivery came before with another body. Both are genuine, so it is forwarded, with the header
        /// `X-Countersign-Id-Reused`: this is only noted, and never an answer.
        IdReused = "id_reused", 409 "duplicate" Keep;
    }
}

ends! {
    /// Something broke. [`Fault::side`] says whose it is.
    Fault {
        /// The client did not send a whole head in time.
        HeadTimeout = "head_timeout", 408 "request_timeout" Close;
        /// The client did not send the whole body in time.
        BodyTimeout = "body_timeout", 408 "request_timeout" Close;
        /// The client sends the body more slowly than it must.
        BodyTooSlow = "body_too_slow", 408 "request_timeout" Close;
        /// The client closed or reset the connection inside a request.
        DownstreamClosed = "downstream_closed", 400 "bad_request" Abort;
        /// The client did not take the response in time.
        ResponseUnread = "response_unread", 500 "internal" Abort;
        /// Others needed the room of an answer that the client was not taking.
        ResponseGaveWay = "response_gave_way", 500 "internal" Abort;
        /// No connection to the application: it is away.
        UpstreamConnect = "upstream_connect", 503 "unavailable" Keep;
        /// Connecting to the application took too long.
        UpstreamConnectTimeout = "upstream_connect_timeout", 504 "gateway_timeout" Keep;
        /// The TLS handshake with the application failed: it speaks no TLS, or refuses our certificate.
        UpstreamTls = "upstream_tls", 502 "bad_gateway" Keep;
        /// The certificate of the application does not hold: its authority, its name or its time.
        UpstreamCertificate = "upstream_certificate", 502 "bad_gateway" Keep;
        /// The application closed or reset the connection before it answered.
        UpstreamClosed = "upstream_closed", 502 "bad_gateway" Keep;
        /// The application's answer is malformed, or can be read in two ways.
        UpstreamMalformed = "upstream_malformed", 502 "bad_gateway" Keep;
        /// The head of the application's answer is larger than 64 KiB, or has more than 200 fields.
        UpstreamHeadTooLarge = "upstream_head_too_large", 502 "bad_gateway" Keep;
        /// The application did not answer in time.
        UpstreamTimeout = "upstream_timeout", 504 "gateway_timeout" Keep;
        /// The application's answer broke off after it had begun: the client sees a visibly broken response.
        UpstreamTruncated = "upstream_truncated", 502 "bad_gateway" Abort;
        /// We are stopping and the application is gone already.
        Draining = "draining", 503 "unavailable" Close;
        /// The disk or the engine of the inbox does not answer, or failed in the middle of a commit: whether the delivery is stored is
        /// not known, so the sender is not answered, and may send it again.
        InboxHung = "inbox_hung", 503 "unavailable" Abort;
    }
}

impl Rejection {
    /// Whether the request lacks what would show that it is genuine, rather than having something wrong.
    #[must_use]
    pub const fn is_absence(self) -> bool {
        matches!(
            self,
            Self::HeaderRequired
                | Self::SignatureMissing
                | Self::TimestampMissing
                | Self::IdMissing
                | Self::CredentialMissing
        )
    }

    /// Whether this is never an answer: it is noted of deliveries that are forwarded.
    #[must_use]
    pub const fn is_only_noted(self) -> bool {
        matches!(self, Self::IdReused)
    }

    /// Whether a request is refused by this rule before its route is known.
    #[must_use]
    pub const fn is_before_route(self) -> bool {
        // The order of the table is that of a request's path; three of its first rules are asked later.
        (self as usize) < Self::ClientNotAllowed as usize
            && !matches!(self, Self::ExpectationFailed | Self::HeaderReserved | Self::LoopDetected)
    }
}

impl Fault {
    /// Whose fault it is.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::HeadTimeout
            | Self::BodyTimeout
            | Self::BodyTooSlow
            | Self::DownstreamClosed
            | Self::ResponseUnread
            | Self::ResponseGaveWay => Side::Downstream,
            Self::UpstreamConnect
            | Self::UpstreamConnectTimeout
            | Self::UpstreamTls
            | Self::UpstreamCertificate
            | Self::UpstreamClosed
            | Self::UpstreamMalformed
            | Self::UpstreamHeadTooLarge
            | Self::UpstreamTimeout
            | Self::UpstreamTruncated => Side::Upstream,
            Self::Draining | Self::InboxHung => Side::Internal,
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The application answered with this status, and the client has it.
    Forwarded {
        /// Status code of the application's answer.
        status: u16,
    },
    /// It was a handshake, and we have answered it with this status.
    Answered {
        /// Status code of the answer.
        status: u16,
    },
    /// The delivery is stored, and delivered later.
    Accepted {
        /// Status code of our answer.
        status: u16,
    },
    /// We refused.
    Rejected(Rejection),
    /// Something broke.
    Failed(Fault),
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl Outcome {
    /// The reason code; `forwarded` for a delivery that reached the application, `accepted` for one that is stored, `challenge_answered` for a handshake.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Forwarded { .. } => "forwarded",
            Self::Answered { .. } => "challenge_answered",
            Self::Accepted { .. } => "accepted",
            Self::Rejected(rejection) => rejection.code(),
            Self::Failed(fault) => fault.code(),
        }
    }

    /// What it amounts to, in a word: `passed`, `accepted` (stored, and delivered later), `answered` (a handshake), `acknowledged` (a duplicate, of which nothing is
    /// left to do), `refused`, `failed`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forwarded { .. } => "passed",
            Self::Answered { .. } => "answered",
            Self::Accepted { .. } => "accepted",
            Self::Rejected(Rejection::Duplicate) => "acknowledged",
            Self::Rejected(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    /// The status that the client was to get; nothing where no answer could be given, or it broke off.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Forwarded { status } | Self::Answered { status } | Self::Accepted { status } => Some(status),
            Self::Rejected(rejection) => Some(rejection.answer().status),
            Self::Failed(fault) => match fault.answer() {
                AnswerRow { fate: Fate::Abort, .. } => None,
                AnswerRow { status, .. } => Some(status),
            },
        }
    }

    /// What to answer, or nothing when the application's answer has been passed on.
    #[must_use]
    pub const fn answer(self) -> Option<AnswerRow> {
        match self {
            Self::Forwarded { .. } => None,
            Self::Answered { status } => Some(AnswerRow { status, error: "", fate: Fate::Keep }),
            Self::Accepted { status } => Some(AnswerRow { status, error: "accepted", fate: Fate::Keep }),
            Self::Rejected(rejection) => Some(rejection.answer()),
            Self::Failed(fault) => Some(fault.answer()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verification_failure_looks_the_same_from_outside() {
        let answers: Vec<AnswerRow> = Rejection::ALL.iter().map(|r| r.answer()).filter(|a| a.status == 401).collect();
        assert!(answers.len() > 10);
        assert!(answers.iter().all(|a| *a == answers[0]));
    }

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<&str> =
            Rejection::ALL.iter().map(|r| r.code()).chain(Fault::ALL.iter().map(|f| f.code())).collect();
        codes.sort_unstable();
        let count = codes.len();
        codes.dedup();
        assert_eq!(count, codes.len());
    }
}
