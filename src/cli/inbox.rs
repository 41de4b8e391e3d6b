//! `countersign inbox`: the deliveries that are stored. A running process is asked over its admin port; where none runs,
//! its directory is read (`--directory`).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::units::parse_duration;
use crate::inbox::delivery::DeliveryId;
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::operation::{DeliveryPage, InboxOperation, reason, state};

use super::inbox_access::{AccessArguments, InboxAccess};
use super::inbox_files::{SalvageArguments, VerifyInboxArguments, salvage, verify};
use super::offline;
use super::output::{complain, line};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct InboxArguments {
    #[command(subcommand)]
    command: InboxCommand,
}

#[derive(Debug, clap::Subcommand)]
enum InboxCommand {
    /// How many deliveries there are, and how much room
    Stats(StatsArguments),
    /// List deliveries
    List(ListArguments),
    /// Show one delivery, or write its body or the whole message to a file
    Show(ShowDeliveryArguments),
    /// Attempt dead letters again, from attempt 1
    Redrive(RedriveArguments),
    /// Remove deliveries for good
    Purge(PurgeArguments),
    /// Attempt nothing of a route until it is released
    Hold(RouteArguments),
    /// Attempt the deliveries of a route again
    Release(RouteArguments),
    /// Examine every file of the directory; no process may have it
    Verify(VerifyInboxArguments),
    /// Find the deliveries in a damaged file, and make dead letters of them; no process may have the directory
    Salvage(SalvageArguments),
    /// Write each delivery as one HTTP request into a folder
    Export(ExportArguments),
}

#[derive(Debug, clap::Args)]
struct StatsArguments {
    #[command(flatten)]
    access: AccessArguments,
}

/// Which deliveries.
#[derive(Debug, Default, clap::Args)]
struct FilterArguments {
    /// Of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// In this state: waiting, dead or damaged
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// For this reason, such as `refused_by_application`
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Accepted then or later (2026-11-25T20:00:00Z, or seconds since 1970)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Accepted before then
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Accepted longer ago than this (90s, 1h)
    #[arg(long, value_name = "DURATION", conflicts_with = "before")]
    older: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Debug, clap::Args)]
struct ShowDeliveryArguments {
    /// The delivery
    id: String,
    /// Write its body to this file
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Write the whole request to this file, as `countersign verify` and `explain` read it
    #[arg(long, value_name = "FILE")]
    message: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Debug, clap::Args)]
struct RedriveArguments {
    /// These deliveries
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// All dead letters
    #[arg(long)]
    all: bool,
    /// At most so many a second. The application gets no more at a time than the route's `concurrency` allows, whatever this is
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Say which, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Debug, clap::Args)]
struct PurgeArguments {
    /// These deliveries
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// All dead letters
    #[arg(long)]
    all: bool,
    /// Remove them. Without this it is only said which
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Debug, clap::Args)]
struct RouteArguments {
    /// The route
    #[arg(value_name = "ROUTE", required_unless_present = "route")]
    name: Option<String>,
    /// The same
    #[arg(long, value_name = "ROUTE", conflicts_with = "name")]
    route: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Debug, clap::Args)]
struct ExportArguments {
    /// The folder; it is made where there is none
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    filter: FilterArguments,
    #[command(flatten)]
    access: AccessArguments,
}

