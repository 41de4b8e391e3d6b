//! Which servers are fit to hold claims: they are asked when a connection begins.

use core::net::{IpAddr, SocketAddr};

use super::trouble::EngineTrouble;
use crate::wire::resp::{self, RespValue};

/// What is asked, in this order.
pub const SECTIONS: [&str; 3] = ["server", "memory", "replication"];

/// A server that is fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitServer {
    /// Its name and version, for people.
    pub name: String,
}

/// The oldest versions that have all that is needed (and are still looked after).
const OLDEST_REDIS: (u32, u32) = (7, 0);
const OLDEST_VALKEY: (u32, u32) = (7, 2);

/// What the server should be a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMode {
    /// Nothing: one primary, perhaps with replicas.
    Standalone,
    /// A cluster.
    Cluster,
}

impl ServerMode {
    /// As a server says it.
    const fn word(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Cluster => "cluster",
        }
    }
}

/// Judges a server by what it says of itself: the sections of `INFO`, one after the other.
///
/// # Errors
/// Why it cannot hold claims.
pub fn judge(info: &str, mode: ServerMode) -> Result<FitServer, EngineTrouble> {
    let of = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let (name, version, oldest) = match (of("valkey_version"), of("redis_version")) {
        (Some(version), _) => ("valkey", version, OLDEST_VALKEY),
        (None, Some(version)) => ("redis", version, OLDEST_REDIS),
        (None, None) => return Err(EngineTrouble::Malformed),
    };
    if numbers(version).ok_or(EngineTrouble::Malformed)? < oldest {
        return Err(EngineTrouble::TooOld);
    }
    if of(&format!("{name}_mode")).or_else(|| of("server_mode")).or_else(|| of("redis_mode")) != Some(mode.word()) {
        return Err(EngineTrouble::Cluster);
    }
    if of("role") != Some("master") {
        return Err(EngineTrouble::IsReplica);
    }
    if of("maxmemory_policy") != Some("noeviction") {
        return Err(EngineTrouble::Evicts);
    }
    Ok(FitServer { name: format!("{name} {}", shown(version)) })
}

/// Where the master is, of which a sentinel was asked; nothing where it does not know.
///
/// # Errors
/// The sentinel does not answer that.
pub fn master(reply: &[u8]) -> Result<Option<SocketAddr>, EngineTrouble> {
    let mut values = resp::values(reply);
    match (values.next(), values.next(), values.next()) {
        (Some(RespValue::Null), ..) => Ok(None),
        (Some(RespValue::Failure(error)), ..) if error.starts_with(b"ERR") => Err(EngineTrouble::Malformed),
        (Some(RespValue::Failure(error)), ..) => Err(EngineTrouble::of_error(error)),
        (Some(RespValue::Values(2)), Some(RespValue::Text(host)), Some(RespValue::Text(port))) => {
            let text = |bytes| core::str::from_utf8(bytes).ok();
            let host = text(host).and_then(|host| host.parse::<IpAddr>().ok());
            let port = text(port).and_then(|port| port.parse::<u16>().ok());
            Ok(host.zip(port).map(SocketAddr::from))
        }
        _ => Err(EngineTrouble::Malformed),
    }
}

/// Major and minor number of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A version as it may stand in a log.
fn shown(version: &str) -> String {
    version.chars().filter(|it| it.is_ascii_alphanumeric() || *it == '.' || *it == '-').take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_names_a_master_or_none() {
        let address = Ok(Some(SocketAddr::from(([127, 0, 0, 1], 6379))));
        for (reply, expected) in [
            (&b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n"[..], address),
            (b"*2\r\n$5\r\nredis\r\n$4\r\n6379\r\n", Ok(None)),
            (b"*-1\r\n", Ok(None)),
            (b"_\r\n", Ok(None)),
            (b"-NOAUTH Authentication required.\r\n", Err(EngineTrouble::PasswordRefused)),
            (b"-ERR unknown command\r\n", Err(EngineTrouble::Malformed)),
            (b"+OK\r\n", Err(EngineTrouble::Malformed)),
        ] {
            assert_eq!(master(reply), expected, "{}", reply.escape_ascii());
        }
    }

    const FIT: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory:0\r\n\
                       maxmemory_policy:noeviction\r\n# Replication\r\nrole:master\r\n";

    #[test]
    fn a_server_is_fit_or_it_is_said_why_not() {
        let judge = |info: &str| judge(info, ServerMode::Standalone);
        assert_eq!(judge(FIT).map(|it| it.name), Ok("redis 7.0.15".to_owned()));
        let valkey = FIT.replace(
            "redis_version:7.0.15\r\nredis_mode:standalone",
            "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0\r\nserver_mode:standalone",
        );
        assert_eq!(judge(&valkey).map(|it| it.name), Ok("valkey 8.1.0".to_owned()));
        for (from, to, trouble) in [
            ("7.0.15", "6.2.7", EngineTrouble::TooOld),
            ("7.0.15", "x", EngineTrouble::Malformed),
            ("role:master", "role:slave", EngineTrouble::IsReplica),
            ("role:master", "", EngineTrouble::IsReplica),
            ("noeviction", "allkeys-lru", EngineTrouble::Evicts),
            ("noeviction", "volatile-ttl", EngineTrouble::Evicts),
            ("standalone", "cluster", EngineTrouble::Cluster),
            ("standalone", "sentinel", EngineTrouble::Cluster),
            ("redis_version", "other_version", EngineTrouble::Malformed),
        ] {
            assert_eq!(judge(&FIT.replace(from, to)), Err(trouble), "{from} {to}");
        }
        assert_eq!(judge(""), Err(EngineTrouble::Malformed));
        let of_cluster = |info: &str| super::judge(info, ServerMode::Cluster).map(|it| it.name);
        assert_eq!(of_cluster(FIT), Err(EngineTrouble::Cluster));
        assert_eq!(of_cluster(&FIT.replace("standalone", "cluster")), Ok("redis 7.0.15".to_owned()));
        assert_eq!(of_cluster(&valkey.replace("standalone", "cluster")), Ok("valkey 8.1.0".to_owned()));
    }
}
