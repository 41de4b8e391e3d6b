//! Where the engine is, as its sentinels say: they are asked anew for each connection.

use std::time::Duration;

use super::greeting::{Replies, trouble_of};
use super::{EngineTerms, SentinelTerms, dial};
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream;
use crate::edge::runtime::target::Target;
use crate::edge::worker::Worker;
use crate::ledger::shared::server;
use crate::ledger::shared::{EngineTrouble, SILENCE};
use crate::wire::resp::{self, RespValue};

/// Asks one sentinel after the other, beginning with the one at `first`, until one knows the master.
///
/// # Errors
/// What the last one was in the way of.
pub(super) async fn find<N: Net>(
    worker: &Worker<N>,
    terms: &EngineTerms,
    of: &SentinelTerms,
    first: usize,
) -> Result<Target, EngineTrouble> {
    let mut trouble = EngineTrouble::NoMaster;
    let count = of.sentinels.len().max(1);
    for sentinel in of.sentinels.iter().cycle().skip(first % count).take(count) {
        match ask(worker, terms, of, sentinel).await {
            Ok(master) => return Ok(master),
            Err(EngineTrouble::Unreachable) if trouble != EngineTrouble::NoMaster => {}
            Err(why) => trouble = why,
        }
    }
    Err(trouble)
}

async fn ask<N: Net>(
    worker: &Worker<N>,
    terms: &EngineTerms,
    of: &SentinelTerms,
    sentinel: &Target,
) -> Result<Target, EngineTrouble> {
    let mut stream = dial::connect(worker, terms, sentinel).await?;
    let deadline = worker.net.monotonic() + terms.response_timeout.max(SILENCE);
    let reply = converse(&mut stream, of, deadline).await?;
    let master = server::master(&reply)?.ok_or(EngineTrouble::NoMaster)?;
    Ok(dial::at(master))
}

async fn converse<S: ByteStream>(
    stream: &mut S,
    of: &SentinelTerms,
    deadline: Duration,
) -> Result<Vec<u8>, EngineTrouble> {
    let mut out = Vec::new();
    if let Some(password) = &of.password {
        resp::command(&mut out, &[b"AUTH", password]);
    }
    resp::command(&mut out, &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", of.service.as_bytes()]);
    let length = out.len();
    let (written, _) = stream.write_all(out, 0..length, deadline).await;
    written.map_err(|error| trouble_of(&error))?;
    let mut replies = Replies::default();
    if of.password.is_some()
        && let Some(RespValue::Failure(error)) = resp::values(replies.next(stream, deadline).await?).next()
    {
        return Err(EngineTrouble::of_error(error));
    }
    replies.next(stream, deadline).await.map(<[u8]>::to_vec)
}
