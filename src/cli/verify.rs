//! `countersign verify`: the proxy's verdict on a captured delivery, with the reasons in plain words.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::config::section::limits::LimitSettings;
use crate::explain::{BodyEnd, NamedSecret, blank_secret, quoted};
use crate::gate::verify::{Key, KeyError, Keyring, PublicUrl, Scheme, Validity, Verified, Verifier};
use crate::now::Now;
use crate::outcome::Rejection;
use crate::wire::head::HeadLimits;
use crate::wire::headers::HeaderBuf;

use super::configured::ConfigFlag;
use super::judgement::{Judgement, head_limits, key_of_file, tell_refusal, told};
use super::offline::{Written, find_scheme, read_body, read_file, split_header, split_url, time};
use super::output::{OutputFlag, give_up, keep_lines, line, print_kept};
use super::strict::{self, HeadRefusal};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArguments {
    /// The scheme (`countersign schemes` lists them)
    #[arg(long, value_name = "NAME", required_unless_present = "route")]
    scheme: Option<String>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    output: OutputFlag,
    /// A route of the configuration: its scheme, keys, tolerance and public URL, as `run` uses them
    #[arg(long, value_name = "NAME",
          conflicts_with_all = ["scheme", "secret_files", "public_key_files"])]
    route: Option<String>,
    /// A secret, as the provider shows it; repeat it to try several
    #[arg(long = "secret-file", value_name = "FILE")]
    secret_files: Vec<PathBuf>,
    /// A public key, for schemes that have one; repeat it to try several
    #[arg(long = "public-key-file", value_name = "FILE")]
    public_key_files: Vec<PathBuf>,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    method: String,
    /// The URL, as it is configured at the provider, with the query of the request; needed by schemes that sign it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A header of the request; repeat it for each
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body, byte for byte; `-` for standard input, nothing for an empty one
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// The time to judge by, in seconds since 1970; the present if not given
    #[arg(long, visible_alias = "at", value_name = "UNIX")]
    now: Option<u64>,
}

/// Prints why, then `accept …` or `reject: <reason code>` on the last line; exits with 0 or 1, or 2 when the arguments
/// make no sense.
pub(super) fn run(arguments: &VerifyArguments) -> ExitCode {
    if arguments.output.is_json() {
        keep_lines();
    }
    match judge(arguments) {
        Ok(Ok(accepted)) => {
            line(format!("accept {accepted}"));
            print_kept(true);
            ExitCode::SUCCESS
        }
        Ok(Err(rejection)) => {
            line(format!("reject: {}", rejection.code()));
            print_kept(false);
            ExitCode::from(FOUND_WRONG)
        }
        Err(why) => {
            give_up(&why);
            ExitCode::from(CANNOT)
        }
    }
}

fn judge(arguments: &VerifyArguments) -> Result<Result<String, Rejection>, String> {
    let (public_url, target) = split_url(arguments.url.as_deref().unwrap_or("http://127.0.0.1/"))?;
    let judgement = match &arguments.route {
        Some(route) => Judgement::by_route(&arguments.config.path(), route)?,
        None => of_arguments(arguments, public_url)?,
    };
    let mut headers = HeaderBuf::default();
    for header in &arguments.headers {
        let (name, value) = split_header(header)?;
        headers.push(name, value.as_bytes());
    }
    let body = read_body(arguments.body_file.as_deref())?;
    let delivery = Written { method: arguments.method.clone(), target, headers, body };
    let now = time(arguments.now);
    let refusal = refusal_of_head(&delivery, judgement.limits);
    refusal.iter().for_each(tell_refusal);
    if !told(&delivery, BodyEnd::AsSaid, &judgement, now) {
        line("a request that a running process has refused and kept: countersign explain REQUEST-ID");
    }
    if let Some(refusal) = refusal {
        return Ok(Err(refusal.rejection));
    }
    Ok(verdict(&judgement.verifier, delivery, now).map(|verified| describe(&verified)))
}

