//! TLS in words, for `check`: what each listener shows, to whom, until when.

use core::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::settings::{CertificateSettings, Listener, MinVersion, TlsSettings};
use crate::config::summary::line;
use crate::now::Now;

/// Certificates that end sooner are pointed out: renewal should have happened by now.
const SOON: i64 = 7 * 24 * 3600;

/// The lines of a listener.
pub(super) fn write(out: &mut String, listener: &Listener, now: Now) -> fmt::Result {
    let Some(tls) = &listener.tls else { return line(out, "", "plain text: not encrypted") };
    let versions = match tls.min_version {
        MinVersion::Tls12 => "TLS 1.3 and 1.2",
        MinVersion::Tls13 => "TLS 1.3",
    };
    line(out, "", format_args!("{versions}, HTTP/1.1; sessions are resumed with tickets, for at most 12h"))?;
    for (position, certificate) in tls.certificates.iter().enumerate() {
        write_certificate(out, certificate, position == 0, now)?;
    }
    write_callers(out, tls)
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
    match untimely(certificate, now) {
        Some(what) => line(out, "WARNING", format_args!("this certificate {what}")),
        None => Ok(()),
    }
}

fn write_callers(out: &mut String, tls: &TlsSettings) -> fmt::Result {
    let Some(callers) = &tls.callers else { return line(out, "callers", "are not asked for a certificate") };
    let authorities = callers.authorities.path.display();
    let without = if callers.required { "without one they are refused" } else { "without one they have no name" };
    line(out, "callers", format_args!("are asked for a certificate of {authorities}; {without}"))?;
    if callers.names.is_empty() {
        return line(out, "", "by any name that it has signed");
    }
    let names: Vec<String> = callers.names.patterns().iter().map(ToString::to_string).collect();
    line(out, "", format_args!("with one of these names: {}", names.join(", ")))
}

/// Certificates that do not hold at this moment, or not for long, in full sentences.
pub(super) fn moment_warnings<'s>(listeners: &'s [Listener], now: Now) -> impl Iterator<Item = String> + 's {
    let certificates = listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.certificates);
    certificates.filter_map(move |certificate| {
        let what = untimely(certificate, now)?;
        Some(format!("The certificate in {} {what}.", certificate.certificate.path.display()))
    })
}

fn untimely(certificate: &CertificateSettings, now: Now) -> Option<String> {
    let facts = certificate.facts.as_ref()?;
    let seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
    if seconds > facts.not_after {
        Some(format!("expired at {}: clients will refuse it", shown(facts.not_after)))
    } else if seconds < facts.not_before {
        Some(format!("does not hold before {}: clients will refuse it", shown(facts.not_before)))
    } else if facts.not_after - seconds < SOON {
        Some(format!("expires soon, at {}: renew it", shown(facts.not_after)))
    } else {
        None
    }
}

fn shown(seconds: i64) -> String {
    let instant = OffsetDateTime::from_unix_timestamp(seconds).ok();
    instant.and_then(|instant| instant.format(&Rfc3339).ok()).unwrap_or_else(|| seconds.to_string())
}
