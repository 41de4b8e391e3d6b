//! `[shared]`: the engine (Redis or Valkey) in which several processes share their claims.

use core::fmt::{self, Write};
use core::ops::RangeInclusive;
use core::time::Duration;
use std::path::Path;

use crate::config::digest::Digest;
use crate::config::lines::line;
use crate::config::reader::{Reader, set};
use crate::config::section::engine_address::{self, EngineAddress};
use crate::config::section::secret_file::{self, SecretFile};
use crate::config::section::shared_tls::{self, SharedTls};
use crate::config::units::{TIMEOUT, show_duration};
use crate::gate::replay::WhenUnavailable;

/// For how long an exchange may wait for the engine.
const RESPONSE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

/// What `when_unavailable` may say.
pub(super) const WHEN_UNAVAILABLE: [(&str, WhenUnavailable); 2] =
    [("refuse", WhenUnavailable::Refuse), ("local", WhenUnavailable::Local)];

/// `[shared]`: the engine in which several processes share their claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSettings {
    /// Where it is.
    pub address: EngineAddress,
    /// How the connection is encrypted; nothing for plain text.
    pub tls: Option<SharedTls>,
    /// The user, where it is not the default one.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretFile>,
    /// The key by which deliveries are named, the same for all processes.
    pub key: SecretFile,
    /// What the keys of the engine begin with.
    pub prefix: String,
    /// What becomes of new deliveries while the engine is away, where the route does not say.
    pub when_unavailable: WhenUnavailable,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a delivery waits for an answer.
    pub response_timeout: Duration,
}

impl SharedSettings {
    /// Makes the paths ones that do not depend on where the process was started.
    pub fn resolve(&mut self, directory: &Path) {
        let sentinels = match &mut self.address {
            EngineAddress::Sentinels { password, .. } => password.as_mut(),
            EngineAddress::Direct(_) | EngineAddress::Cluster { .. } => None,
        };
        for file in core::iter::once(&mut self.key).chain(&mut self.password).chain(sentinels) {
            file.path = directory.join(&file.path);
        }
        self.tls.iter_mut().for_each(|tls| tls.resolve(directory));
    }

    /// For comparison: a file with other bytes is another secret.
    pub(crate) fn secret_digests(&self) -> [Digest; 4] {
        let tls = self.tls.as_ref().and_then(|tls| tls.loaded.as_ref()).map(|loaded| loaded.digest);
        let password = self.password.as_ref().map(SecretFile::digest);
        let sentinels = match &self.address {
            EngineAddress::Sentinels { password, .. } => password.as_ref().map(SecretFile::digest),
            EngineAddress::Direct(_) | EngineAddress::Cluster { .. } => None,
        };
        [self.key.digest(), password.unwrap_or_default(), tls.unwrap_or_default(), sentinels.unwrap_or_default()]
    }
}

/// Reads `[shared]`.
pub(crate) fn read(root: &Reader<'_>) -> Option<SharedSettings> {
    let reader = root.table("shared")?;
    if !reader.has("sentinels") {
        reader.require("address", "add address = \"redis:6379\" or \"unix:/run/redis.sock\"");
    }
    reader.require(
        "key_file",
        "add key_file = \"secrets/shared\", made once for all: openssl rand -hex 32 > secrets/shared",
    );
    let (address, rediss) = engine_address::read(&reader).unzip();
    let tls = shared_tls::read(&reader, address.as_ref(), rediss.unwrap_or(false));
    let username = reader.string("username").map(str::to_owned);
    let (password, key) = (secret_file::read(&reader, "password_file"), secret_file::read(&reader, "key_file"));
    if username.is_some() && !reader.has("password_file") {
        reader.error("username", "has no password", "add password_file = \"secrets/redis\", or remove the user");
    }
    let prefix = reader.string("prefix").unwrap_or("cs1:").to_owned();
    if !(1..=32).contains(&prefix.len()) || !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b))
    {
        let fix = "use 1 to 32 letters, digits, \"-\", \"_\", \".\", \"/\" and \":\"";
        reader.error("prefix", "is no beginning for the names of keys", fix);
    }
    let when_unavailable = reader.choice("when_unavailable", &WHEN_UNAVAILABLE).unwrap_or_default();
    let (mut connect_timeout, mut response_timeout) = (Duration::from_secs(1), Duration::from_millis(50));
    set(&mut connect_timeout, reader.duration("connect_timeout", TIMEOUT));
    set(&mut response_timeout, reader.duration("response_timeout", RESPONSE));
    if reader.failed() {
        root.mark_failed();
    }
    reader.finish();
    Some(SharedSettings {
        address: address?,
        tls,
        username,
        password,
        key: key?,
        prefix,
        when_unavailable,
        connect_timeout,
        response_timeout,
    })
}