/// What the proxy refuses of a request that is written like this, before it looks at the signature.
fn refusal_of_head(delivery: &Written, limits: HeadLimits) -> Option<HeadRefusal> {
    let first = format!("{} {} HTTP/1.1", delivery.method, delivery.target);
    let fields: Vec<Vec<u8>> =
        delivery.headers.view().iter().map(|(name, value)| [name, b": ", value].concat()).collect();
    let lines: Vec<&[u8]> = core::iter::once(first.as_bytes()).chain(fields.iter().map(Vec::as_slice)).collect();
    strict::judge(&lines, limits).0
}

fn of_arguments(arguments: &VerifyArguments, public_url: PublicUrl) -> Result<Judgement, String> {
    let scheme = find_scheme(arguments.scheme.as_deref().unwrap_or_default(), &arguments.config)?;
    if scheme.signs_url() && arguments.url.is_none() {
        return Err(format!("the scheme \"{}\" signs the URL: give it with --url", scheme.name));
    }
    let Keys { keys, secrets, remarks } = read_keys(arguments, &scheme)?;
    let public_url = scheme.signs_url().then_some(public_url);
    let verifier = Verifier::new(scheme, Keyring::new(keys), None, public_url).map_err(|problems| {
        let lines: Vec<String> =
            problems.iter().map(|problem| format!("{}: {}", problem.message, problem.fix)).collect();
        lines.join("\n")
    })?;
    let limits = head_limits(&LimitSettings::default());
    Ok(Judgement { verifier, secrets, of_others: Vec::new(), remarks, limits, query: None, is_present: false })
}

/// The way of the proxy: the same three steps, the body in one piece.
fn verdict(verifier: &Verifier, delivery: Written, now: Now) -> Result<Verified<'_, Written>, Rejection> {
    let mut check = verifier.begin(&delivery, now)?;
    check.update(&delivery.body);
    verifier.finish(check, delivery, now).map_err(|(rejection, _)| rejection)
}

fn describe(verified: &Verified<'_, Written>) -> String {
    let mut facts = vec![format!("key={}", verified.key_id().unwrap_or("-"))];
    let moment = verified.timestamp().and_then(|millis| OffsetDateTime::from_unix_timestamp(millis / 1000).ok());
    let moment = moment.and_then(|moment| moment.format(&Rfc3339).ok());
    facts.push(format!("timestamp={}", moment.as_deref().unwrap_or("-")));
    match verified.delivery_id() {
        Some(id) => {
            let signed = if verified.delivery_id_is_signed() { "" } else { " (not signed)" };
            facts.push(format!("id={}{signed}", quoted(id)));
        }
        None => facts.push("id=-".to_owned()),
    }
    facts.join(" ")
}

/// What the files of the arguments are.
#[derive(Default)]
struct Keys {
    keys: Vec<Key>,
    secrets: Vec<NamedSecret>,
    remarks: Vec<String>,
}

fn read_keys(arguments: &VerifyArguments, scheme: &Arc<Scheme>) -> Result<Keys, String> {
    let mut all = Keys::default();
    for path in &arguments.secret_files {
        let secret = Zeroizing::new(read_file(path)?);
        if let Some(what) = blank_secret(&secret) {
            return Err(format!("{}: the secret is empty: the file {what}", path.display()));
        }
        if scheme.wants_public_key() {
            return Err(format!("{}: {}", path.display(), KeyError::PublicKeyWanted));
        }
        let (key, remark) = key_of_file(&key_id(path), scheme, &secret)?;
        all.keys.push(key);
        all.remarks.extend(remark);
        all.secrets.push((key_id(path), secret));
    }
    for path in &arguments.public_key_files {
        let bytes = read_file(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let key = Key::from_public(&key_id(path), scheme, text.trim(), Validity::default());
        all.keys.push(key.map_err(|error| format!("{}: {error}", path.display()))?);
    }
    let option = if scheme.wants_public_key() { "--public-key-file" } else { "--secret-file" };
    if all.keys.is_empty() {
        return Err(format!("the scheme \"{}\" needs at least one {option}", scheme.name));
    }
    Ok(all)
}

/// Keys are called after their files.
fn key_id(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
