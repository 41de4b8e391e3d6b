//! `countersign explain`: why was this refused? From a captured request, with the mistakes that would explain it, or from
//! a line of the access log, in plain words.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::explain::{quoted, shown_span};
use crate::now::Now;
use crate::outcome::{Fault, Rejection};
use crate::telemetry;
use crate::wire::head::ResponseError;

use super::asking;
use super::captured::CaptureSource;
use super::configured::ConfigFlag;
use super::judgement::{self, Judgement, is_about_verification};
use super::nearest::nearest_route;
use super::offline::{read_file, time};
use super::output::{OutputFlag, give_up, keep_lines, line, print_kept};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArguments {
    /// A request id, as the sender and the application were told it; with --log, or with a running process that keeps
    /// what it refuses (`[admin] capture_refused`). With --log also the sender's id of the delivery, as GitHub's page shows it
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
            give_up(&why);
            ExitCode::from(CANNOT)
        }
    }
}

fn of_request(arguments: &ExplainArguments, request: &Path) -> Result<bool, String> {
    let now = moment(arguments.at.as_deref())?;
    let judgement = match &arguments.route {
        Some(route) => {
            let mut judgement = Judgement::by_route(&arguments.config.path(), route)?;
            let unused = "--url is not used: the URL of a route is its public_url";
            judgement.remarks.extend(arguments.url.as_ref().map(|_| unused.to_owned()));
            judgement
        }
        None => by_arguments(arguments)?,
    };
    let judgement = Judgement { is_present: arguments.at.is_none(), ..judgement };
    judgement::judge(&read_file(request)?, &judgement, now, CaptureSource::File(judgement.limits))
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
        return Err(format!("'{}' is no request id: these are 32 hexadecimal digits", quoted(id)));
    }
    let config = arguments.config.path();
    let address = asking::address(arguments.admin.as_deref(), &config)?;
    let ask = |path: &str| match asking::ask(&address, path, (PATIENCE, ANSWER)) {
        Ok((200, bytes)) => Ok(bytes),
        Ok((_, words)) => Err(quoted(words.trim_ascii())),
        Err(error) => Err(format!("the admin port at {address} does not answer: {error}")),
    };
    let list: Vec<Value> = serde_json::from_slice(&ask("/captured")?).map_err(|error| format!("/captured: {error}"))?;
    let known = list.iter().find(|it| it.get("request_id").and_then(Value::as_str) == Some(id));
    let known = known.ok_or_else(|| format!("no request with the id {id} is kept (any more): {NOT_KEPT}"))?;
    let text = |name: &str| known.get(name).and_then(Value::as_str).unwrap_or_default();
    let bytes = Zeroizing::new(ask(&format!("/captured/{id}"))?);
    let (route, reason) = (text("route"), text("reason"));
    if !is_about_verification(reason) {
        line(format!("refused on route {}: {}", quoted(route), quoted(reason)));
        line(format!("what that means: {}", meaning(reason)));
        line(format!("what to do: {}", telemetry::advice::in_explanation(reason)));
        return Ok(false);
    }
    let now = match (arguments.at.as_deref(), known.get("at").and_then(Value::as_u64)) {
        (None, Some(millis)) => Now::at_unix(Duration::from_millis(millis)),
        (at, _) => moment(at)?,
    };
    let judgement = match (&arguments.route, arguments.scheme.is_some()) {
        (None, true) => by_arguments(arguments)?,
        (named, _) => Judgement::by_route(&config, named.as_deref().unwrap_or(route))?,
    };
    let as_of = format!(
        "refused on route {}: {}\njudged as of {}, by what the configuration and its files say now",
        quoted(route),
        quoted(reason),
        written(now)
    );
    if known.get("cut").and_then(Value::as_bool) == Some(true) {
        judgement::judge_head(&bytes, &judgement, now)?;
        line(as_of);
        return Ok(false);
    }
    let genuine = judgement::judge(&bytes, &judgement, now, CaptureSource::Process)?;
    line(as_of);
    if genuine {
        line("it was refused all the same: its key, or what else counts on the route, has changed since then");
    }
    Ok(genuine)
}