/// What of the routes is shared.
#[derive(Clone, Copy)]
pub(crate) struct SharingRoutes {
    /// Those that remember deliveries.
    pub(crate) remembering: usize,
    /// Those whose rate is that of all processes.
    pub(crate) rated: usize,
}

/// For `check`.
pub(crate) fn describe(out: &mut String, shared: Option<&SharedSettings>, routes: SharingRoutes) -> fmt::Result {
    writeln!(out, "\nreplicas")?;
    let Some(shared) = shared else {
        line(out, "replays", "per process: a copy that reaches another replica of this proxy is new there")?;
        return line(out, "", "[shared] lets replicas refuse each other's copies");
    };
    line(out, "replays", "shared: a delivery that one replica has is a copy for all that use the same engine and key")?;
    let user = shared.username.as_deref().map(|name| format!(", user {name}")).unwrap_or_default();
    line(out, "engine", format_args!("{}{user}, keys \"{}…\"", shared.address, shared.prefix))?;
    if let Some(tls) = &shared.tls {
        line(out, "", shared_tls::describe(tls))?;
    }
    if routes.remembering + routes.rated == 0 {
        line(out, "WARNING", "no route remembers deliveries or shares its rate: the engine is not asked")?;
    }
    let (connect, response) = (show_duration(shared.connect_timeout), show_duration(shared.response_timeout));
    line(out, "", format_args!("connect within {connect}; a delivery waits {response} for its answer"))?;
    line(out, "when away", when_away(shared.when_unavailable))?;
    match routes.rated {
        0 => line(out, "rates", "per process; `shared = true` in the rate of a route makes it one for all replicas"),
        1 => line(out, "rates", "shared on one route; all other limits are per process"),
        rated => line(out, "rates", format_args!("shared on {rated} routes; all other limits are per process")),
    }
}

