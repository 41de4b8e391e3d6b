//! `qsh` of Atlassian Connect: a hash of method, path and query, in a canonical form (Atlassian, "Understanding JWT for
//! Connect apps"; atlassian-jwt, `createQueryStringHash`).

use super::super::form;
use super::super::mac::FixedDigest;
use super::super::url::{self, PublicUrl};
use crate::outcome::Rejection;

/// The most parameters of a query.
const PARAMETER_LIMIT: usize = 256;

/// The parameter in which a token may stand. It is no part of what is hashed.
const TOKEN_PARAMETER: &[u8] = b"jwt";

/// The hash of a request. The path of `base` is that of the app, which is not hashed.
pub(super) fn of(method: &[u8], target: &[u8], base: Option<&PublicUrl>) -> Result<FixedDigest, Rejection> {
    let mut canonical = method.to_ascii_uppercase();
    canonical.push(b'&');
    write_path(url::path_of(target), base.map_or("", PublicUrl::path).as_bytes(), &mut canonical);
    canonical.push(b'&');
    write_query(form::query(target).unwrap_or_default(), &mut canonical)?;
    Ok(FixedDigest::of(&canonical))
}

fn write_path(path: &[u8], base: &[u8], out: &mut Vec<u8>) {
    let base = base.strip_suffix(b"/").unwrap_or(base);
    let rest = path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with(b"/")).unwrap_or(path);
    let rest = if rest.len() > 1 { rest.strip_suffix(b"/").unwrap_or(rest) } else { rest };
    if rest.is_empty() {
        return out.push(b'/');
    }
    for byte in rest {
        match byte {
            b'&' => out.extend_from_slice(b"%26"),
            byte => out.push(*byte),
        }
    }
}

/// Parameters sorted by their names as they are escaped; the values of one name sorted and joined by commas.
fn write_query(query: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
    let mut parameters = Vec::new();
    for pair in form::pairs(query) {
        let (name, value) = pair.map_err(|_| Rejection::TokenClaimMismatch)?;
        if *name == *TOKEN_PARAMETER {
            continue;
        }
        if parameters.len() == PARAMETER_LIMIT {
            return Err(Rejection::TokenClaimMismatch);
        }
        parameters.push((escaped(&name), escaped(&value)));
    }
    parameters.sort();
    let mut last: Option<&[u8]> = None;
    for (name, value) in &parameters {
        match last {
            Some(before) if before == name.as_slice() => out.push(b','),
            _ => {
                if last.is_some() {
                    out.push(b'&');
                }
                out.extend_from_slice(name);
                out.push(b'=');
                last = Some(name);
            }
        }
        out.extend_from_slice(value);
    }
    Ok(())
}

/// Percent-encoding that leaves the unreserved characters of RFC 3986, section 2.3 alone.
fn escaped(text: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(*byte),
            byte => out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
    out
}
