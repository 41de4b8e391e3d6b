//! Whatever stands in a file, there is an answer.

use countersign::config::parse_str;

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "(?s).*") {
        let _ = parse_str("x", &text);
    }

    /// Keys and values that exist, put together at random: deeper than arbitrary text gets.
    #[test]
    fn arbitrary_configurations_never_panic(lines in proptest::collection::vec((0..KEYS.len(), 0..VALUES.len()), 0..20)) {
        let line = |(key, value): &(usize, usize)| match KEYS[*key] {
            section if section.starts_with('[') => section.to_owned(),
            key => format!("{key} = {}", VALUES[*value]),
        };
        let text: Vec<String> = lines.iter().map(line).collect();
        match parse_str("x", &text.join("\n")) {
            Ok((settings, _)) => assert!(!settings.listeners.is_empty() && !settings.routes.is_empty()),
            Err(problems) => assert!(problems.has_errors()),
        }
    }
}

const KEYS: &[&str] = &[
    "[server]",
    "[[listener]]",
    "[upstream]",
    "[limits]",
    "[[route]]",
    "[[route]]",
    "[scheme.own]",
    "address",
    "proxy_protocol",
    "trusted_proxies",
    "allow",
    "allow_file",
    "deny",
    "observe",
    "name",
    "host",
    "path",
    "methods",
    "scheme",
    "secrets",
    "public_keys",
    "public_url",
    "tolerance",
    "body_size",
    "upstream",
    "workers",
    "head_size",
    "idle_timeout",
    "reuse_after",
    "connections",
    "body_memory",
    "body_rate_min",
    "unverified_per_client",
    "handshakes_per_client",
    "rate",
    "content_types",
    "observe",
    "algorithm",
    "content",
    "signature",
    "timestamp",
];

const VALUES: &[&str] = &[
    "1",
    "-1",
    "true",
    "'1s'",
    "'1KiB/s'",
    "{ rate = '1/s', burst = 1 }",
    "['rate', 'a/b']",
    "'5KiB'",
    "'/a'",
    "'/{x}'",
    "'127.0.0.1:80'",
    "'github'",
    "'none'",
    "'own'",
    "'a:1'",
    "['POST']",
    "'v1v2'",
    "['10.0.0.0/8', '::1']",
    "['0.0.0.0/0']",
    "['allow']",
    "[]",
    "{}",
    "[{ id = '1', value = '0123456789abcdef!' }]",
    "[{ id = '1', file = 'x', not_after = 2026-01-01 }]",
    "'https://a/'",
    "'hmac-sha256'",
    "'{body}'",
    "{ header = 'X-Signature' }",
    "2026-01-01T00:00:00Z",
    "1.5",
];
