//! What a sender of one's own signs by mistake: the parts in another order, without what separates them, with another
//! algorithm, or with the arguments of HMAC exchanged.

use super::case::{TriedCase, Visit};
use super::forms::permutations;
use super::mistake::Mistake::{
    self, ContentBodyAlone, ContentOrder, ContentPartMissing, ContentPlainHash, ContentSeparator,
};
use crate::gate::verify::{DigestAlgorithm, Encoding, Kind, MacAlgorithm, Part, Template, inspect};

fn with_content(case: TriedCase<'_>, parts: Vec<Part>, mistake: Mistake, visit: &mut Visit<'_>) -> bool {
    let content = Template::of(parts);
    if content == case.scheme.content || content.parts().is_empty() {
        return false;
    }
    let wanted = if mistake == ContentBodyAlone { &case.scheme.content } else { &content };
    let shown = wanted.to_string();
    let scheme = case.changed_scheme(|scheme| scheme.content = content);
    visit(TriedCase { scheme: &scheme, ..case }, mistake, &[&shown])
}

/// The body alone.
pub(super) fn body_alone(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if !case.scheme.signs() {
        return false;
    }
    let content = Template::of(vec![Part::Body]);
    if content == case.scheme.content {
        return false;
    }
    let shown = case.scheme.content.to_string();
    let scheme = case.changed_scheme(|scheme| {
        (scheme.content, scheme.timestamp, scheme.id, scheme.body_digest) = (content, None, None, None);
    });
    visit(TriedCase { scheme: &scheme, ..case }, ContentBodyAlone, &[&shown])
}

const SEPARATORS: [&[u8]; 6] = [b"", b".", b":", b"|", b"\n", b"-"];

const fn is_literal(part: &Part) -> bool {
    matches!(part, Part::Literal(_))
}