/// 0 when it was done, 1 when something was found wrong or not found, 2 when it could not be done.
pub(super) fn run(arguments: &InboxArguments) -> ExitCode {
    let outcome = match &arguments.command {
        InboxCommand::Stats(arguments) => stats(arguments),
        InboxCommand::List(arguments) => list(arguments),
        InboxCommand::Show(arguments) => show(arguments),
        InboxCommand::Redrive(arguments) => redrive(arguments),
        InboxCommand::Purge(arguments) => purge(arguments),
        InboxCommand::Hold(arguments) => hold(arguments, true),
        InboxCommand::Release(arguments) => hold(arguments, false),
        InboxCommand::Verify(arguments) => verify(arguments),
        InboxCommand::Salvage(arguments) => salvage(arguments),
        InboxCommand::Export(arguments) => export(arguments),
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

/// A moment in milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    let seconds = text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000));
    let written = || OffsetDateTime::parse(text, &Rfc3339).ok().map(|it| it.unix_timestamp_nanos() / 1_000_000);
    let millis = seconds.or_else(|| written().and_then(|millis| u64::try_from(millis).ok()));
    millis.ok_or_else(|| format!("'{text}' is no moment: write 2026-11-25T20:00:00Z, or seconds since 1970"))
}

impl FilterArguments {
    fn is_empty(&self) -> bool {
        let Self { route, state, reason, since, before, older } = self;
        [route, state, reason, since, before, older].iter().all(|it| it.is_none())
    }

    fn filter(&self, ids: &[String]) -> Result<DeliveryFilter, String> {
        let ids = ids.iter().map(|id| id.parse::<DeliveryId>().map_err(|why| format!("{id}: {why}")));
        let mut before = self.before.as_deref().map(moment).transpose()?;
        if let Some(text) = &self.older {
            let age =
                parse_duration(text).map_err(|_| format!("--older '{text}': write a duration, such as 90s or 1h"))?;
            let then = offline::time(None).unix.saturating_sub(age);
            before = Some(u64::try_from(then.as_millis()).unwrap_or(0));
        }
        Ok(DeliveryFilter {
            ids: ids.collect::<Result<_, _>>()?,
            route: self.route.clone(),
            state: self.state.as_deref().map(state).transpose()?,
            reason: self.reason.as_deref().map(reason).transpose()?,
            since: self.since.as_deref().map(moment).transpose()?,
            before,
        })
    }
}

/// A page is asked for with at most so many ids: they stand in the target of the request.
const IDS_AT_A_TIME: usize = 40;

/// Deliveries of one page.
const PAGE: usize = 250;

fn stats(arguments: &StatsArguments) -> Result<bool, String> {
    let mut inbox = InboxAccess::open(&arguments.access, false)?;
    let page = DeliveryPage { room: Some(0), ..DeliveryPage::default() };
    let report = inbox.carry_out(&InboxOperation::List(page))?;
    if arguments.access.is_json() {
        line(serde_json::json!({ "standing": report["standing"], "held_routes": report["held_routes"] }).to_string());
        return Ok(true);
    }
    for (name, value) in report["standing"].as_object().into_iter().flatten() {
        line(format!("{name:18} {}", plain(value)));
    }
    line(format!("{:18} {}", "held_routes", plain(&report["held_routes"])));
    Ok(true)
}

fn list(arguments: &ListArguments) -> Result<bool, String> {
    let mut inbox = InboxAccess::open(&arguments.access, false)?;
    let filter = arguments.filter.filter(&[])?;
    let mut found = Vec::new();
    let mut more = each_page(&filter, |page| {
        let room = page.room.unwrap_or(PAGE).min(arguments.limit - found.len());
        let report = inbox.carry_out(&InboxOperation::List(DeliveryPage { room: Some(room), ..page }))?;
        found.extend(deliveries(&report).cloned());
        Ok((report, found.len() < arguments.limit))
    })?;
    more &= found.len() >= arguments.limit;
    if arguments.access.is_json() {
        line(serde_json::json!({ "deliveries": found, "more": more }).to_string());
        return Ok(true);
    }
    if !found.is_empty() {
        line(format!(
            "{:13} {:8} {:22} {:20} {:>8} {:>6}  ROUTE",
            "ID", "STATE", "REASON", "ACCEPTED", "ATTEMPTS", "STATUS"
        ));
    }
    for it in &found {
        line(row(it));
    }
    if more {
        line(format!("… there are more: --limit {}", arguments.limit * 10));
    }
    Ok(true)
}

/// A delivery on one line.
fn row(delivery: &Value) -> String {
    let of = |name: &str| plain(delivery.get(name).unwrap_or(&Value::Null));
    let held = if delivery["held"] == true { " (held)" } else { "" };
    format!(
        "{:13} {:8} {:22} {:20} {:>8} {:>6}  {}{held}",
        of("id"),
        of("state"),
        of("reason"),
        of("accepted").split('.').next().unwrap_or_default(),
        of("attempts"),
        of("status"),
        of("route")
    )
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.escape_debug().to_string(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn deliveries(report: &Value) -> impl Iterator<Item = &Value> {
    report["deliveries"].as_array().into_iter().flatten()
}

/// Goes through everything that matches, page by page. `each` says what came of a page, and whether to go on. Gives
/// whether there is more.
fn each_page(
    filter: &DeliveryFilter,
    mut each: impl FnMut(DeliveryPage) -> Result<(Value, bool), String>,
) -> Result<bool, String> {
    let filters: Vec<DeliveryFilter> = if filter.ids.is_empty() {
        vec![filter.clone()]
    } else {
        filter.ids.chunks(IDS_AT_A_TIME).map(|ids| DeliveryFilter { ids: ids.to_vec(), ..filter.clone() }).collect()
    };
    for filter in filters {
        let mut after = None;
        loop {
            let (report, on) = each(DeliveryPage { filter: filter.clone(), after, room: Some(PAGE) })?;
            let more = report["more"] == true;
            let last = report["last"].as_str().and_then(|id| id.parse().ok());
            if !on {
                return Ok(more);
            }
            if !more || last.is_none() {
                break;
            }
            after = last;
        }
    }
    Ok(false)
}

fn show(arguments: &ShowDeliveryArguments) -> Result<bool, String> {
    let id = arguments.id.parse::<DeliveryId>().map_err(|why| format!("{}: {why}", arguments.id))?;
    let mut inbox = InboxAccess::open(&arguments.access, false)?;
    let Some(report) = inbox.show(id)? else {
        complain(format!("there is no delivery {id} (any more)"));
        return Ok(false);
    };
    for (path, whole) in [(&arguments.body, false), (&arguments.message, true)] {
        let Some(path) = path else { continue };
        let message = inbox.message(id)?;
        let begin = memchr::memmem::find(&message, b"\r\n\r\n").map_or(0, |end| end + 4);
        let bytes = if whole { &message[..] } else { message.get(begin..).unwrap_or_default() };
        super::inbox_files::write(path, bytes)?;
    }
    if arguments.access.is_json() {
        line(report.to_string());
    } else if arguments.body.is_none() && arguments.message.is_none() {
        for (name, value) in deliveries(&report).next().and_then(Value::as_object).into_iter().flatten() {
            line(format!("{name:12} {}", plain(value)));
        }
        let text = |name: &str| report[name].as_str().map(|text| text.replace('\r', ""));
        line(format!("\n{}", text("head").unwrap_or_else(|| "(it is damaged on disk)".to_owned())));
        line(text("body").unwrap_or_else(|| "(the body is long, or no text: --body FILE)".to_owned()));
    }
    Ok(true)
}

fn redrive(arguments: &RedriveArguments) -> Result<bool, String> {
    let filter = meant(&arguments.filter, &arguments.ids, arguments.all)?;
    let mut inbox = InboxAccess::open(&arguments.access, !arguments.dry_run)?;
    // Four slices a second.
    let slice = usize::try_from(arguments.rate.div_ceil(4)).unwrap_or(PAGE).min(PAGE);
    let pace = Duration::from_secs_f64(slice as f64 / f64::from(arguments.rate));
    let mut done = Vec::new();
    each_page(&filter, |page| {
        let page = DeliveryPage { room: Some(slice), ..page };
        let report = inbox.carry_out(&InboxOperation::Redrive(page, arguments.dry_run))?;
        done.extend(deliveries(&report).cloned());
        if !arguments.dry_run && report["more"] == true {
            std::thread::park_timeout(pace);
        }
        Ok((report, true))
    })?;
    let said = if arguments.dry_run { "would be attempted again" } else { "are attempted again" };
    told(&arguments.access, &done, said, arguments.ids.len())
}

fn purge(arguments: &PurgeArguments) -> Result<bool, String> {
    let mut filter = meant(&arguments.filter, &arguments.ids, arguments.all)?;
    if filter.ids.is_empty() && filter.state.is_none() {
        // Deliveries that wait are removed only where that is said.
        filter.state = state("dead").ok();
    }
    let mut inbox = InboxAccess::open(&arguments.access, arguments.yes)?;
    let mut done = Vec::new();
    each_page(&filter, |page| {
        let report = inbox.carry_out(&InboxOperation::Purge(page, !arguments.yes))?;
        done.extend(deliveries(&report).cloned());
        Ok((report, true))
    })?;
    let said = if arguments.yes { "are removed" } else { "would be removed: say --yes" };
    told(&arguments.access, &done, said, arguments.ids.len())
}

/// What is meant must be said.
fn meant(filter: &FilterArguments, ids: &[String], all: bool) -> Result<DeliveryFilter, String> {
    if ids.is_empty() && filter.is_empty() && !all {
        return Err("which deliveries? Name ids, a filter such as --route NAME, or --all".to_owned());
    }
    filter.filter(ids)
}

/// Says what was done. 1 where ids were named that it did not concern.
fn told(access: &AccessArguments, done: &[Value], said: &str, named: usize) -> Result<bool, String> {
    if access.is_json() {
        line(serde_json::json!({ "deliveries": done, "count": done.len() }).to_string());
    } else {
        done.iter().for_each(|it| line(row(it)));
        line(format!("{} deliveries {said}", done.len()));
    }
    if done.len() < named {
        complain(format!("{} of the {named} that were named are none of these", named - done.len()));
    }
    Ok(done.len() >= named)
}

fn hold(arguments: &RouteArguments, held: bool) -> Result<bool, String> {
    let route = arguments.name.clone().or_else(|| arguments.route.clone()).unwrap_or_default();
    let mut inbox = InboxAccess::open(&arguments.access, true)?;
    let report = inbox.carry_out(&InboxOperation::Hold(route.clone(), held))?;
    if arguments.access.is_json() {
        line(serde_json::json!({ "held_routes": report["held_routes"] }).to_string());
    } else {
        let said = if held { "is held: nothing of it is attempted" } else { "is released" };
        line(format!("route {route} {said}"));
    }
    Ok(true)
}

fn export(arguments: &ExportArguments) -> Result<bool, String> {
    let filter = arguments.filter.filter(&[])?;
    let mut inbox = InboxAccess::open(&arguments.access, false)?;
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (mut written, mut unread) = (0, Vec::new());
    each_page(&filter, |page| {
        let report = inbox.carry_out(&InboxOperation::List(page))?;
        for id in deliveries(&report).filter_map(|it| it["id"].as_str()?.parse::<DeliveryId>().ok()) {
            match inbox.message(id) {
                Ok(message) => {
                    super::inbox_files::replace(&folder.join(format!("{id}.http")), &message)?;
                    written += 1;
                }
                Err(why) => unread.push(format!("{id}: {why}")),
            }
        }
        Ok((report, true))
    })?;
    unread.iter().for_each(complain);
    line(format!("{written} deliveries are in {}", folder.display()));
    Ok(unread.is_empty())
}
