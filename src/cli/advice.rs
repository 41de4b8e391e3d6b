//! What to do about a reason code, in a sentence.

use crate::explain::MismatchCause;
use crate::outcome::Rejection;

/// What helps where it is known what would have to be otherwise.
pub(super) const fn of_cause(cause: MismatchCause) -> &'static str {
    match cause {
        MismatchCause::Key => "let the key count (not_before, not_after), or sign with one that does",
        MismatchCause::Body => {
            "the sender signed other bytes than have come: find what reads the body and writes it again on the way, or \
             in the tool that sends it"
        }
        MismatchCause::Url => "give the route the public_url that is set at the sender, byte for byte",
        MismatchCause::Head => "let what is in front pass on the method, the path and the query as they came",
    }
}

/// What helps where the usual mistakes have been tried, and none of them was it.
pub(super) fn after_all(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::SignatureMismatch => {
            "none of the usual mistakes explains it: is the key the one that the sender has, and is the body (its \
             length and SHA-256 are above) the one that it signed?"
        }
        rejection => of(rejection.code()),
    }
}

/// What helps where the application is to blame, or is not there.
fn of_upstream(code: &str) -> &'static str {
    match code {
        "upstream_connect" | "upstream_connect_timeout" => {
            "is the application running, and is [upstream] address right?"
        }
        "upstream_timeout" => "find out why the application is slow, or raise response_timeout",
        "upstream_malformed" => {
            "the line of the access log names the rule that the answer broke (`rule`): correct the application, or what is between"
        }
        "upstream_head_too_large" => {
            "let the application answer with a head of at most 64 KiB and 200 fields: cookies are the usual cause"
        }
        _ => "look into the log of the application at this moment",
    }
}

/// What helps. Every reason has an answer.
pub(super) fn of(code: &str) -> &'static str {
    match code {
        "signature_missing" | "header_required" => {
            "set the secret at the sender; if it is set, is the route's scheme the sender's, and does a proxy remove headers?"
        }
        "signature_mismatch" | "digest_mismatch" | "content_unavailable" => {
            "compare the secret with the sender's, and let [admin] capture_refused keep the next one: `explain` tries the usual mistakes"
        }
        "content_ambiguous" => {
            "if the delivery is genuine, the `guard` of the scheme forbids what this sender does send: `countersign schemes NAME` shows it"
        }
        "signature_malformed" | "signature_duplicate" => {
            "does the route's scheme describe how this sender writes its signature? `countersign schemes NAME` shows it"
        }
        "timestamp_stale" | "timestamp_future" => {
            "compare the clocks of both machines; a sender that retries with the old signature needs a longer tolerance"
        }
        "timestamp_missing" | "timestamp_duplicate" | "timestamp_malformed" => {
            "does the route's scheme say where this sender puts the timestamp, and in which unit?"
        }
        "id_missing" | "id_duplicate" | "id_malformed" => {
            "does the route's scheme say where this sender puts the id, and does its `guard` forbid what stands there?"
        }
        "key_inactive" => "give the route a key whose not_before and not_after enclose the present",
        "credential_missing" | "credential_mismatch" => "compare the credential with the one that is set at the sender",
        "client_not_allowed" => {
            "if this client may call, add its network to `allow` (or take it out of `deny`) of the route"
        }
        "client_rate_limited" => {
            "the client sent many requests that were not genuine, and the share of all such clients is full ([limits] over_budget); behind a proxy, name it in `trusted_proxies`"
        }
        "route_rate_limited" => "raise `rate` of the route if the application can take more",
        "duplicate" | "duplicate_conflict" => {
            "nothing: the application has it. To repeat it all the same, wait for the replay lifetime to pass"
        }
        "duplicate_in_flight" => "nothing: the sender tries again when the first copy has been answered",
        "replay_table_full" => "raise `replay.capacity` of the route, or shorten `replay.lifetime`",
        "audit_unavailable" => {
            "make room for the audit trail, or repair its disk: the log of the process says what failed"
        }
        "requests_full" | "body_memory_full" => {
            "raise [limits] requests_in_flight or body_memory, or find out who floods it"
        }
        "body_too_large" => "raise `body_size` of the route, or of [limits]",
        "target_too_long" | "head_too_large" => {
            "raise [limits] target_size, head_size or headers if the sender needs that"
        }
        "content_type_refused" => "add the media type to `content_types` of the route if it is expected",
        "route_unknown" => "compare host and path with those of the routes: `countersign check` lists them",
        "method_not_allowed" => "add the method to `methods` of the route if it is expected",
        "head_timeout" | "body_timeout" | "body_too_slow" => {
            "the client is slow, or wants to be: raise head_timeout, body_timeout or lower body_rate_min only for senders that need it"
        }
        "downstream_closed" | "response_unread" => {
            "the sender gave up: compare its timeout with how long the application took"
        }
        code if code.starts_with("upstream_") => of_upstream(code),
        "draining" => "nothing: the process was stopping; the sender tries again",
        "loop_detected" => "the upstream leads back to this process: correct its address",
        _ => "the sender does not speak HTTP/1.1 as RFC 9112 writes it: capture the request and look at its head",
    }
}