fn by_arguments(arguments: &ExplainArguments) -> Result<Judgement, String> {
    let name = arguments.scheme.as_deref().ok_or("say how to judge it: --route, or --scheme and --secret-file")?;
    Judgement::by_scheme(name, &arguments.config, &arguments.secret_files, arguments.url.as_deref())
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

/// The members of a line by which it is found: our id, that of the sender, or that of the inbox.
const IDS: [&str; 4] = ["request_id", "delivery_id", "unsigned_delivery_id", "delivery"];

/// Attempts to deliver that are shown: the last ones.
const ATTEMPTS: usize = 8;

/// What the log says of a request.
fn of_log(id: &str, log: &Path, arguments: &ExplainArguments) -> Result<bool, String> {
    let file = File::open(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let (mut found, mut times, mut attempts) = (None, 0, VecDeque::new());
    let names_it = |record: &Value| IDS.iter().any(|name| record.get(name).and_then(Value::as_str) == Some(id));
    for text in BufReader::new(file).split(b'\n') {
        let text = text.map_err(|error| format!("{}: {error}", log.display()))?;
        if memchr::memmem::find(&text, id.as_bytes()).is_some() {
            let record = serde_json::from_slice::<Value>(&text).ok().filter(names_it);
            if record.as_ref().is_some_and(is_attempt) {
                attempts.extend(record);
                attempts.drain(..attempts.len().saturating_sub(ATTEMPTS));
                continue;
            }
            times += usize::from(record.is_some());
            // A delivery may have come more than once.
            found = record.or(found);
        }
    }
    if found.is_none() && !attempts.is_empty() {
        return Ok(tell_attempts(&attempts));
    }
    let record = found.ok_or_else(|| {
        format!(
            "there is no line about {id} in {}: lines of refused strangers may be left out (refused = …)",
            log.display()
        )
    })?;
    if times > 1 {
        line(format!("there are {times} lines about it; the last one:"));
    }
    let passed = tell(&record);
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    if ["route_unknown", "method_not_allowed"].contains(&text("reason"))
        && let Some(config) = arguments.config.if_any()
        && let Some(hint) = nearest_route(&config, text("method"), text("path"))
    {
        line(hint);
    }
    tell_attempts(&attempts);
    Ok(passed)
}

fn is_attempt(record: &Value) -> bool {
    record.get("event").and_then(Value::as_str) == Some("attempt")
}

/// Says how attempts to deliver have ended; gives whether the last one succeeded.
fn tell_attempts(attempts: &VecDeque<Value>) -> bool {
    let mut delivered = false;
    for record in attempts {
        let text = |name: &str| quoted(record.get(name).and_then(Value::as_str).unwrap_or("-"));
        let number = |name: &str| record.get(name).and_then(Value::as_u64);
        let status = number("status").map_or_else(String::new, |status| format!(" with {status}"));
        let (attempt, outcome) = (number("attempt").unwrap_or(0), text("outcome"));
        delivered = outcome == "delivered";
        let (time, delivery, reason) = (text("time"), text("delivery"), text("reason"));
        line(format!("{time}: attempt {attempt} to deliver {delivery}: {outcome}{status} ({reason})"));
    }
    delivered
}

fn tell(record: &Value) -> bool {
    let text = |name: &str| quoted(record.get(name).and_then(Value::as_str).unwrap_or("-"));
    let number = |name: &str| record.get(name).and_then(Value::as_u64);
    let (reason, outcome) = (text("reason"), text("outcome"));
    line(format!("{}: {} {} from {}", text("time"), text("method"), text("path"), text("client")));
    let delivery = match text("unsigned_delivery_id") {
        unsigned if unsigned != "-" => format!("{unsigned} (unsigned)"),
        _ => text("delivery_id"),
    };
    line(format!("route {} (scheme {}), key {}, delivery {delivery}", text("route"), text("scheme"), text("key_id")));
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
    if ["forwarded", "challenge_answered", "accepted"].contains(&&*reason) {
        return true;
    }
    line(format!("what that means: {}", meaning(&reason)));
    line(format!("what to do: {}", telemetry::advice::in_explanation(&reason)));
    if is_about_verification(&reason) {
        line("the log has no bytes of it: with [admin] capture_refused the process keeps those of the next one");
    }
    false
}

fn meaning(code: &str) -> &'static str {
    let rejection = Rejection::ALL.iter().find(|it| it.code() == code).map(|it| it.meaning());
    let fault = || Fault::ALL.iter().find(|it| it.code() == code).map(|it| it.meaning());
    rejection.or_else(fault).unwrap_or("this version does not know this reason")
}
