//! `countersign explain`: why was this refused? From a captured request, with the mistakes that would explain it, or from
//! a line of the access log, in plain words.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::config::section::route::keys::KeySource;
use crate::config::section::route::verification::Verification;
use crate::config::{parse_str, scheme};
use crate::explain::mistakes::{Given, sorted_json};
use crate::explain::{TrialBudget, explain_head, explain_within, shown_span};
use crate::gate::verify::{Key, Keyring, PublicUrl, Scheme, Validity, Verifier};
use crate::now::Now;
use crate::outcome::{Fault, Rejection};
use crate::telemetry;
use crate::wire::head::ResponseError;

use super::asking;
use super::captured::{self, CapturedRequest};
use super::configured::ConfigFlag;
use super::nearest::nearest_route;
use super::offline::{Written, find_scheme, read_file, split_url, time};
use super::output::{OutputFlag, complain, keep_lines, line, print_kept};
use super::verify::of_route;
use super::{CANNOT, FOUND_WRONG, advice};

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArguments {
    /// A request id, as the sender and the application were told it; with --log, or with a running process that keeps
    /// what it refuses (`[admin] capture_refused`)
    #[arg(value_name = "REQUEST-ID", required_unless_present = "request")]
    request_id: Option<String>,
    /// The access log, as JSON lines
    #[arg(long, value_name = "FILE", requires = "request_id")]
    log: Option<PathBuf>,
    /// The admin port of the process, 127.0.0.1:9090 or unix:/path, if the configuration does not say it
    #[arg(long, value_name = "ADDRESS", env = "COUNTERSIGN_ADMIN", hide_env_values = true)]
    admin: Option<String>,
    /// A captured request: the raw bytes of one HTTP/1.1 message
    #[arg(long, value_name = "FILE", conflicts_with = "request_id")]
    request: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    output: OutputFlag,
    /// A route of the configuration: its scheme, keys, tolerance and public URL
    #[arg(long, value_name = "NAME", conflicts_with_all = ["scheme", "secret_files"])]
    route: Option<String>,
    /// The scheme (`countersign schemes` lists them)
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// A secret, as the provider shows it; repeat it to try several
    #[arg(long = "secret-file", value_name = "FILE")]
    secret_files: Vec<PathBuf>,
    /// The URL, as it is configured at the provider; needed by schemes that sign it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The time to judge by (2026-11-25T20:00:00Z, or seconds since 1970). If not given: the present for
    /// --request, and for a request that a process keeps the time at which it came
    #[arg(long, visible_alias = "now", value_name = "TIME")]
    at: Option<String>,
}

/// 0 when there is nothing to explain, 1 when it was refused, 2 when that cannot be found out.
pub(super) fn run(arguments: &ExplainArguments) -> ExitCode {
    if arguments.output.is_json() {
        keep_lines();
    }
    let outcome = match (&arguments.request, &arguments.request_id, &arguments.log) {
        (Some(request), _, _) => of_request(arguments, request),
        (None, Some(id), Some(log)) => of_log(id, log, arguments),
        (None, Some(id), None) => of_process(arguments, id),
        (None, None, _) => Err("give --request FILE, or a request id".to_owned()),
    };
    if let Ok(genuine) = &outcome {
        print_kept(*genuine);
    }
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND_WRONG),
        Err(why) => {
            complain(why);
            ExitCode::from(CANNOT)
        }
    }
}

/// What a request is judged by, and what that was made of.
struct Judgement {
    verifier: Verifier,
    scheme: Arc<Scheme>,
    secrets: Secrets,
    of_others: Secrets,
    public_url: Option<PublicUrl>,
}

/// Names, and what stands in their files.
type Secrets = Vec<(String, Zeroizing<Vec<u8>>)>;

fn of_request(arguments: &ExplainArguments, request: &Path) -> Result<bool, String> {
    let now = moment(arguments.at.as_deref())?;
    let judgement = match &arguments.route {
        Some(route) => by_route(&arguments.config.path(), route)?,
        None => by_arguments(arguments)?,
    };
    if arguments.at.is_none() && judgement.scheme.signs_timestamp() {
        line("judged as of now: if the capture is not of just now, say with --at when it came");
    }
    judge(&read_file(request)?, judgement, now)
}

/// How long the admin port may take, and how much it may say.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER: u64 = 16 << 20;

