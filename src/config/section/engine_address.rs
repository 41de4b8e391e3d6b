//! Where the shared engine is: `address`, or `sentinels` and `service`.

use core::fmt;

use crate::config::address;
use crate::config::reader::Reader;
use crate::config::section::secret_file::{self, SecretFile};
use crate::gate::upstream::UpstreamAddress;

/// Where the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineAddress {
    /// It listens there.
    Direct(UpstreamAddress),
    /// Sentinels know.
    Sentinels {
        /// Where they listen.
        sentinels: Vec<UpstreamAddress>,
        /// By what they know the engine.
        service: String,
        /// The password that they want.
        password: Option<SecretFile>,
    },
    /// Nodes of a cluster: they know the others.
    Cluster {
        /// Where they listen.
        nodes: Vec<UpstreamAddress>,
    },
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(address) => write!(f, "{address}"),
            Self::Cluster { nodes } => {
                let list: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                write!(f, "the cluster of {}", list.join(", "))
            }
            Self::Sentinels { sentinels, service, .. } => {
                let list: Vec<String> = sentinels.iter().map(ToString::to_string).collect();
                write!(f, "the master of {service}, by the sentinels {}", list.join(", "))
            }
        }
    }
}

/// More sentinels, or nodes of a cluster, are no help.
const SENTINELS: usize = 16;

/// Where the engine is, and whether that asks for TLS.
pub(super) fn read(reader: &Reader<'_>) -> Option<(EngineAddress, bool)> {
    const ADD: &str = "write sentinels = [\"a:26379\", \"b:26379\", \"c:26379\"] and service = \"mymaster\"";
    let password = secret_file::read(reader, "sentinel_password_file");
    let service = reader.string("service");
    let cluster = reader.bool("cluster").unwrap_or(false);
    if cluster && reader.has("sentinels") {
        reader.error(
            "cluster",
            "has no sentinels: its nodes know each other",
            "remove it, or remove sentinels and service",
        );
    }
    let Some(texts) = reader.strings("sentinels") else {
        if let Some(key) = ["service", "sentinel_password_file"].into_iter().find(|key| reader.has(key)) {
            reader.error(key, "has no effect: there are no sentinels", ADD);
        }
        if cluster {
            return read_nodes(reader);
        }
        return read_address(reader).map(|(address, rediss)| (EngineAddress::Direct(address), rediss));
    };
    reader.require("service", "add service = \"mymaster\": by what the sentinels know the engine");
    if reader.has("address") {
        reader.error("address", "is what the sentinels are asked for", "remove it, or remove sentinels");
        let _ = reader.string("address");
    }
    if texts.is_empty() || texts.len() > SENTINELS {
        reader.error("sentinels", format!("has {} entries", texts.len()), ADD);
    }
    let mut sentinels = Vec::new();
    for text in texts.iter().take(SENTINELS) {
        match address::parse_upstream(text) {
            Ok(address) => sentinels.push(address),
            Err(wrong) => reader.error("sentinels", wrong.message, wrong.fix),
        }
    }
    Some((EngineAddress::Sentinels { sentinels, service: service?.to_owned(), password }, false))
}

/// The address, and whether it asks for TLS.
fn read_address(reader: &Reader<'_>) -> Option<(UpstreamAddress, bool)> {
    if reader.is_list("address") {
        let fix = "add cluster = true, or write the address of one primary, or sentinels = […] and service";
        reader.error("address", "is a list, as only a cluster has it", fix);
        return None;
    }
    parse(reader, reader.string("address")?)
}

/// The nodes of a cluster, and whether they ask for TLS.
fn read_nodes(reader: &Reader<'_>) -> Option<(EngineAddress, bool)> {
    const FIX: &str = "write some nodes of the cluster: address = [\"a:6379\", \"b:6379\", \"c:6379\"]";
    let texts = if reader.is_list("address") { reader.strings("address")? } else { vec![reader.string("address")?] };
    if texts.is_empty() || texts.len() > SENTINELS {
        reader.error("address", format!("has {} entries", texts.len()), FIX);
        return None;
    }
    let all: Option<Vec<(UpstreamAddress, bool)>> = texts.into_iter().map(|text| parse(reader, text)).collect();
    let (nodes, rediss): (Vec<UpstreamAddress>, Vec<bool>) = all?.into_iter().unzip();
    if nodes.iter().any(|node| matches!(node, UpstreamAddress::Unix(_))) {
        reader.error("address", "names a socket: the nodes of a cluster name each other by IP address", FIX);
        return None;
    }
    Some((EngineAddress::Cluster { nodes }, rediss.contains(&true)))
}

fn parse(reader: &Reader<'_>, text: &str) -> Option<(UpstreamAddress, bool)> {
    let rediss = text.starts_with("rediss://");
    let plain = text.strip_prefix("rediss://").or_else(|| text.strip_prefix("redis://"));
    let plain = plain.map_or(text, |rest| rest.trim_end_matches('/'));
    if text.starts_with("redis://") && reader.has("tls") {
        reader.error(
            "address",
            "says that there is no TLS, and tls says how it is made",
            "write rediss://, or remove tls",
        );
    }
    match address::parse_upstream(plain) {
        Ok(address) => Some((address, rediss)),
        Err(wrong) => {
            reader.error("address", wrong.message, wrong.fix);
            None
        }
    }
}
