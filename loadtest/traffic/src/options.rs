//! The command line: `--name value` pairs, each known, each once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// What was given.
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Reads the pairs.
    ///
    /// # Errors
    /// Something that is not a pair.
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut given = BTreeMap::new();
        while let Some(name) = words.next() {
            let name = name.strip_prefix("--").ok_or_else(|| format!("not an option: {name}"))?.to_owned();
            let value = words.next().ok_or_else(|| format!("--{name} needs a value"))?;
            if given.insert(name.clone(), value).is_some() {
                return Err(format!("--{name} was given twice"));
            }
        }
        Ok(Self(given))
    }

    /// Takes an option that may be missing.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn maybe<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("--{name} cannot be {text}"))
    }

    /// Takes an option.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn or<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        Ok(self.maybe(name)?.unwrap_or(default))
    }

    /// Takes an option that must be there.
    ///
    /// # Errors
    /// It is missing, or cannot be read.
    pub fn must<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        self.maybe(name)?.ok_or_else(|| format!("--{name} is missing"))
    }

    /// Takes a time in seconds, at most an hour.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn seconds(&mut self, name: &str, default: f64) -> Result<Duration, String> {
        let seconds = self.or(name, default)?;
        if !(0.0..=3600.0).contains(&seconds) {
            return Err(format!("--{name} is 0 to 3600 seconds"));
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    /// Takes the address of what is to be tested. Only loopback, unless its owner says so.
    ///
    /// # Errors
    /// It is missing, or not ours.
    pub fn target(&mut self, name: &str) -> Result<SocketAddr, String> {
        let target: SocketAddr = self.must(name)?;
        let owned = self.or("i-own-this-deployment", false)?;
        self.0.insert("i-own-this-deployment".to_owned(), owned.to_string());
        if !target.ip().is_loopback() && !owned {
            return Err(format!("{target} is not on loopback: say --i-own-this-deployment true if it is yours"));
        }
        Ok(target)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// An unknown option.
    pub fn finish(mut self) -> Result<(), String> {
        self.0.remove("i-own-this-deployment");
        self.0.pop_first().map_or(Ok(()), |(name, _)| Err(format!("unknown option --{name}")))
    }
}
