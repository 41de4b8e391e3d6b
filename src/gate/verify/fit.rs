//! Whether a scheme and what a route adds to it fit together.

use super::jws::JwsAlgorithm;
use super::keyring::{Key, Keyring, Material};
use super::scheme::{Kind, Scheme, SchemeProblem};
use super::scheme_rules::TOLERANCE_LIMIT;
use super::tolerance::Tolerance;

/// Everything that is wrong with a scheme, and everything of a route that does not fit it.
pub(super) fn misfits(
    scheme: &Scheme,
    keyring: &Keyring,
    tolerance: Option<Tolerance>,
    has_url: bool,
) -> Vec<SchemeProblem> {
    let mut problems = scheme.validate();
    let mut problem = |wrong: bool, field, message: &str, fix: &str| {
        if wrong {
            problems.push(SchemeProblem { field, message: message.to_owned(), fix: fix.to_owned() });
        }
    };
    let foreign = keyring.keys().iter().any(|key| !belongs(scheme.kind, key));
    problem(foreign, "secrets", "a key was prepared for another scheme", "prepare every key for this scheme");
    for claim in &scheme.token.route_claims {
        let message = format!("only the route can know what the claim `{claim}` must be");
        problem(true, "claims", &message, &format!("add it to the route: claims = {{ {claim} = \"…\" }}"));
    }
    for value in scheme.values.iter().filter(|value| value.values.is_empty()) {
        let message = format!("only the route can know what `{}` must be", value.name);
        problem(true, "values", &message, &format!("add it to the route: values = {{ {} = \"…\" }}", value.name));
    }
    let wants_url = scheme.signs_url();
    problem(
        wants_url && !has_url,
        "public_url",
        "the scheme signs the URL, which only you know",
        "set `public_url` to the URL configured at the provider",
    );
    problem(!wants_url && has_url, "public_url", "the scheme does not sign the URL", "remove `public_url`");
    problem(
        tolerance.is_some() && !scheme.signs_timestamp(),
        "tolerance",
        "the scheme signs no timestamp, so a tolerance would promise what it cannot keep",
        "remove `tolerance`",
    );
    let in_range =
        tolerance.map(Tolerance::distance).is_none_or(|distance| !distance.is_zero() && distance <= TOLERANCE_LIMIT);
    problem(!in_range, "tolerance", "the tolerance is out of range", "give a tolerance above zero and up to 168 hours");
    problems
}

const fn belongs(kind: Kind, key: &Key) -> bool {
    matches!(
        (kind, key.material()),
        (Kind::Hmac(_), Material::Mac(_))
            | (Kind::Digest(_), Material::Secret(_))
            | (Kind::Public(_) | Kind::Jws(JwsAlgorithm::Public(_)), Material::Public(_))
            | (Kind::Public(_) | Kind::Jws(JwsAlgorithm::Public(_)), Material::Published(_))
            | (Kind::Public(_), Material::Pinned(_))
            | (Kind::Jws(JwsAlgorithm::Mac(_)), Material::Mac(_))
            | (Kind::Token | Kind::Basic, Material::Credential(_))
    )
}
