//! `[admin.ready]`: the applications that `/ready` asks for, and when it believes what it has seen of them.

use core::num::NonZeroU32;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::config::address::parse_upstream;
use crate::config::reader::Reader;
use crate::config::units::show_duration;
use crate::gate::upstream::UpstreamAddress;

/// More often than this is no hysteresis, and less often no readiness.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// Looks in a row.
const LOOKS: RangeInclusive<u64> = 1..=100;

/// Which applications `/ready` asks for, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// These; nothing for all that routes forward to.
    pub upstreams: Option<Vec<UpstreamAddress>>,
    /// So many looks in a row that find an application out of reach, and `/ready` says no.
    pub failures: NonZeroU32,
    /// So many that find it there, and it says yes again.
    pub successes: NonZeroU32,
    /// From one look to the next.
    pub interval: Duration,
}

impl Readiness {
    /// Whether it asks for this application.
    #[must_use]
    pub fn asks_for(&self, upstream: &UpstreamAddress) -> bool {
        self.upstreams.as_ref().is_none_or(|listed| listed.contains(upstream))
    }
}

const FAILURES: NonZeroU32 = NonZeroU32::new(3).unwrap();
const SUCCESSES: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// The table; nothing where there is none, or no application could be read. `known` is what routes forward to; nothing
/// where not all of them could be read.
pub(super) fn read(admin: &Reader<'_>, known: Option<&[UpstreamAddress]>) -> Option<Readiness> {
    let reader = admin.table("ready")?;
    reader.require("upstreams", "write upstreams = \"all\", or name some: [\"127.0.0.1:9000\"]");
    let upstreams = upstreams(&reader, known);
    let looks = |key| reader.integer(key, LOOKS).and_then(|count| NonZeroU32::new(u32::try_from(count).ok()?));
    let (failures, successes) = (looks("failures"), looks("successes"));
    let interval = reader.duration("interval", INTERVAL);
    if reader.failed() {
        admin.mark_failed();
    }
    reader.finish();
    Some(Readiness {
        upstreams: upstreams?,
        failures: failures.unwrap_or(FAILURES),
        successes: successes.unwrap_or(SUCCESSES),
        interval: interval.unwrap_or(Duration::from_secs(2)),
    })
}

/// Those that are named; `Some(None)` for all of them, nothing where none could be read.
fn upstreams(reader: &Reader<'_>, known: Option<&[UpstreamAddress]>) -> Option<Option<Vec<UpstreamAddress>>> {
    const KEY: &str = "upstreams";
    let written = reader.one_or_more(KEY)?;
    if written == ["all"] {
        return Some(None);
    }
    if written.is_empty() {
        reader.error(KEY, "names no application", "write \"all\", name some, or remove [admin.ready]");
    }
    let mut listed = Vec::new();
    for text in written {
        match parse_upstream(text) {
            Err(_) if text == "all" => reader.error(KEY, "has \"all\" among others", "write upstreams = \"all\""),
            Err(wrong) => reader.error(KEY, wrong.message, wrong.fix),
            Ok(address) if listed.contains(&address) => {
                reader.error(KEY, format!("{address} is given twice"), "remove one of the two");
            }
            Ok(address) => {
                check_use(reader, &address, known);
                listed.push(address);
            }
        }
    }
    (!listed.is_empty()).then_some(Some(listed))
}

/// Another address than that of the routes is a mistake that would be noticed when no traffic comes.
fn check_use(reader: &Reader<'_>, address: &UpstreamAddress, known: Option<&[UpstreamAddress]>) {
    let Some(known) = known.filter(|known| !known.contains(address)) else { return };
    let known: Vec<String> = known.iter().take(5).map(|known| format!("\"{known}\"")).collect();
    let message = format!("no route forwards to {address}");
    reader.error("upstreams", message, format!("choose among {}, or write \"all\"", known.join(", ")));
}

/// For `check`.
pub(super) fn described(readiness: &Readiness) -> String {
    let Readiness { upstreams, failures, successes, interval } = readiness;
    let which = match upstreams {
        None => "every upstream".to_owned(),
        Some(listed) => listed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let interval = show_duration(*interval);
    format!(
        "/ready asks for {which}: no after {failures} bad looks in a row, yes after {successes} good, every {interval}"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::settings::parse_str;

    const FRAME: &str = "[[listener]]\naddress = '127.0.0.1:8080'\n[upstream]\naddress = 'app:1'\n\
                         [[route]]\nname = 'a'\npath = '/a'\nscheme = 'none'\n\
                         [[route]]\nname = 'b'\npath = '/b'\nscheme = 'none'\nupstream = 'unix:/b.sock'\n";

    fn readiness(lines: &str) -> Result<Option<Readiness>, String> {
        let text = format!("{FRAME}[admin]\naddress = '127.0.0.1:9'\n{lines}\n");
        let parsed = parse_str("test.toml", &text).map_err(|problems| problems.to_string())?;
        Ok(parsed.0.admin.unwrap().ready)
    }

    #[test]
    fn nothing_is_asked_for_unless_it_is_written() {
        assert_eq!(readiness("").unwrap(), None);
        let all = readiness("ready = { upstreams = 'all' }").unwrap().unwrap();
        assert_eq!(all.upstreams, None);
        assert_eq!((all.failures.get(), all.successes.get(), all.interval), (3, 2, Duration::from_secs(2)));
        assert!(all.asks_for(&parse_upstream("app:1").unwrap()));
        let line = "/ready asks for every upstream: no after 3 bad looks in a row, yes after 2 good, every 2s";
        assert_eq!(described(&all), line);
        let text = format!("{FRAME}[admin]\naddress = '127.0.0.1:9'\nready.upstreams = 'all'\n");
        let (settings, _) = parse_str("test.toml", &text).unwrap();
        assert!(crate::config::summary::summary(&settings, crate::now::Now::at_unix(Duration::ZERO)).contains(line));
        let one = "[admin.ready]\nupstreams = 'unix:/b.sock'\nfailures = 1\nsuccesses = 100\ninterval = '100ms'";
        let one = readiness(one).unwrap().unwrap();
        assert!(one.asks_for(&parse_upstream("unix:/b.sock").unwrap()));
        assert!(!one.asks_for(&parse_upstream("app:1").unwrap()));
        assert_eq!((one.failures.get(), one.successes.get(), one.interval), (1, 100, Duration::from_millis(100)));
        assert!(described(&one).contains("asks for unix:/b.sock: no after 1 bad"));
        let mistaken = "ready = { upstreams = 'unix:/c.sock' }\n[[route]]\nname = 'c'\npath = 'c'\nscheme = 'none'";
        let problems = readiness(&format!("{mistaken}\nupstream = 'unix:/c.sock'")).unwrap_err();
        assert!(!problems.contains("no route forwards"), "the mistake is in the route alone: {problems}");
        let both = readiness("ready = { upstreams = ['app:1', 'unix:/b.sock'] }").unwrap().unwrap();
        assert_eq!(both.upstreams.unwrap().len(), 2);
    }
}
