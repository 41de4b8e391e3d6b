//! `countersign audit`: proves a trail, and searches it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::shown::is_unseen;
use crate::telemetry::audit::chain::ChainLine;
use crate::telemetry::audit::{Examiner, Flaw, Link, SealKey, Summary, Unproven};
use crate::telemetry::line::TimeText;

use super::offline::read_secret;
use super::output::{complain, line};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    /// Prove that nothing has been changed, left out or moved, or name the first record that is not as it was written
    Verify(TrailArguments),
    /// Print the records that match, as they stand in the file; what it prints is not proven
    Show(ShowArguments),
}

#[derive(Debug, clap::Args)]
struct TrailArguments {
    /// The files of one trail, in any order
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// A key that seals were made with; repeat it, with --key-id, after a change of keys
    #[arg(long = "key-file", value_name = "FILE")]
    key_files: Vec<PathBuf>,
    /// The id of the key, as the configuration of the trail has it
    #[arg(long = "key-id", value_name = "ID")]
    key_ids: Vec<String>,
    /// The last record, as `verify` or the log has printed it: then nothing can be missing at the end either
    #[arg(long, value_name = "SEQ:HASH")]
    expect_last: Option<String>,
    /// The last record of the files that are kept elsewhere or were deleted on purpose: its number, or what `verify` has
    /// printed of it, which proves that these files follow it. Without this, a trail must begin with record 1
    #[arg(long, value_name = "SEQ[:HASH]")]
    after: Option<String>,
}

/// The last record before those that are given.
#[derive(Clone, Copy)]
struct Before {
    seq: u64,
    /// The record itself, where the operator knows its hash.
    link: Option<Link>,
}

impl Before {
    fn parse(text: &str) -> Result<Self, String> {
        let link = Link::parse(text);
        let seq = link.map(|link| link.seq).or_else(|| text.parse().ok());
        let seq = seq.ok_or_else(|| format!("--after '{text}': write the number of a record, or SEQ:HASH"))?;
        Ok(Self { seq, link })
    }
}

#[derive(Debug, clap::Args)]
struct ShowArguments {
    /// The files of one trail, in any order
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Deliveries to this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Deliveries that ended so: a reason code, or `forwarded`
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Records of this kind: delivery, start, stop, configuration, secret, certificate, seal, unrecorded, …
    #[arg(long, value_name = "KIND")]
    event: Option<String>,
    /// Not before this moment (2026-11-25T20:00:00Z, or seconds since 1970)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this moment
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// `verify`: 0 for a trail that is proven from its beginning, but for what a process that runs or was killed has not sealed;
/// 1 for one that is broken or not proven; 2 when it cannot be read. `show`: 0 or 2.
pub(super) fn run(arguments: &AuditArguments) -> ExitCode {
    let outcome = match &arguments.command {
        AuditCommand::Verify(arguments) => verify(arguments),
        AuditCommand::Show(arguments) => show(arguments).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND_WRONG),
        Err(why) => {
            complain(why);
            ExitCode::from(CANNOT)
        }
    }
}

fn verify(arguments: &TrailArguments) -> Result<bool, String> {
    let keys = keys(arguments)?;
    let expected = arguments.expect_last.as_deref().map(|text| {
        Link::parse(text).ok_or_else(|| format!("--expect-last '{text}': write it as `verify` prints it, SEQ:HASH"))
    });
    let expected = expected.transpose()?;
    let before = arguments.after.as_deref().map(Before::parse).transpose()?;
    let mut examiner = Examiner::behind(&keys, before.and_then(|before| before.link));
    let mut places = Places::default();
    for file in in_order(&arguments.files)? {
        let mut number = 0_u64;
        let flaw = each_line(&file, |text, whole| {
            number += 1;
            let flaw = match whole {
                true => examiner.line(text).err(),
                false if text.len() as u64 == LINE_LIMIT => Some(Flaw::Form),
                false => Some(Flaw::Torn),
            };
            if number == 1
                && let Some(summary) = examiner.summary()
            {
                places.files.push((summary.last.seq, file.display().to_string()));
            }
            flaw
        })?;
        if let Some(flaw) = flaw {
            tell(&examiner, &keys, &places);
            line(format!("broken: {}:{number}: {flaw}", file.display()));
            return Ok(false);
        }
    }
    let Some(summary) = examiner.summary() else { return Err("there is no record in it".to_owned()) };
    tell(&examiner, &keys, &places);
    Ok(conclude(&examiner, &summary, keys.is_empty(), expected) && begins_as_told(&summary, before))
}