/// Why there may be nothing of a request.
const NOT_KEPT: &str = "it passed, no route stands for it (404), the application failed (502, 503, 504), many of its reason \
                        came in one second, others took its place, or its route compares tokens or passwords. The access \
                        log may have its line: --log FILE";

/// What a running process keeps of a request that it has refused, judged by the route that it fell under and by the time
/// at which that was, if nothing else is said.
fn of_process(arguments: &ExplainArguments, id: &str) -> Result<bool, String> {
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("'{}' is no request id: these are 32 hexadecimal digits", id.escape_debug()));
    }
    let config = arguments.config.path();
    let address = asking::address(arguments.admin.as_deref(), &config)?;
    let ask = |path: &str| match asking::ask(&address, path, (PATIENCE, ANSWER)) {
        Ok((200, bytes)) => Ok(bytes),
        Ok((_, words)) => Err(String::from_utf8_lossy(&words).trim().escape_debug().to_string()),
        Err(error) => Err(format!("the admin port at {address} does not answer: {error}")),
    };
    let list: Vec<Value> = serde_json::from_slice(&ask("/captured")?).map_err(|error| format!("/captured: {error}"))?;
    let known = list.iter().find(|it| it.get("request_id").and_then(Value::as_str) == Some(id));
    let known = known.ok_or_else(|| format!("no request with the id {id} is kept (any more): {NOT_KEPT}"))?;
    let text = |name: &str| known.get(name).and_then(Value::as_str).unwrap_or_default();
    let bytes = Zeroizing::new(ask(&format!("/captured/{id}"))?);
    let (route, reason) = (text("route"), text("reason"));
    line(format!("refused on route {}: {}", route.escape_debug(), reason.escape_debug()));
    if !is_about_verification(reason) {
        line(format!("what that means: {}", meaning(reason)));
        line(format!("what to do: {}", telemetry::advice::of(reason)));
        return Ok(false);
    }
    let now = match (arguments.at.as_deref(), known.get("at").and_then(Value::as_u64)) {
        (None, Some(millis)) => Now::at_unix(Duration::from_millis(millis)),
        (at, _) => moment(at)?,
    };
    line(format!("judged as of {}, by what the configuration and its files say now", written(now)));
    let judgement = match (&arguments.route, arguments.scheme.is_some()) {
        (None, true) => by_arguments(arguments)?,
        (named, _) => by_route(&config, named.as_deref().unwrap_or(route))?,
    };
    if known.get("cut").and_then(Value::as_bool) == Some(true) {
        return judge_head(&bytes, &judgement, now);
    }
    let genuine = judge(&bytes, judgement, now)?;
    if genuine {
        line("it was refused all the same: its key, or what else counts on the route, has changed since then");
    }
    Ok(genuine)
}

/// Whether a reason is one that the bytes of a request and the keys of a route explain.
fn is_about_verification(code: &str) -> bool {
    Rejection::ALL.iter().any(|it| it.code() == code && it.answer().status == 401)
}

/// Judges what is there of a request without the whole of its body.
fn judge_head(bytes: &[u8], judgement: &Judgement, now: Now) -> Result<bool, String> {
    line("not all of it is kept: its body had not come whole, or was too long");
    let request = captured::parse(bytes)?.request;
    let explanation = explain_head(&judgement.verifier, &request, now);
    line(explanation.lines.join("\n"));
    match explanation.verdict {
        Ok(()) => line("what to do: send a smaller one, or capture a whole one on its way: `explain --request FILE`"),
        Err(rejection) => {
            line(format!("what that means: {}", rejection.meaning()));
            line(format!("what to do: {}", telemetry::advice::of(rejection.code())));
        }
    }
    Ok(false)
}

/// Judges the bytes of a request, and says what would explain the verdict.
fn judge(bytes: &[u8], judgement: Judgement, now: Now) -> Result<bool, String> {
    let CapturedRequest { request, oddities } = captured::parse(bytes)?;
    oddities.into_iter().for_each(line);
    let budget = TrialBudget::of(request.body.len());
    let explanation = explain_within(&judgement.verifier, &request, now, &budget);
    line(explanation.lines.join("\n"));
    let Err(rejection) = explanation.verdict else { return Ok(true) };
    line(format!("what that means: {}", rejection.meaning()));
    let found =
        if explanation.cause.is_some() { Vec::new() } else { tried(&request, &judgement, &budget, (rejection, now)) };
    for what in &found {
        line(format!("explained: {what}"));
    }
    if explanation.cause.is_none() && found.is_empty() && budget.has_refused() {
        line("not everything was tried: the body is too large for that; capture a smaller one");
    }
    match explanation.cause {
        Some(cause) => line(format!("what to do: {}", advice::of_cause(cause))),
        None if found.is_empty() => line(format!("what to do: {}", advice::after_all(rejection))),
        None => {}
    }
    Ok(false)
}

