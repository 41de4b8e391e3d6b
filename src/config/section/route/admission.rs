//! `rate` and `content_types` of a route.

use core::fmt;

use crate::config::lines::line;
use crate::config::rates::{read_route_rate, show_rate};
use crate::config::reader::Reader;
use crate::config::units::{shorten, show_size};
use crate::gate::replay::WhenUnavailable;
use crate::gate::route_admission::RouteAdmission;
use crate::ledger::shared::SharedRate;

const MEDIA_TYPE_LIMIT: usize = 16;

/// What a route says about admission, and whether its rate is to be that of all processes together.
pub(super) fn read(reader: &Reader<'_>, body_size: u64, body_memory: u64) -> (RouteAdmission, bool) {
    if body_size > body_memory {
        let (size, memory) = (show_size(body_size), show_size(body_memory));
        let message = format!("a body of {size} can never come in: [limits] body_memory is {memory} for all together");
        reader.error("body_size", message, "make body_size smaller, or body_memory larger");
    }
    let (rate, shared) = read_route_rate(reader, "rate");
    let content_types = content_types(reader);
    (RouteAdmission { rate, content_types, ..RouteAdmission::default() }, shared)
}

fn content_types(reader: &Reader<'_>) -> Vec<String> {
    let Some(written) = reader.strings("content_types") else { return Vec::new() };
    if written.is_empty() || written.len() > MEDIA_TYPE_LIMIT {
        let fix = format!("write content_types = [\"application/json\"], or leave it out; at most {MEDIA_TYPE_LIMIT}");
        reader.error("content_types", format!("has {} media types", written.len()), fix);
    }
    let mut types: Vec<String> = Vec::new();
    for text in written.into_iter().take(MEDIA_TYPE_LIMIT) {
        let lower = text.to_ascii_lowercase();
        if lower.contains(';') {
            let bare = lower.split(';').next().unwrap_or_default().trim_end();
            let fix = format!("write \"{}\": parameters are not compared", shorten(bare));
            reader.error("content_types", "has parameters", fix);
        } else if !is_media_type(&lower) {
            let message = format!("\"{}\" is not a media type", shorten(text));
            reader.error("content_types", message, "write type/subtype: \"application/json\"; there are no wildcards");
        } else if types.contains(&lower) {
            reader.error("content_types", format!("\"{}\" is given twice", shorten(text)), "remove one of the two");
        }
        types.push(lower);
    }
    types
}

/// RFC 9110, section 8.3.1: two tokens and a slash. `*` would be a token too, but no sender uses it.
fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&b))
    };
    text.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// For `check`. `observed` is whether the rate is only counted.
pub(super) fn describe(out: &mut String, admission: &RouteAdmission, observed: bool) -> fmt::Result {
    if !admission.content_types.is_empty() {
        line(out, "media types", admission.content_types.join(", "))?;
    }
    if let Some(rate) = &admission.rate {
        let observed = if observed { " (only counted)" } else { "" };
        let scope = if admission.rate_shared.is_some() { ", of all replicas together" } else { "" };
        line(out, "rate", format_args!("{}{scope}{observed}", show_rate(rate)))?;
        if admission.rate_shared.is_some() {
            let batch = SharedRate::batch(*rate);
            line(out, "", format_args!("exact to {batch} for each replica, which takes so many at once"))?;
        }
        match admission.rate_shared {
            Some(WhenUnavailable::Local) => {
                line(out, "", "while the engine is away, each replica has the whole rate for itself")?;
            }
            Some(WhenUnavailable::Refuse) => line(out, "", "while the engine is away, deliveries are refused (503)")?,
            None => {}
        }
    }
    Ok(())
}