/// Other separators, another order, a part left out, the digest of the body.
pub(super) fn contents(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if !case.scheme.signs() {
        return false;
    }
    let own = case.scheme.content.parts();
    let parts: Vec<Part> = own.iter().filter(|part| !is_literal(part)).cloned().collect();
    let digest =
        own.iter()
            .map(|part| {
                if *part == Part::Body {
                    Part::HashedBody(DigestAlgorithm::Sha256, Encoding::Hex)
                } else {
                    part.clone()
                }
            })
            .collect();
    if parts.len() > 6 || with_content(case, digest, Mistake::ContentDigest, visit) {
        return parts.len() <= 6;
    }
    // What stands in front of everything (`v0:`), and what most often separates.
    let lead: Vec<Part> = own.iter().take_while(|part| is_literal(part)).cloned().collect();
    let between = own.iter().skip(lead.len()).find_map(|part| match part {
        Part::Literal(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    let usual = between.unwrap_or_default();
    for separator in SEPARATORS {
        for lead in [lead.as_slice(), &[]] {
            if with_content(case, joined(lead, &parts, separator), ContentSeparator, visit) {
                return true;
            }
        }
    }
    if !lead.is_empty() && with_content(case, without_colon(&lead, &parts, usual), ContentSeparator, visit) {
        return true;
    }
    for order in if parts.len() <= 4 { permutations(&parts) } else { Vec::new() } {
        for separator in [usual, b"", b"."] {
            if order != parts && with_content(case, joined(&lead, &order, separator), ContentOrder, visit) {
                return true;
            }
        }
    }
    for left_out in 0..parts.len() {
        let mut fewer = parts.clone();
        fewer.remove(left_out);
        for separator in [usual, b"", b"."] {
            if fewer.contains(&Part::Body)
                && with_content(case, joined(&lead, &fewer, separator), ContentPartMissing, visit)
            {
                return true;
            }
        }
    }
    false
}

/// With a lead whose own separator is exchanged as well: `v0.{timestamp}.{body}` for `v0:{timestamp}:{body}`.
fn without_colon(lead: &[Part], parts: &[Part], usual: &[u8]) -> Vec<Part> {
    let lead: Vec<Part> = lead
        .iter()
        .map(|part| match part {
            Part::Literal(bytes) => Part::Literal([bytes.strip_suffix(usual).unwrap_or(bytes), b"."].concat()),
            other => other.clone(),
        })
        .collect();
    joined(&lead, parts, b".")
}

fn joined(lead: &[Part], parts: &[Part], separator: &[u8]) -> Vec<Part> {
    let mut all = lead.to_vec();
    for (number, part) in parts.iter().enumerate() {
        if number > 0 && !separator.is_empty() {
            all.push(Part::Literal(separator.to_vec()));
        }
        all.push(part.clone());
    }
    all
}

const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Hmac(MacAlgorithm::HmacSha1) => "HMAC-SHA1",
        Kind::Hmac(MacAlgorithm::HmacSha256) => "HMAC-SHA256",
        Kind::Hmac(MacAlgorithm::HmacSha384) => "HMAC-SHA384",
        Kind::Hmac(MacAlgorithm::HmacSha512) => "HMAC-SHA512",
        Kind::Digest(DigestAlgorithm::Sha1) => "SHA-1",
        Kind::Digest(DigestAlgorithm::Sha256) => "SHA-256",
        _ => "another algorithm",
    }
}

/// The algorithms of HMAC.
pub(super) const MACS: [Kind; 4] = [
    Kind::Hmac(MacAlgorithm::HmacSha256),
    Kind::Hmac(MacAlgorithm::HmacSha1),
    Kind::Hmac(MacAlgorithm::HmacSha512),
    Kind::Hmac(MacAlgorithm::HmacSha384),
];

const HASHES: [Kind; 2] = [Kind::Digest(DigestAlgorithm::Sha256), Kind::Digest(DigestAlgorithm::Sha1)];

/// Another algorithm, the arguments of HMAC exchanged, a plain hash.
pub(super) fn algorithms(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let makes_tags = matches!(case.scheme.kind, Kind::Hmac(_) | Kind::Digest(_));
    makes_tags && (other_macs(case, visit) || plain_hashes(case, visit) || swapped(case, visit))
}

fn other_macs(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    MACS.into_iter().filter(|kind| *kind != case.scheme.kind).any(|kind| {
        let scheme = case.changed_scheme(|scheme| scheme.kind = kind);
        visit(TriedCase { scheme: &scheme, ..case }, Mistake::Algorithm, &[name_of(kind), name_of(case.scheme.kind)])
    })
}

fn plain_hashes(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let own: Vec<Part> = case.scheme.content.parts().iter().filter(|part| **part != Part::Secret).cloned().collect();
    let body = vec![Part::Body];
    for kind in HASHES.into_iter().filter(|kind| *kind != case.scheme.kind) {
        for content in [&own, &body] {
            let first = [&[Part::Secret][..], content].concat();
            let last = [content, &[Part::Secret][..]].concat();
            for (parts, what) in [
                (first, "secret and content"),
                (last, "content and secret"),
                (content.clone(), "the content without the secret"),
            ] {
                let scheme = case.changed_scheme(|scheme| {
                    (scheme.kind, scheme.content) = (kind, Template::of(parts));
                });
                if visit(
                    TriedCase { scheme: &scheme, ..case },
                    ContentPlainHash,
                    &[&format!("{what} ({})", name_of(kind))],
                ) {
                    return true;
                }
            }
        }
    }
    false
}

fn swapped(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if !case.pays(2) {
        return false;
    }
    let Some(key) = inspect::content(case.scheme, &case.seen, case.url) else { return false };
    case.decoded().iter().any(|secret| {
        let scheme = case.changed_scheme(|scheme| scheme.content = Template::of(vec![Part::Literal(secret.to_vec())]));
        visit(TriedCase { scheme: &scheme, key: Some(&key), ..case }, Mistake::ContentSwapped, &[])
    })
}