/// The mistakes that would explain it.
fn tried(
    request: &Written,
    judgement: &Judgement,
    budget: &TrialBudget,
    (rejection, now): (Rejection, Now),
) -> Vec<String> {
    let Judgement { scheme, secrets, of_others, public_url, .. } = judgement;
    let given = Given { scheme, secrets, public_url: public_url.as_ref(), now, budget };
    let mut bodies = sorted_json(&request.body, budget);
    bodies.extend(captured::decompressed(&request.body, budget));
    let presets: Vec<Arc<Scheme>> = scheme::preset_names().filter_map(scheme::preset).collect();
    let mut found = given.explain(request, &bodies, &presets);
    // What is genuine but for its time is signed with one of the route's own.
    if rejection == Rejection::SignatureMismatch {
        let others = Given { secrets: of_others, ..given };
        found.extend(others.matching(request).into_iter().map(|id| format!("it is signed with {id}")));
    }
    found
}

fn by_arguments(arguments: &ExplainArguments) -> Result<Judgement, String> {
    let name = arguments.scheme.as_deref().ok_or("say how to judge it: --route, or --scheme and --secret-file")?;
    let scheme = find_scheme(name, &arguments.config)?;
    let public_url = arguments.url.as_deref().map(|url| split_url(url).map(|(url, _)| url)).transpose()?;
    let mut secrets = Vec::new();
    for path in &arguments.secret_files {
        let id = path.file_name().map(|name| name.to_string_lossy().into_owned());
        secrets.push((id.unwrap_or_default(), Zeroizing::new(read_file(path)?)));
    }
    let key = |(id, secret): &(String, Zeroizing<Vec<u8>>)| {
        let bare = secret.strip_suffix(b"\n").unwrap_or(secret);
        let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
        Key::from_secret(id, &scheme, bare, Validity::default()).map_err(|error| format!("{id}: {error}"))
    };
    let keys = secrets.iter().map(key).collect::<Result<Vec<Key>, String>>()?;
    if keys.is_empty() {
        return Err("give at least one --secret-file".to_owned());
    }
    let signed_url = public_url.clone().filter(|_| scheme.signs_url());
    let verifier = Verifier::new(Arc::clone(&scheme), Keyring::new(keys), None, signed_url);
    let verifier = verifier.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|it| format!("{}: {}", it.message, it.fix)).collect();
        lines.join("\n")
    })?;
    Ok(Judgement { verifier, scheme, secrets, of_others: Vec::new(), public_url })
}

/// The verifier is the one of `run`; the secrets are read once more, because nothing keeps them as they are written.
fn by_route(config: &Path, name: &str) -> Result<Judgement, String> {
    let verifier = of_route(config, name)?;
    let text = Zeroizing::new(read_file(config)?);
    let text = String::from_utf8_lossy(&text);
    let (settings, _) = parse_str(&config.display().to_string(), &text).map_err(|problems| problems.to_string())?;
    let route = settings.routes.iter().find(|route| route.name == name);
    let verification = route.and_then(|route| route.verification.as_ref());
    let verification = verification.ok_or_else(|| format!("the route \"{name}\" verifies nothing"))?;
    let directory = config.parent().unwrap_or(Path::new("."));
    let secrets = secrets_of(verification, directory, |variable, key| {
        line(format!("the key `{key}` is in the variable {variable}: not varied"));
    })?;
    let mut of_others = Secrets::new();
    for other in settings.routes.iter().filter(|other| other.name != name) {
        let keys = other.verification.as_ref().map(|it| secrets_of(it, directory, |_, _| {})).transpose()?;
        for (id, secret) in keys.unwrap_or_default() {
            if secrets.iter().chain(&of_others).all(|(_, known)| *known != secret) {
                of_others.push((format!("the secret `{id}` of the route `{}`", other.name), secret));
            }
        }
    }
    let scheme = Arc::clone(&verification.scheme);
    Ok(Judgement { verifier, scheme, secrets, of_others, public_url: verification.public_url.clone() })
}

