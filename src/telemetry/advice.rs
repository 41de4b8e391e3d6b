//! What an operator can do about a reason code, in a sentence.

/// What helps where the application is to blame, or is not there.
fn of_upstream(code: &str) -> &'static str {
    match code {
        "upstream_connect" | "upstream_connect_timeout" => {
            "is the application running, and is [upstream] address right?"
        }
        "upstream_tls" => {
            "does the application speak TLS at this port, and does it accept the certificate of [upstream] tls? countersign doctor makes the handshake"
        }
        "upstream_certificate" => {
            "compare the certificate of the application with `ca` and `server_name` of [upstream] tls, and its time: countersign doctor says which"
        }
        "upstream_closed" => {
            "does the application close idle connections earlier than [upstream] idle_timeout? Make that shorter, and look into its log"
        }
        "upstream_truncated" => "the application broke off its answer: look into its log at this moment",
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
#[must_use]
pub fn of(code: &str) -> &'static str {
    match code {
        "client_not_allowed" => {
            "if this client may call, add its network, or the sender whose network it is (docs/ranges.md), to `allow` of the route, or take it out of `deny`"
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
        "tls_unexpected" => {
            "the client speaks HTTPS to a listener for plain HTTP: register http:// with the sender, or give the listener [listener.tls]"
        }
        "client_name_refused" => {
            "if this client may call, add a name of its certificate to `client_names` of the route or of [listener.tls]"
        }
        "gave_way" | "response_gave_way" => {
            "nothing, if it is rare: others needed the room. If it is frequent, raise the bound that is met ([limits]), or find out who fills it"
        }
        "chunk_malformed" | "framing_invalid" | "transfer_coding_unsupported" => {
            "find out what is between the sender and here: a sender writes a Content-Length or chunks as RFC 9112 has them"
        }
        "host_invalid" | "target_invalid" => {
            "compare the URL that is registered with the sender: it must have a host, and a path without oddities"
        }
        "header_reserved" => {
            "the request has a header that countersign sets itself, or a name with underscores: let what is in front remove it"
        }
        "expectation_failed" | "method_unsupported" | "version_unsupported" => {
            "the client asks for what is not spoken here: HTTP/1.1 without CONNECT and with no expectation but 100-continue"
        }
        "id_reused" => {
            "nothing: the delivery was forwarded. Does the sender give two events one id, or does the application need to know?"
        }
        "confirmation_failed" => of_handshake(code),
        code if code.starts_with("challenge_") || code.starts_with("first_call_") || code.starts_with("pairing_") => {
            of_handshake(code)
        }
        "order_key_missing" | "inbox_full" | "inbox_unavailable" | "inbox_hung" | "inbox_starting"
        | "shared_unavailable" => of_store(code),
        "draining" => "nothing: the process was stopping; the sender tries again",
        "loop_detected" => "the upstream leads back to this process: correct its address",
        code if code.starts_with("upstream_") => of_upstream(code),
        code => of_verification(code),
    }
}

/// What helps where a question of a sender about the endpoint is not answered.
fn of_handshake(code: &str) -> &'static str {
    match code {
        "challenge_token_mismatch" => {
            "compare `challenge_tokens` of the route with the verify token that is set at the sender"
        }
        "challenge_too_long" | "challenge_malformed" => {
            "nothing, if it is rare: no sender's handshake looks like this. If a sender's does, challenge = false leaves it to a route of its own"
        }
        "first_call_rate_limited" => "register the webhook again in a minute; find out who sends so many",
        "confirmation_failed" => {
            "the log of the process says why: let it reach the sender over HTTPS; the sender calls again"
        }
        "pairing_failed" => {
            "the log of the process says what failed: make the folder of the secret writable for it, and register the webhook again while the window is open"
        }
        _ => {
            "nothing, if you register no webhook now. Otherwise open a window with `countersign pair ROUTE`, and register it again (docs/handshakes.md)"
        }
    }
}

/// What helps where a delivery is not stored, or the replicas share nothing.
fn of_store(code: &str) -> &'static str {
    match code {
        "order_key_missing" => {
            "the sender leaves out what `order` of the route names: correct it, or write order_missing = \"none\""
        }
        "inbox_full" => {
            "find out why the application does not take what is stored (`countersign_inbox_waiting`), or raise [inbox] size or deliveries, or make room on the disk"
        }
        "inbox_unavailable" | "inbox_hung" => {
            "look at the disk or the engine of the inbox: the log of the process says what failed; the sender tries again"
        }
        "shared_unavailable" => {
            "look at the engine of [shared]: the log of the process and /status say what is wrong with it; the sender tries again. when_unavailable = \"local\" lets each replica judge alone meanwhile"
        }
        _ => "nothing: the sender tries again when the inbox is open",
    }
}