/// Where records stand: the number of the first one of each file, and the file.
#[derive(Default)]
struct Places {
    files: Vec<(u64, String)>,
}

impl Places {
    /// These records, and where they stand.
    fn of(&self, first: u64, last: u64) -> String {
        let (start, end) = (self.place(first), self.place(last));
        if first == last {
            format!("record {first} ({start})")
        } else {
            format!("records {first} to {last} ({start} to {end})")
        }
    }

    fn place(&self, seq: u64) -> String {
        let file = self.files.iter().rev().find(|(first, _)| *first <= seq);
        file.map_or_else(String::new, |(first, name)| format!("{name}:{}", seq - first + 1))
    }
}

/// What has been proven, and what has not, by the numbers of the records and the lines in which they stand.
fn tell(examiner: &Examiner<'_>, keys: &[SealKey], places: &Places) {
    let Some(Summary { first, last, seals, unknown_seals, sealed, .. }) = examiner.summary() else {
        return line("nothing before it has been proven");
    };
    if first > 1 {
        line(format!("begins with record {first}: what was before is not in these files"));
    }
    if keys.is_empty() {
        line(format!("{unknown_seals} seals, not checked: give their keys with --key-file and --key-id"));
        return line(format!("not proven: {}: they hang together, and that is all", places.of(first, last.seq)));
    }
    let others = if unknown_seals > 0 { format!("; {unknown_seals} under other keys") } else { String::new() };
    match sealed {
        None => line(format!("no seal under the given keys in {} records{others}", last.seq - first + 1)),
        Some(sealed) => {
            line(format!("{seals} seals hold, the last is record {sealed}{others}"));
            let mut from = first;
            for Unproven { first, last, .. } in examiner.unproven() {
                if from < *first {
                    line(format!("proven: {}", places.of(from, first - 1)));
                }
                from = last + 1;
            }
            if from <= sealed {
                line(format!("proven: {}", places.of(from, sealed)));
            }
        }
    }
    for unproven in examiner.unproven() {
        let after = "the process that came next found them so; a process that is killed leaves them";
        tell_unproven(unproven, "not proven", after, places);
    }
    for seq in examiner.abrupt() {
        let place = places.of(*seq, *seq);
        line(format!("{place}: the process before it did not stop in order: what it did last may be missing here"));
    }
    if let Some(tail) = examiner.tail() {
        tell_unproven(&tail, "not proven yet", "the next seal is not due yet, or the process was killed", places);
    }
}

fn tell_unproven(unproven: &Unproven, ordinary: &str, explanation: &str, places: &Places) {
    let Unproven { first, last, from, to, doubt } = unproven;
    let records = places.of(*first, *last);
    if doubt.is_ordinary() {
        line(format!("{ordinary}: {records}, {from} to {to}: {doubt}; {explanation}"));
    } else {
        line(format!("not proven: {records}, {from} to {to}: {doubt}"));
    }
}

/// Whether what is there is as it was written. Where it is not, the last line says so.
fn conclude(examiner: &Examiner<'_>, summary: &Summary, keyless: bool, expected: Option<Link>) -> bool {
    let Summary { records, last, .. } = *summary;
    if let Some(expected) = expected.filter(|expected| *expected != last) {
        line(format!("broken: the last record is {last}, not {expected}: records are missing at the end, or follow"));
        return false;
    }
    // The last record stands for all before it: what was known elsewhere needs no seal.
    let known = expected.is_some();
    let doubtful = examiner.unproven().iter().any(|it| !it.doubt.is_ordinary())
        || (!known && (keyless || examiner.tail().is_some_and(|tail| !tail.doubt.is_ordinary())));
    if doubtful {
        line(format!(
            "not proven: {records} records, of which the ones named above may have been changed or removed; the last is {last}"
        ));
        return false;
    }
    true
}