/// The secrets of a route, byte for byte. Those that are in the environment are told to `left_out`.
fn secrets_of(
    verification: &Verification,
    directory: &Path,
    mut left_out: impl FnMut(&str, &str),
) -> Result<Secrets, String> {
    let mut secrets = Vec::new();
    for key in &verification.keys {
        match &key.source {
            KeySource::Value(secret) => secrets.push((key.id.clone(), Zeroizing::new(secret.bytes().to_vec()))),
            KeySource::File(path) => {
                secrets.push((key.id.clone(), Zeroizing::new(read_file(&directory.join(path))?)));
            }
            KeySource::Url(_) => {}
            KeySource::Env(variable) => left_out(variable, &key.id),
        }
    }
    Ok(secrets)
}

/// A time, for people.
fn written(now: Now) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now.unix_millis()) * 1_000_000).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}

fn moment(text: Option<&str>) -> Result<Now, String> {
    let Some(text) = text else { return Ok(time(None)) };
    let parsed = || OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|it| u64::try_from(it.unix_timestamp()).ok());
    let seconds = text.parse().ok().or_else(parsed);
    seconds
        .map(|seconds| time(Some(seconds)))
        .ok_or_else(|| format!("--at '{text}': write it like 2026-11-25T20:00:00Z"))
}

/// What the log says of a request.
fn of_log(id: &str, log: &Path, arguments: &ExplainArguments) -> Result<bool, String> {
    let file = File::open(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let mut found = None;
    for text in BufReader::new(file).split(b'\n') {
        let text = text.map_err(|error| format!("{}: {error}", log.display()))?;
        if memchr::memmem::find(&text, id.as_bytes()).is_some() {
            let record = serde_json::from_slice::<Value>(&text).ok();
            found = found.or(record.filter(|record| record.get("request_id").and_then(Value::as_str) == Some(id)));
        }
    }
    let record = found.ok_or_else(|| {
        format!(
            "there is no line about {id} in {}: lines of refused strangers may be left out (refused = …)",
            log.display()
        )
    })?;
    let passed = tell(&record);
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    if ["route_unknown", "method_not_allowed"].contains(&text("reason"))
        && let Some(config) = arguments.config.if_any()
        && let Some(hint) = nearest_route(&config, text("method"), text("path"))
    {
        line(hint);
    }
    Ok(passed)
}

fn tell(record: &Value) -> bool {
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or("-").escape_debug().to_string();
    let number = |name: &str| record.get(name).and_then(Value::as_u64);
    let (reason, outcome) = (text("reason"), text("outcome"));
    line(format!("{}: {} {} from {}", text("time"), text("method"), text("path"), text("client")));
    line(format!(
        "route {} (scheme {}), key {}, delivery {}",
        text("route"),
        text("scheme"),
        text("key_id"),
        text("delivery_id")
    ));
    let status = number("status").map_or_else(|| "without an answer".to_owned(), |status| format!("with {status}"));
    line(format!("{outcome} {status}: {reason}"));
    let took = |name: &str| number(name).map_or_else(|| "-".to_owned(), |it| shown_span(Duration::from_micros(it)));
    let [head, body, verify, upstream, total] =
        ["head_us", "body_us", "verify_us", "upstream_us", "total_us"].map(took);
    line(format!("took {total}: head {head}, body {body}, verification {verify}, application {upstream}"));
    for observed in record.get("observed").and_then(Value::as_array).into_iter().flatten() {
        let code = observed.as_str().unwrap_or_default();
        line(format!("would have been refused as {code}, were this not only observed: {}", meaning(code)));
    }
    if let Some(rule) = ResponseError::ALL.iter().find(|rule| rule.code() == text("rule")) {
        line(format!("the rule that the answer of the application broke: {rule}: {}", rule.meaning()));
    }
    if let (true, Some(status)) = (outcome == "failed", number("accepted")) {
        line(format!("the application has accepted the delivery all the same ({status}): a copy is acknowledged"));
    }
    if reason == "forwarded" {
        return true;
    }
    line(format!("what that means: {}", meaning(&reason)));
    line(format!("what to do: {}", telemetry::advice::of(&reason)));
    false
}

fn meaning(code: &str) -> &'static str {
    let rejection = Rejection::ALL.iter().find(|it| it.code() == code).map(|it| it.meaning());
    let fault = || Fault::ALL.iter().find(|it| it.code() == code).map(|it| it.meaning());
    rejection.or_else(fault).unwrap_or("this version does not know this reason")
}