/// What becomes of new deliveries while the engine is away.
pub(super) const fn when_away(when: WhenUnavailable) -> &'static str {
    match when {
        WhenUnavailable::Refuse => "new deliveries are refused (503); their senders try again",
        WhenUnavailable::Local => "each replica judges alone: a delivery can be accepted once by each of them",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::document::Document;
    use crate::gate::upstream::UpstreamAddress;

    fn read_text(text: &str) -> (Option<SharedSettings>, Vec<String>) {
        let document = Document::parse("test.toml", text).unwrap();
        let root = Reader::root(&document);
        let shared = read(&root);
        root.finish();
        let problems = document.into_problems();
        (shared, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_written_is_read_and_described() {
        let (shared, problems) = read_text(
            "[shared]\naddress = 'redis://engine:6380/'\nusername = 'countersign'\npassword_file = 'p'\nkey_file = 'k'\n\
             prefix = 'hooks:'\nwhen_unavailable = 'local'\nconnect_timeout = '2s'\nresponse_timeout = '20ms'\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        let mut shared = shared.unwrap();
        assert_eq!(
            shared.address,
            EngineAddress::Direct(UpstreamAddress::Tcp { host: "engine".to_owned(), port: 6380 })
        );
        shared.resolve(Path::new("/etc/countersign"));
        assert_eq!(shared.key.path, Path::new("/etc/countersign/k"));
        let mut text = String::new();
        let with = |remembering, rated| SharingRoutes { remembering, rated };
        describe(&mut text, Some(&shared), with(1, 2)).unwrap();
        describe(&mut text, Some(&shared), with(0, 0)).unwrap();
        describe(&mut text, None, with(1, 0)).unwrap();
        for part in [
            "shared on 2 routes",
            "user countersign",
            "hooks:",
            "once by each of them",
            "waits 20ms",
            "WARNING",
            "per process: a copy",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let (shared, problems) = read_text(
            "[shared]\naddress = 'rediss://engine:6380'\nkey_file = 'k'\n\
             tls = { ca = 'c', certificate = 'o', key = 'p', server_name = 'redis.internal' }\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        text.clear();
        describe(&mut text, shared.as_ref(), with(1, 0)).unwrap();
        assert!(text.contains("for redis.internal and of an authority of c, with a certificate"), "{text}");
        let (shared, _) = read_text("[shared]\naddress = 'rediss://10.0.0.1:6380'\nkey_file = 'k'\n");
        assert_eq!(shared.unwrap().tls.unwrap().server_name.to_str(), "10.0.0.1");
        let (shared, problems) = read_text(
            "[shared]\nsentinels = ['a:26379', 'b:26379']\nservice = 'mymaster'\nsentinel_password_file = 's'\n\
             key_file = 'k'\ntls = { server_name = 'redis.internal' }\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        text.clear();
        describe(&mut text, shared.as_ref(), with(1, 0)).unwrap();
        assert!(text.contains("the master of mymaster, by the sentinels a:26379, b:26379"), "{text}");
        let (shared, problems) =
            read_text("[shared]\ncluster = true\naddress = ['redis://a:6379', 'b:6379']\nkey_file = 'k'\n");
        assert_eq!(problems, Vec::<String>::new());
        text.clear();
        describe(&mut text, shared.as_ref(), with(1, 0)).unwrap();
        assert!(text.contains("the cluster of a:6379, b:6379"), "{text}");
        let (shared, _) = read_text("[shared]\naddress = 'unix:/run/redis.sock'\nkey_file = 'k'\n");
        let shared = shared.unwrap();
        assert_eq!((shared.prefix.as_str(), shared.response_timeout), ("cs1:", Duration::from_millis(50)));
        assert_eq!(shared.when_unavailable, WhenUnavailable::Refuse);
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
            ("[shared]\nkey_file = 'k'\n", "address"),
            ("[shared]\naddress = 'a:1'\n", "openssl rand"),
            ("[shared]\naddress = 'a'\nkey_file = 'k'\n", "has no port"),
            ("[shared]\naddress = 'redis://a:1'\nkey_file = 'k'\ntls = { ca = 'c' }\n", "says that there is no TLS"),
            ("[shared]\nsentinels = ['a:1']\nkey_file = 'k'\n", "by what the sentinels know"),
            ("[shared]\nsentinels = []\nservice = 'm'\nkey_file = 'k'\n", "has 0 entries"),
            ("[shared]\nsentinels = ['a']\nservice = 'm'\nkey_file = 'k'\n", "has no port"),
            ("[shared]\nsentinels = ['a:1']\nservice = 'm'\naddress = 'a:1'\nkey_file = 'k'\n", "are asked for"),
            ("[shared]\naddress = 'a:1'\nservice = 'm'\nkey_file = 'k'\n", "there are no sentinels"),
            ("[shared]\nsentinels = ['a:1']\nservice = 'm'\nkey_file = 'k'\ntls = { ca = 'c' }\n", "server_name"),
            ("[shared]\naddress = ['a:1', 'b:1']\nkey_file = 'k'\n", "add cluster = true"),
            ("[shared]\ncluster = true\naddress = []\nkey_file = 'k'\n", "has 0 entries"),
            ("[shared]\ncluster = true\naddress = ['a:1', 'b']\nkey_file = 'k'\n", "has no port"),
            ("[shared]\ncluster = true\naddress = 'unix:/a'\nkey_file = 'k'\n", "names a socket"),
            ("[shared]\ncluster = true\naddress = ['rediss://a:1']\nkey_file = 'k'\n", "server_name"),
            ("[shared]\ncluster = true\nsentinels = ['a:1']\nservice = 'm'\nkey_file = 'k'\n", "has no sentinels"),
            ("[shared]\naddress = 'unix:/a'\nkey_file = 'k'\ntls = { ca = 'c' }\n", "is not encrypted"),
            ("[shared]\naddress = 'a:1'\nkey_file = 'k'\ntls = { key = 'c' }\n", "stands alone"),
            ("[shared]\naddress = 'a:1'\nkey_file = 'k'\ntls = { server_name = 'a b' }\n", "is no name of a server"),
            ("[shared]\naddress = 'a:1'\nkey_file = 'k'\ntls = { ca = '' }\n", "is empty"),
            ("[shared]\naddress = 'a:1'\nkey_file = 'k'\ntls = { ca_file = 'c' }\n", "ca_file"),
            ("[shared]\naddress = 'a:1'\nkey_file = ''\n", "is empty"),
            ("[shared]\naddress = 'a:1'\nkey_file = 'k'\nusername = 'u'\n", "has no password"),
            ("[shared]\naddress = 'a:1'\nkey_file = 'k'\nprefix = 'a{b}'\n", "is no beginning"),
            ("[shared]\naddress = 'a:1'\nkey_file = 'k'\nresponse_timeout = '2s'\n", "out of range"),
            ("[shared]\naddress = 'a:1'\nkey_file = 'k'\nwhen_unavailable = 'deny'\n", "is not one of the choices"),
            ("[shared]\naddress = 'a:1'\nkey_file = 'k'\nredis = 'b:1'\n", "redis"),
        ] {
            let (_, problems) = read_text(text);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
        }
    }
}
