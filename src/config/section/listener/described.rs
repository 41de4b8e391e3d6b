//! TLS in words, for `check`: what each listener shows, to whom, until when.

use core::fmt;

use super::tls::{CallerSettings, CertificateFacts, CertificateSettings, MinVersion, TlsSettings};
use crate::config::lines::line;
use crate::config::units::show_instant as shown;
use crate::gate::chain::KeyKind;
use crate::now::Now;

/// Certificates that end sooner are pointed out: renewal should have happened by now.
const SOON: i64 = 7 * 24 * 3600;

/// So many authorities of clients are shown; the rest is counted.
const AUTHORITIES: usize = 8;

/// The lines of a listener.
pub(super) fn write(out: &mut String, tls: Option<&TlsSettings>, now: Now) -> fmt::Result {
    let Some(tls) = tls else { return line(out, "", "plain text: not encrypted") };
    let versions = match tls.min_version {
        MinVersion::Tls12 => "TLS 1.3 and 1.2",
        MinVersion::Tls13 => "TLS 1.3",
    };
    line(out, "", format_args!("{versions}, HTTP/1.1; sessions are resumed with tickets, for at most 12h"))?;
    for (position, certificate) in tls.certificates.iter().enumerate() {
        write_certificate(out, certificate, position == 0, now)?;
    }
    write_callers(out, tls, now)
}

fn write_certificate(out: &mut String, certificate: &CertificateSettings, first: bool, now: Now) -> fmt::Result {
    let path = certificate.certificate.path.display();
    let Some(facts) = &certificate.facts else { return line(out, "certificate", path) };
    let names = if facts.names.is_empty() { "no host name".to_owned() } else { facts.names.join(", ") };
    let default = if first { " (also for clients that ask for another name, or none)" } else { "" };
    line(out, "certificate", format_args!("{names}{default}"))?;
    line(
        out,
        "",
        format_args!("{path}: {}, from {} until {}", facts.subject, shown(facts.not_before), shown(facts.not_after)),
    )?;
    line(out, "", format_args!("SHA-256 {}", facts.fingerprint))?;
    write_key(out, facts.key)?;
    match untimely(certificate, now) {
        Some(what) => line(out, "WARNING", format_args!("this certificate {what}")),
        None => Ok(()),
    }
}

/// RSA keys that make a handshake so many times as expensive as ECDSA does are warned about.
const EXPENSIVE: u32 = 10;

fn write_key(out: &mut String, key: KeyKind) -> fmt::Result {
    let times = key.handshake_cost() / KeyKind::Small.handshake_cost();
    match key {
        KeyKind::Rsa(_) if times >= EXPENSIVE => {
            let advice = "any client can ask for them: use ECDSA P-256, or RSA 2048 where clients need RSA";
            line(
                out,
                "WARNING",
                format_args!("key {key}: handshakes cost {times} times those with ECDSA P-256, and {advice}"),
            )
        }
        KeyKind::Rsa(_) | KeyKind::Large => {
            line(out, "", format_args!("key {key}: handshakes cost {times} times those with ECDSA P-256"))
        }
        KeyKind::Small => line(out, "", format_args!("key {key}")),
    }
}

fn write_callers(out: &mut String, tls: &TlsSettings, now: Now) -> fmt::Result {
    let Some(callers) = &tls.callers else { return line(out, "callers", "are not asked for a certificate") };
    let authorities = callers.authorities.path.display();
    let without = if callers.required { "without one they are refused" } else { "without one they have no name" };
    line(out, "callers", format_args!("are asked for a certificate of {authorities}; {without}"))?;
    for facts in callers.facts.iter().take(AUTHORITIES) {
        let CertificateFacts { subject, not_after, fingerprint, .. } = facts;
        line(
            out,
            "",
            format_args!("authority {}, until {}, SHA-256 {fingerprint}", subject.escape_debug(), shown(*not_after)),
        )?;
        if let Some(what) = untimely_authority(facts, now) {
            line(out, "WARNING", format_args!("this authority {what}"))?;
        }
    }
    if callers.facts.len() > AUTHORITIES {
        line(out, "", format_args!("and {} more authorities", callers.facts.len() - AUTHORITIES))?;
    }
    if callers.names.is_empty() {
        return line(out, "", "by any name that it has signed");
    }
    let names: Vec<String> = callers.names.patterns().iter().map(ToString::to_string).collect();
    line(out, "", format_args!("with one of these names: {}", names.join(", ")))
}

/// Certificates and authorities that do not hold at this moment, or not for long, in full sentences.
pub(crate) fn moment_warnings<'s>(
    all: impl Iterator<Item = &'s TlsSettings> + Clone,
    now: Now,
) -> impl Iterator<Item = String> {
    let own = all.clone().flat_map(|tls| &tls.certificates).filter_map(move |certificate| {
        let what = untimely(certificate, now)?;
        Some(format!("The certificate in {} {what}.", certificate.certificate.path.display()))
    });
    let callers = all.filter_map(|tls| tls.callers.as_ref());
    own.chain(callers.flat_map(move |callers| authority_warnings(callers, now)))
}

fn authority_warnings(callers: &CallerSettings, now: Now) -> Vec<String> {
    let path = callers.authorities.path.display();
    let untimely = callers.facts.iter().filter_map(|facts| Some((facts, untimely_authority(facts, now)?)));
    let mut warnings: Vec<String> = untimely
        .map(|(CertificateFacts { subject, .. }, what)| {
            format!("The authority \"{}\" in client_ca {path} {what}.", subject.escape_debug())
        })
        .collect();
    let more = warnings.len().saturating_sub(AUTHORITIES);
    warnings.truncate(AUTHORITIES);
    if more > 0 {
        warnings.push(format!("{more} more authorities in client_ca {path} do not hold at present, or not for long."));
    }
    warnings
}

fn untimely(certificate: &CertificateSettings, now: Now) -> Option<String> {
    let facts = certificate.facts.as_ref()?;
    let text = |when: String, what: &str| format!("{when}: {what}");
    judged(facts, now).map(|moment| match moment {
        Untimely::Over => text(format!("expired at {}", shown(facts.not_after)), "clients will refuse it"),
        Untimely::Early => text(format!("does not hold before {}", shown(facts.not_before)), "clients will refuse it"),
        Untimely::Soon => text(format!("expires soon, at {}", shown(facts.not_after)), "renew it"),
    })
}

/// An authority that is configured is believed, whatever time it is: its own dates are no part of the verification of
/// what it has signed (RFC 5280, section 6.1.1 d).
fn untimely_authority(facts: &CertificateFacts, now: Now) -> Option<String> {
    const STILL: &str = "certificates that it has signed are accepted all the same, and by other programs perhaps not";
    judged(facts, now).map(|moment| match moment {
        Untimely::Over => format!("expired at {}: {STILL}; replace it", shown(facts.not_after)),
        Untimely::Early => format!("does not hold before {}: {STILL}", shown(facts.not_before)),
        Untimely::Soon => format!("expires soon, at {}: name its successor beside it", shown(facts.not_after)),
    })
}

/// How a certificate stands whose time is not now, or not for long.
enum Untimely {
    Over,
    Early,
    Soon,
}

fn judged(facts: &CertificateFacts, now: Now) -> Option<Untimely> {
    let seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
    if seconds > facts.not_after {
        Some(Untimely::Over)
    } else if seconds < facts.not_before {
        Some(Untimely::Early)
    } else if facts.not_after - seconds < SOON {
        Some(Untimely::Soon)
    } else {
        None
    }
}
