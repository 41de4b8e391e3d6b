//! Whether what a scheme asks of tokens can be asked.

use super::super::scheme::{Kind, Scheme, SchemeProblem, SignatureSource, Source};
use super::super::signature::Syntax;
use super::rules::{CLAIM_LIMIT, LEEWAY_LIMIT, TokenRules};

/// What is wrong with the rules of a scheme about tokens.
pub(in super::super) fn problems(scheme: &Scheme) -> Vec<SchemeProblem> {
    let mut found = Vec::new();
    let mut when = |wrong: bool, field, message: &str, fix: &str| {
        if wrong {
            found.push(SchemeProblem { field, message: message.to_owned(), fix: fix.to_owned() });
        }
    };
    let claim = |source: Option<&Source>| matches!(source, Some(Source::Claim(_)));
    let timestamp = scheme.timestamp.as_ref().map(|timestamp| &timestamp.source);
    let Kind::Jws(algorithm) = scheme.kind else {
        let fix = "use an algorithm of tokens, for instance \"jwt-hs256\", or remove it";
        when(scheme.token != TokenRules::default(), "token", "the scheme has no token", fix);
        when(scheme.signature == SignatureSource::Body, "signature", "only a token can be the whole body", fix);
        when(claim(timestamp), "timestamp", "only tokens have claims", fix);
        when(claim(scheme.id.as_ref()), "id", "only tokens have claims", fix);
        return found;
    };
    let rules = &scheme.token;
    when(
        algorithm.name().is_empty(),
        "algorithm",
        "tokens do not have this algorithm",
        "use one that begins with jwt-",
    );
    let single = matches!(scheme.syntax, Syntax::Single { .. });
    when(!single, "signature", "a token stands alone", "remove `separator` and `key`");
    let one = !matches!(&scheme.signature, SignatureSource::Headers(names) if names.len() != 1);
    when(!one, "signature", "a token stands in one place", "name one header");
    let fix = "name the claim: { claim = \"…\" }";
    when(timestamp.is_some() && !claim(timestamp), "timestamp", "only a claim of the token is signed", fix);
    when(
        matches!(&scheme.id, Some(Source::Json(_))) && !scheme.covers_body(),
        "id",
        "the token does not cover the body",
        fix,
    );
    let whole = scheme.signature == SignatureSource::Body;
    when(whole && rules.body_digest.is_some(), "token", "the body is the token itself", "remove `body_digest`");
    let many = rules.claims.len() + rules.route_claims.len() > CLAIM_LIMIT;
    when(many, "token", "judges too many claims", "name at most 20");
    let bare = rules.claims.iter().any(|rule| rule.name.is_empty() || rule.values.is_empty());
    when(bare, "token", "has a claim without a name or without a value", "write claims = { iss = \"…\" }");
    when(rules.leeway > LEEWAY_LIMIT, "token", "the leeway is out of range", "give at most 10 minutes");
    found
}