/// What helps where a signature, or what belongs to it, does not hold.
fn of_verification(code: &str) -> &'static str {
    match code {
        "signature_missing" | "header_required" => {
            "set the secret at the sender; if it is set, is the route's scheme the sender's, and does a proxy remove headers?"
        }
        "signature_mismatch" | "digest_mismatch" | "content_unavailable" => {
            "compare the secret with the sender's; `explain` tries the usual mistakes on a request that [admin] capture_refused has kept"
        }
        "content_ambiguous" => {
            "if the delivery is genuine, the `guard` of the scheme forbids what this sender does send: `countersign schemes NAME` shows it"
        }
        "content_too_complex" => {
            "nothing, if the sender is a stranger: genuine events nest a few levels and have few values (docs/schemes.md names the bounds)"
        }
        "compression_unreadable" => {
            "gzip and deflate are read, once and to their end: does the sender use another Content-Encoding, or does a proxy change the body?"
        }
        "compression_bomb" => {
            "if the delivery is genuine, raise body_size of the route: a decompressed body has at most that"
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
        "id_missing" | "id_duplicate" => "does the route's scheme say where this sender puts the id?",
        "id_malformed" => {
            "an id cannot have what separates it from the rest of what is signed (`content` of the scheme), nor what its `guard` forbids: `explain` names the character"
        }
        "keys_unavailable" => {
            "the keys that the sender publishes cannot be fetched: the log says why; let the process reach the URL, and give [published_keys] a cache"
        }
        "value_mismatch" => "compare `values` of the route with what the sender shows: it may be another account's",
        "key_url_refused" => "no sender names such a URL; for a new one of the sender, name its key in public_keys",
        "key_unknown" => "give the route the key that the delivery names: `explain` shows the name",
        "key_inactive" => "give the route a key whose not_before and not_after enclose the present",
        "credential_missing" | "credential_mismatch" => "compare the credential with the one that is set at the sender",
        _ => of_token(code),
    }
}

/// What helps against a refusal for a token, or for the head of a request.
fn of_token(code: &str) -> &'static str {
    match code {
        "token_expired" | "token_not_yet_valid" => {
            "compare the clocks of both machines; a token that is sent again later has expired, and the sender must make another"
        }
        "token_claim_mismatch" => {
            "compare `claims` of the route, and `token` of its scheme, with what this sender writes: `explain` shows both"
        }
        "token_algorithm_refused" => {
            "name a scheme of the algorithm that the sender uses; a token never chooses it. An attacker tries `none` and others"
        }
        "token_malformed" | "token_too_large" | "token_header_refused" => {
            "no sender writes such tokens: is the route's scheme the sender's, and does a proxy change the header?"
        }
        _ => "the client does not speak HTTP/1.1 as RFC 9112 writes it: capture the request and look at its head",
    }
}

/// The same where it is `explain` that says it: without the advice to call it.
#[must_use]
pub fn in_explanation(code: &str) -> &'static str {
    let all = of(code);
    all.find("`explain`").and_then(|at| all.get(..at)).map_or(all, |before| before.trim_end_matches([' ', ';', ':']))
}

/// What helps where a connection ended without an exchange.
#[must_use]
pub fn of_connection(code: &str) -> &'static str {
    match code {
        "proxy_unknown" | "proxy_header_invalid" => {
            "add the proxy to `trusted_proxies` of the listener, and let it send the PROXY protocol; or remove proxy_protocol"
        }
        "connections_full" | "client_connections_full" => {
            "raise [limits] connections or connections_per_client, or find out who opens so many; behind a proxy, name it in `trusted_proxies`"
        }
        "idle_closed" => "nothing: an idle connection made room for another one",
        "tls_plaintext" => "register https:// with the sender: this listener speaks TLS",
        "tls_handshakes_full" | "tls_handshake_rate_limited" | "tls_handshake_timeout" => {
            "raise [limits] handshakes, handshakes_per_client or handshake_timeout, or find out who begins so many"
        }
        "tls_nothing_in_common" => "does the client speak TLS 1.2 or 1.3? `min_version` of the listener may refuse 1.2",
        "tls_refused_by_client" => {
            "give the listener a certificate of an authority that the client trusts, with the chain, for the name that it calls"
        }
        "tls_certificate_missing" => {
            "give the client a certificate of an authority in client_ca, or write client_auth = \"request\""
        }
        "tls_name_refused" => "add a name of the client's certificate to `client_names` if it may call",
        "tls_handshake_failed" => "look at the client's own message; a port scanner causes this, too",
        _ => "give the client another certificate, or put the authority that has signed it into client_ca",
    }
}