/// Whether the first record is the first one of the trail, or the one that follows what the operator knows of: otherwise
/// records could be missing at the beginning. The last line says so.
fn begins_as_told(summary: &Summary, before: Option<Before>) -> bool {
    let Summary { first, records, last, .. } = *summary;
    let expected = before.map_or(0, |before| before.seq).saturating_add(1);
    match (first == expected, before) {
        (true, _) => line(format!("whole: {records} records; the last is {last}")),
        (false, None) => line(format!(
            "not proven from its beginning: records 1 to {} are not in these files; if they are kept elsewhere, or were \
             deleted on purpose, say --after {}; the last is {last}",
            first - 1,
            first - 1
        )),
        (false, Some(Before { seq, .. })) => line(format!(
            "not proven from its beginning: the first record is {first}, which does not follow record {seq}; the last is {last}"
        )),
    }
    first == expected
}

fn keys(arguments: &TrailArguments) -> Result<Vec<SealKey>, String> {
    if arguments.key_files.len() != arguments.key_ids.len() {
        return Err("give a --key-id with each --key-file".to_owned());
    }
    let pairs = arguments.key_files.iter().zip(&arguments.key_ids);
    pairs.map(|(file, id)| Ok(SealKey::new(id, &read_secret(file)?))).collect()
}

/// The files in the order of their records; those without any come first.
fn in_order(files: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut numbered = Vec::new();
    for file in files {
        let first = each_line(file, |text, _| Some(ChainLine::parse(text).map_or(0, |line| line.link.seq)))?;
        numbered.push((first.unwrap_or(0), file.clone()));
    }
    numbered.sort_by_key(|(first, _)| *first);
    Ok(numbered.into_iter().map(|(_, file)| file).collect())
}

/// No record is nearly as long as this; what is goes on as another line.
const LINE_LIMIT: u64 = 1 << 20;

/// Shows each line to `look`, without its line break and whether it has one, until that gives something.
fn each_line<T>(path: &Path, mut look: impl FnMut(&[u8], bool) -> Option<T>) -> Result<Option<T>, String> {
    let cannot = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut reader = BufReader::new(File::open(path).map_err(cannot)?);
    let mut text = Vec::new();
    loop {
        text.clear();
        if reader.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut text).map_err(cannot)? == 0 {
            return Ok(None);
        }
        let whole = text.last() == Some(&b'\n');
        let bare = text.strip_suffix(b"\n").unwrap_or(&text);
        if let Some(found) = look(bare, whole) {
            return Ok(Some(found));
        }
    }
}

fn show(arguments: &ShowArguments) -> Result<(), String> {
    let moment = |text: &Option<String>| text.as_deref().map(moment).transpose();
    let (since, until) = (moment(&arguments.since)?, moment(&arguments.until)?);
    let wanted = [("route", &arguments.route), ("reason", &arguments.reason), ("event", &arguments.event)];
    for file in in_order(&arguments.files)? {
        each_line(&file, |text, _| {
            let record: Value = serde_json::from_slice(text).ok()?;
            let has = |name: &str, wanted: &Option<String>| {
                wanted.as_ref().is_none_or(|wanted| record.get(name).and_then(Value::as_str) == Some(wanted))
            };
            let time = record.get("time").and_then(Value::as_str).unwrap_or_default();
            let in_time =
                since.as_deref().is_none_or(|since| time >= since) && until.as_deref().is_none_or(|until| time < until);
            if in_time && wanted.iter().all(|(name, wanted)| has(name, wanted)) {
                line(json_plain(&String::from_utf8_lossy(text)));
            }
            None::<()>
        })?;
    }
    Ok(())
}

/// JSON that means the same and has nothing in it that a terminal would obey.
fn json_plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut units = [0; 2];
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unseen(character) {
            character.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// A moment as records have it, so that it can be compared as text.
fn moment(text: &str) -> Result<String, String> {
    let seconds = text.parse::<u64>().ok();
    let parsed = || OffsetDateTime::parse(text, &Rfc3339).ok().map(|it| it.unix_timestamp_nanos() / 1_000_000);
    let unix = seconds.map(Duration::from_secs);
    let unix = unix.or_else(|| parsed().and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis));
    let unix = unix.ok_or_else(|| format!("'{text}' is no moment: write it like 2026-11-25T20:00:00Z"))?;
    let mut out = Vec::new();
    TimeText::default().write(&mut out, unix);
    Ok(String::from_utf8_lossy(&out).into_owned())
}
