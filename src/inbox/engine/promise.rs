//! What the engine keeps of what it has acknowledged, and whether that is what the configuration promises.

use core::fmt;

/// What an acknowledged delivery survives, as the configuration promises it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process that stores it, and the loss of power.
    #[default]
    Fsync,
    /// The end of the process that stores it, and not that of its machine.
    Os,
    /// Nothing: it is in the memory of the engine alone.
    Memory,
}

/// What the engine says of its persistence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persistence {
    /// `appendonly`; nothing where it may not be asked for.
    pub appendonly: Option<bool>,
    /// `appendfsync`.
    pub appendfsync: Option<String>,
    /// Points at which everything is saved (`save`).
    pub save: Option<String>,
    /// Replicas that follow it.
    pub followers: u64,
}

/// Why a 202 would promise more than the engine keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenPromise(pub String);

impl fmt::Display for BrokenPromise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for BrokenPromise {}

impl Persistence {
    /// Reads the answer to `CONFIG GET`: names and values in turns.
    #[must_use]
    pub fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut found = Self::default();
        for (name, value) in pairs {
            match name {
                "appendonly" => found.appendonly = Some(value == "yes"),
                "appendfsync" => found.appendfsync = Some(value.to_owned()),
                "save" => found.save = Some(value.to_owned()),
                _ => {}
            }
        }
        found
    }

    /// Adds what `INFO` says. It may be asked for where `CONFIG GET` is denied, and knows less.
    #[must_use]
    pub fn with_info(mut self, info: &str) -> Self {
        let of = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        self.followers = of("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0);
        self.appendonly = self.appendonly.or_else(|| of("aof_enabled").map(|value| value == "1"));
        self
    }

    /// What the engine keeps; nothing where it does not say.
    #[must_use]
    pub fn keeps(&self) -> Option<Durability> {
        match (self.appendonly?, self.appendfsync.as_deref()) {
            (false, _) => Some(Durability::Memory),
            (true, Some("always")) => Some(Durability::Fsync),
            (true, Some(_)) => Some(Durability::Os),
            (true, None) => None,
        }
    }

    /// What a 202 means with this engine, for people. `trusted`: the configuration vouches for what the engine does not say.
    ///
    /// # Errors
    /// The engine keeps less than `promised`, or does not say and is not trusted.
    pub fn judge(&self, promised: Durability, trusted: bool) -> Result<String, BrokenPromise> {
        let said = match (self.appendonly, self.appendfsync.as_deref()) {
            (Some(false), _) => "appendonly no".to_owned(),
            (Some(true), Some(fsync)) => format!("appendonly yes, appendfsync {fsync}"),
            (Some(true), None) => "appendonly yes; appendfsync may not be read".to_owned(),
            (None, _) => "its persistence may not be read".to_owned(),
        };
        let promise = promised.means();
        let holds = match (promised, self.keeps()) {
            (Durability::Memory, _) | (Durability::Os | Durability::Fsync, Some(Durability::Fsync)) => true,
            (Durability::Os, Some(Durability::Os)) => true,
            // Whatever `appendfsync` is: it writes to the kernel before it answers.
            (Durability::Os, None) if self.appendonly == Some(true) => true,
            (_, None) if trusted => {
                return Ok(format!("{promise}: so says trust_engine, and not the engine ({said}){}", self.followed()));
            }
            _ => false,
        };
        if holds {
            return Ok(format!("{promise} ({said}){}", self.followed()));
        }
        let fix = match (promised, self.keeps()) {
            (_, None) => "allow its user +config|get, or write trust_engine = true in [inbox]",
            (Durability::Fsync, Some(Durability::Os)) => {
                "set appendfsync always there, or write durability = \"os\" in [inbox]"
            }
            (Durability::Fsync, _) => {
                "set appendonly yes and appendfsync always there, or write durability = \"memory\" in [inbox]"
            }
            _ => "set appendonly yes there, or write durability = \"memory\" in [inbox]",
        };
        Err(BrokenPromise(format!("a 202 would promise more than the engine keeps ({said}): {fix}")))
    }

    fn followed(&self) -> String {
        match self.followers {
            0 => String::new(),
            1 => "; one replica follows it, and a failover can lose the last ones".to_owned(),
            count => format!("; {count} replicas follow it, and a failover can lose the last ones"),
        }
    }
}

impl Durability {
    /// What it means for a delivery that was acknowledged.
    #[must_use]
    pub const fn means(self) -> &'static str {
        match self {
            Self::Fsync => "it survives the end of every process and the loss of power",
            Self::Os => "it survives the end of every process, and not that of the machine of the engine",
            Self::Memory => "it is lost when the engine ends: durability = \"memory\"",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn engine(appendonly: &str, appendfsync: &str) -> Persistence {
        Persistence::of_pairs([("appendonly", appendonly), ("appendfsync", appendfsync), ("save", "")])
    }

    #[test]
    fn an_engine_that_keeps_less_than_is_promised_is_refused() {
        use Durability::{Fsync, Memory, Os};
        for (appendonly, appendfsync, keeps) in
            [("yes", "always", Fsync), ("yes", "everysec", Os), ("yes", "no", Os), ("no", "always", Memory)]
        {
            let engine = engine(appendonly, appendfsync);
            assert_eq!(engine.keeps(), Some(keeps));
            for promised in [Fsync, Os, Memory] {
                let holds = promised as u8 >= keeps as u8;
                for trusted in [false, true] {
                    assert_eq!(engine.judge(promised, trusted).is_ok(), holds, "{promised:?} {engine:?}");
                }
            }
        }
        let why = engine("no", "always").judge(Fsync, true).unwrap_err().to_string();
        assert!(why.contains("appendonly no") && why.contains("durability = \"memory\""), "{why}");
        let why = engine("yes", "everysec").judge(Fsync, false).unwrap_err().to_string();
        assert!(why.contains("appendfsync everysec") && why.contains("\"os\""), "{why}");
    }

    #[test]
    fn an_engine_that_may_not_be_asked_is_used_where_it_is_trusted() {
        let info = "# Persistence\r\naof_enabled:1\r\n# Replication\r\nconnected_slaves:2\r\n";
        let engine = Persistence::default().with_info(info);
        assert_eq!((engine.appendonly, engine.keeps()), (Some(true), None));
        assert!(engine.judge(Durability::Fsync, false).unwrap_err().to_string().contains("+config|get"));
        let means = engine.judge(Durability::Fsync, true).unwrap();
        assert!(means.contains("trust_engine") && means.contains("2 replicas"), "{means}");
        assert!(engine.judge(Durability::Os, false).is_ok());
        let unknown = Persistence::default();
        assert!(unknown.judge(Durability::Os, false).is_err());
        assert!(unknown.judge(Durability::Memory, false).is_ok());
        let in_memory = Persistence::default().with_info("aof_enabled:0\r\n");
        assert!(in_memory.judge(Durability::Fsync, true).is_err(), "it says that it keeps nothing");
    }
}
