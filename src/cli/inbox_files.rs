//! `countersign inbox verify` and `salvage`: the files of an inbox that no process has.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::shown::plain_line;
use crate::control::inbox::examining::{self, FileVerdict};
use crate::control::inbox::salvaging;

use super::configured::ConfigFlag;
use super::inbox_access::{KeyArguments, directory, shelf};
use super::offline;
use super::output::{OutputFlag, complain, line};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyInboxArguments {
    /// The directory
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    keys: KeyArguments,
    /// The same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Debug, clap::Args)]
pub(super) struct SalvageArguments {
    /// The damaged file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The directory that gets the dead letters; that of the file where nothing is said
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Say what is found, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    keys: KeyArguments,
}

/// 1 where something is not as it was written.
pub(super) fn verify(arguments: &VerifyInboxArguments) -> Result<bool, String> {
    let disk = directory(&arguments.directory, false)?;
    let found = examining::verify(&*disk, &arguments.keys.read(&arguments.config)?);
    let found = found.map_err(|error| format!("{}: {error}", arguments.directory.display()))?;
    let whole = found.iter().all(FileVerdict::is_whole);
    if arguments.json || arguments.output.is_json() {
        let files: Vec<Value> = found.iter().map(described).collect();
        line(json!({ "ok": whole, "files": files }).to_string());
        return Ok(whole);
    }
    for it in &found {
        let FileVerdict { name, deliveries, expected, .. } = it;
        let key = it.key.as_ref().map(|id| format!(", encrypted with the key \"{id}\"")).unwrap_or_default();
        let whole = if it.is_whole() { ", as they were written" } else { "" };
        // Names, keys and problems are what the directory says: each stays on its line.
        line(plain_line(&format!("{name}: {deliveries} deliveries{whole}{key}")));
        if deliveries != expected && it.trouble.is_none() {
            line(format!("  it should have {expected}"));
        }
        it.damaged.iter().for_each(|id| line(format!("  {id} is damaged")));
        it.trouble.iter().for_each(|why| line(plain_line(&format!("  {why}"))));
        if it.set_aside {
            line("  it was set aside: `countersign inbox salvage` finds what can be read of it");
        }
    }
    Ok(whole)
}

fn described(verdict: &FileVerdict) -> Value {
    json!({
        "name": verdict.name,
        "ok": verdict.is_whole(),
        "key": verdict.key,
        "deliveries": verdict.deliveries,
        "expected": verdict.expected,
        "damaged": verdict.damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "trouble": verdict.trouble,
        "set_aside": verdict.set_aside,
    })
}

/// 1 where deliveries were found of which not everything could be read.
pub(super) fn salvage(arguments: &SalvageArguments) -> Result<bool, String> {
    let keys = arguments.keys.read(&arguments.config)?;
    let bytes = std::fs::read(&arguments.file).map_err(|error| format!("{}: {error}", arguments.file.display()))?;
    let found = salvaging::salvage(&bytes, &keys);
    found.partial.iter().for_each(|id| complain(format!("{id}: a part of it is missing or changed")));
    found.locked.iter().for_each(|id| {
        complain(format!(
            "{id}: it is encrypted, and its key is neither in the configuration (--config) nor given (--key)"
        ))
    });
    let all = found.partial.is_empty() && found.locked.is_empty();
    if arguments.dry_run {
        for (id, record) in &found.whole {
            line(plain_line(&format!("{id} {} bytes of {}", record.body().len(), record.route())));
        }
        line(format!("{} deliveries can be salvaged", found.whole.len()));
        return Ok(all);
    }
    let own = || arguments.file.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    let into = arguments.directory.clone().unwrap_or_else(own);
    let mut shelf = shelf(&into, keys, true)?;
    let end =
        shelf.bury_salvaged(&found.whole, offline::time(None)).map_err(|why| format!("{}: {why}", into.display()))?;
    line(format!(
        "{} dead letters with the reason salvaged; {} were there anyway. They may have been delivered long ago: look before you redrive",
        end.buried.len(),
        end.known.len()
    ));
    Ok(all)
}

/// Writes a file that only this user may read, in the place of what has its name. A name that is known beforehand may be a
/// link that an attacker has put there: it is not followed.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let unfinished = path.with_extension("new");
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(say(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
    file.and_then(|mut file| file.write_all(bytes)).map_err(say)?;
    std::fs::rename(&unfinished, path).map_err(say)
}

/// Writes a file that only this user may read.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| format!("{}: {error}", path.display()))
}
