//! The scripts, and the commands that run them.

use core::fmt::Write as _;
use std::sync::OnceLock;

use ring::digest;

use crate::wire::resp;

/// What the engine is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxScript {
    /// Tries every command that the others need.
    Probe,
    /// Begins a holding.
    Begin,
    /// Ends the lease of a holding at once: others take it over.
    Leave,
    /// Prolongs a lease, takes over what others have left, and tells what has changed.
    Tick,
    /// Stores deliveries.
    Put,
    /// Asks whether a put was done, and makes sure that it is not done later.
    Resolve,
    /// Writes the ends of attempts.
    Settle,
    /// Removes deliveries.
    Remove,
    /// Makes dead letters wait again.
    Redrive,
    /// Gives a route its number.
    Route,
}

/// What all scripts begin with. A row is kept behind the name of its holding, and before its order key.
///
/// Keys: 1 rows, 2 records, 3 ids, 4 dead letters, 5 damaged ones, 6 leases, 7 heirs of holdings that are being moved,
/// 8 holdings of order keys, 9 deliveries of an order key in a holding, 10 counters, 11 routes, 12 held routes, 13 last
/// puts, 14 what the other keys begin with (`of:`, `new:` and `gone:` with the name of a holding, `s:` with a name of a
/// delivery).
const PRELUDE: &str = "\
local K,A,call=KEYS,ARGV,redis.call
local t=call('TIME')
local now=t[1]*1000+math.floor(t[2]/1000)
local NONE='----------------'
local function parse(v) return string.sub(v,1,16),string.sub(v,17,144),string.sub(v,145) end
local function count(name) return tonumber(call('HGET',K[10],name) or 0) end
local function stats() return {call('HLEN',K[1]),call('ZCARD',K[4]),call('ZCARD',K[5]),count('bytes'),count('dead')} end
local function lives(h) return h and call('ZSCORE',K[6],h) end
local function leave(h,k,id)
 if h==NONE then return end
 call('ZREM',K[14]..'of:'..h,id)
 if k~='' and call('HINCRBY',K[9],h..k,-1)<=0 then
  call('HDEL',K[9],h..k)
  if call('HGET',K[8],k)==h then call('HDEL',K[8],k) end
 end
end
local function enter(h,k,id)
 call('ZADD',K[14]..'of:'..h,0,id)
 if k~='' then call('HINCRBY',K[9],h..k,1) call('HSETNX',K[8],k,h) end
end
local function remove(id,h,k)
 local size=call('HSTRLEN',K[2],id)
 leave(h,k,id)
 call('HDEL',K[1],id) call('HDEL',K[2],id) call('ZREM',K[3],id) call('ZREM',K[5],id)
 call('HINCRBY',K[10],'bytes',-size)
 if call('ZREM',K[4],id)==1 then call('HINCRBY',K[10],'dead',-size) end
end
";

/// Says which command the user may not run. What it writes is removed again.
const PROBE: &str = "\
local h,z,l,s,v=K[14]..'probe:h',K[14]..'probe:z',K[14]..'probe:l',K[14]..'probe:s',K[14]..'probe:v'
for _,c in ipairs({
 {'del',h,z,l,s,v},{'hset',h,'a','1'},{'hsetnx',h,'b','1'},{'hget',h,'a'},{'hmget',h,'a'},{'hgetall',h},{'hlen',h},
 {'hstrlen',h,'a'},{'hexists',h,'a'},{'hincrby',h,'a',1},{'hdel',h,'a'},{'zadd',z,0,'a'},{'zscore',z,'a'},{'zcard',z},
 {'zrange',z,0,0},{'zrangebyscore',z,0,0},{'zrangebylex',z,'-','+'},{'zrem',z,'a'},{'rpush',l,'a'},{'llen',l},
 {'lpop',l,1},{'sadd',s,'a'},{'smembers',s},{'srem',s,'a'},{'set',v,'a'},{'get',v},{'del',h,z,l,s,v}}) do
 local r=redis.pcall(unpack(c))
 if type(r)=='table' and r.err then
  local denied=string.find(r.err,'ermission') or string.find(r.err,'NOPERM') or string.find(r.err,'ACL') or string.find(r.err,'can.t run')
  return redis.error_reply(denied and 'NOPERM the user may not run '..c[1] or r.err)
 end
end
return {'OK'}";

/// Holding, milliseconds of the lease.
const BEGIN: &str = "\
call('ZADD',K[6],now+A[2],A[1])
return {'OK'}";

/// Holding.
const LEAVE: &str = "\
if lives(A[1]) then call('ZADD',K[6],0,A[1]) end
return {'OK'}";

/// Holding, milliseconds of the lease, deliveries at a time, milliseconds for which dead letters are kept (0 for ever). Gives
/// whether there is more, held routes, ids that are gone, ids that have expired, id and row and order key of what is ours
/// from now on, how many of those were taken over, and counts.
const TICK: &str = "\
local me,most=A[1],tonumber(A[3])
if not lives(me) then return {'LOST'} end
call('ZADD',K[6],now+A[2],me)
local rows,more,taken={},0,0
local function add(id,row,k) rows[#rows+1]=id rows[#rows+1]=row rows[#rows+1]=k end
for _,id in ipairs(call('LPOP',K[14]..'new:'..me,most) or {}) do
 local v=call('HGET',K[1],id)
 if v then local h,row,k=parse(v) if h==me then add(id,row,k) end end
end
if #rows==0 then
 local from
 local heirs=call('HGETALL',K[7])
 for i=1,#heirs,2 do if heirs[i+1]==me then from=heirs[i] end end
 if not from then
  from=call('ZRANGEBYSCORE',K[6],'-inf',now,'LIMIT',0,1)[1]
  if from then
   call('ZREM',K[6],from)
   for i=1,#heirs,2 do if heirs[i+1]==from then call('HSET',K[7],heirs[i],me) end end
   call('HSET',K[7],from,me)
   call('DEL',K[14]..'new:'..from,K[14]..'gone:'..from) call('HDEL',K[13],from)
  end
 end
 if from then
  local ids=call('ZRANGE',K[14]..'of:'..from,0,most-1)
  for _,id in ipairs(ids) do
   local v=call('HGET',K[1],id)
   local h,row,k
   if v then h,row,k=parse(v) end
   if h==from then
    leave(from,k,id) enter(me,k,id)
    call('HSET',K[1],id,me..row..k) add(id,row,k) taken=taken+1
   else call('ZREM',K[14]..'of:'..from,id) end
  end
  if #ids==0 then call('HDEL',K[7],from) end
  more=1
 end
else more=1 end
local gone=call('LPOP',K[14]..'gone:'..me,most) or {}
local expired={}
if A[4]~='0' then
 for _,id in ipairs(call('ZRANGEBYSCORE',K[4],'-inf',now-A[4],'LIMIT',0,64)) do
  local v=call('HGET',K[1],id)
  if v then
   local h,row,k=parse(v)
   remove(id,h,k) expired[#expired+1]=id
   if h==me then gone[#gone+1]=id elseif lives(h) then call('RPUSH',K[14]..'gone:'..h,id) end
  else call('ZREM',K[4],id) end
 end
end
return {'OK',more,call('SMEMBERS',K[12]),gone,expired,rows,taken,stats()}";

/// Holding, number of the put, bounds of deliveries and bytes; then for each delivery row, order key, record, milliseconds for
/// which copies are recognised, and its names in 64 digits each. Gives for each `+` and the id where the caller attempts it,
/// `-` and the id where it is not the caller's or comes by a tick, `=` and the id of the delivery that it is a copy of.
const PUT: &str = "\
local me,seq=A[1],A[2]
if not lives(me) then return {'LOST'} end
local last=call('HGET',K[13],me)
if last then
 local s,r=string.match(last,'^(%d+) (.*)$')
 if s==seq then return {'OK',r,stats()} end
 if tonumber(s)>tonumber(seq) then return {'STALE'} end
end
local bytes=count('bytes')
for i=5,#A,5 do bytes=bytes+#A[i+2] end
if call('HLEN',K[1])+(#A-4)/5>tonumber(A[3]) or bytes>tonumber(A[4]) then return {'FULL'} end
local busy=call('LLEN',K[14]..'new:'..me)>0
local ms,n=string.match(call('HGET',K[10],'last') or '0 0','^(%d+) (%d+)$')
ms,n=tonumber(ms),tonumber(n)
if now>ms then ms,n=now,-1 end
local out={}
for i=5,#A,5 do
 local row,k,record,ttl,names=A[i],A[i+1],A[i+2],A[i+3],A[i+4]
 local known
 for at=1,#names,64 do known=known or call('GET',K[14]..'s:'..string.sub(names,at,at+63)) end
 if known then out[#out+1]='='..known
 else
  n=n+1
  if n>65535 then ms,n=ms+1,0 end
  local id=string.format('%08x%04x%04x',math.floor(ms/65536),ms%65536,n)
  local h=me
  if k~='' then
   local owner=call('HGET',K[8],k)
   if owner and owner~=me then
    if lives(owner) or call('HEXISTS',K[7],owner)==1 then h=owner else call('HSET',K[8],k,me) end
   end
  end
  call('HSET',K[1],id,h..row..k) call('HSET',K[2],id,record) call('ZADD',K[3],0,id) enter(h,k,id)
  call('HINCRBY',K[10],'bytes',#record)
  for at=1,#names,64 do call('SET',K[14]..'s:'..string.sub(names,at,at+63),id,'PX',ttl) end
  if h==me and not (busy and k~='') then out[#out+1]='+'..id
  else
   out[#out+1]='-'..id
   if lives(h) then call('RPUSH',K[14]..'new:'..h,id) end
  end
 end
end
if n>=0 then call('HSET',K[10],'last',string.format('%.0f %.0f',ms,n)) end
local result=table.concat(out,' ')
call('HSET',K[13],me,seq..' '..result)
return {'OK',result,stats()}";

/// Holding, number of a put. Gives id, row and order key of what it has stored for the caller.
const RESOLVE: &str = "\
local me,seq=A[1],A[2]
if not lives(me) then return {'LOST'} end
local last=call('HGET',K[13],me)
local s,r
if last then s,r=string.match(last,'^(%d+) (.*)$') end
if s and tonumber(s)>tonumber(seq) then return {'STALE'} end
if s~=seq then call('HSET',K[13],me,seq..' ') return {'OK',{}} end
local rows={}
for id in string.gmatch(r,'%+(%x+)') do
 local v=call('HGET',K[1],id)
 if v then local h,row,k=parse(v) if h==me then rows[#rows+1]=id rows[#rows+1]=row rows[#rows+1]=k end end
end
return {'OK',rows}";

/// Holding, bound of the bytes of dead letters; then for each id, what becomes of it, and its row. Gives for each 1 for done, 0
/// where it is not the caller's, 2 where there is no room for a dead letter.
const SETTLE: &str = "\
local me=A[1]
if not lives(me) then return {'LOST'} end
local out={}
for i=3,#A,3 do
 local id,what,row=A[i],A[i+1],A[i+2]
 local v=call('HGET',K[1],id)
 local h,old,k
 if v then h,old,k=parse(v) end
 if what=='dead' and v and call('ZSCORE',K[4],id) then out[#out+1]='1'
 elseif h~=me then out[#out+1]='0'
 else
  out[#out+1]='1'
  if what=='done' then remove(id,h,k)
  elseif what=='again' then call('HSET',K[1],id,h..row..k)
  elseif what=='bad' then leave(h,k,id) call('HSET',K[1],id,NONE..row) call('ZADD',K[5],0,id)
  else
   local size=call('HSTRLEN',K[2],id)
   if count('dead')+size>tonumber(A[2]) then out[#out]='2'
   else
    call('HINCRBY',K[10],'dead',size) call('ZADD',K[4],now,id)
    if k=='' then leave(h,k,id) h=NONE end
    call('HSET',K[1],id,h..row..k)
   end
  end
 end
end
return {'OK',table.concat(out),stats()}";

/// Holding; then for each id and the row that it had. Gives for each 1 for done, 0 where it is another by now.
const REMOVE: &str = "\
local me,out=A[1],{}
for i=2,#A,2 do
 local id=A[i]
 local v=call('HGET',K[1],id)
 local h,row,k
 if v then h,row,k=parse(v) end
 if row~=A[i+1] then out[#out+1]='0'
 else
  remove(id,h,k)
  if h~=me and lives(h) then call('RPUSH',K[14]..'gone:'..h,id) end
  out[#out+1]='1'
 end
end
return {'OK',table.concat(out),stats()}";

/// Holding; then for each id, the row that it had, and its row from now on. Gives for each 1 where the caller attempts it, 3
/// where another does or it comes by a tick, 0 where it is another by now.
const REDRIVE: &str = "\
local me=A[1]
if not lives(me) then return {'LOST'} end
local out={}
for i=2,#A,3 do
 local id=A[i]
 local v=call('HGET',K[1],id)
 local h,row,k
 if v then h,row,k=parse(v) end
 if row~=A[i+1] or call('ZREM',K[4],id)==0 then out[#out+1]='0'
 else
  call('HINCRBY',K[10],'dead',-call('HSTRLEN',K[2],id))
  if h==NONE then h=me enter(h,k,id) end
  call('HSET',K[1],id,h..A[i+2]..k)
  if h==me and call('LLEN',K[14]..'new:'..me)==0 then out[#out+1]='1'
  else
   out[#out+1]='3'
   if lives(h) then call('RPUSH',K[14]..'new:'..h,id) end
  end
 end
end
return {'OK',table.concat(out),stats()}";

/// Name.
const ROUTE: &str = "\
local number=call('HGET',K[11],A[1])
if not number then
 number=call('HLEN',K[11])
 call('HSET',K[11],A[1],number)
end
return {'OK',tonumber(number)}";

/// Scripts, with what the engine knows them by.
type Texts = [(String, String); InboxScript::ALL.len()];

impl InboxScript {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Probe,
        Self::Begin,
        Self::Leave,
        Self::Tick,
        Self::Put,
        Self::Resolve,
        Self::Settle,
        Self::Remove,
        Self::Redrive,
        Self::Route,
    ];

    const fn own_text(self) -> &'static str {
        match self {
            Self::Probe => PROBE,
            Self::Begin => BEGIN,
            Self::Leave => LEAVE,
            Self::Tick => TICK,
            Self::Put => PUT,
            Self::Resolve => RESOLVE,
            Self::Settle => SETTLE,
            Self::Remove => REMOVE,
            Self::Redrive => REDRIVE,
            Self::Route => ROUTE,
        }
    }

    /// An engine without memory refuses what would take more of it: fresh deliveries. What is stored goes on, and makes room.
    const fn flags(self) -> &'static str {
        match self {
            Self::Put | Self::Redrive | Self::Route => "",
            _ => "#!lua flags=allow-oom\n",
        }
    }

    fn texts() -> &'static Texts {
        static TEXTS: OnceLock<Texts> = OnceLock::new();
        TEXTS.get_or_init(|| {
            Self::ALL.map(|script| {
                let text = format!("{}{PRELUDE}{}", script.flags(), script.own_text());
                let digest = sha1_hex(&text);
                (text, digest)
            })
        })
    }

    /// The script.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::texts().get(self as usize).map_or("", |(text, _)| text)
    }

    fn digest(self) -> &'static str {
        Self::texts().get(self as usize).map_or("", |(_, digest)| digest)
    }
}

fn sha1_hex(text: &str) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The keys of an inbox in the engine.
#[derive(Clone, Debug)]
pub struct InboxKeys {
    start: String,
    names: [String; 14],
}

/// How the keys of the scripts end, in their order.
const ENDS: [&str; 14] = [
    "rows", "records", "ids", "dead", "damaged", "leases", "heirs", "owners", "counts", "about", "routes", "held",
    "puts", "",
];

impl InboxKeys {
    /// The keys that begin with this prefix, and a hash tag that no other inbox has.
    #[must_use]
    pub fn new(prefix: &str, tag: &str) -> Self {
        let start = format!("{prefix}{{{tag}}}:");
        Self { names: ENDS.map(|end| format!("{start}{end}")), start }
    }

    /// The key of the rows.
    #[must_use]
    pub fn rows(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The key of the records.
    #[must_use]
    pub fn records(&self) -> &str {
        self.names.get(1).map_or("", String::as_str)
    }

    /// The key of the ids, in their order.
    #[must_use]
    pub fn ids(&self) -> &str {
        self.names.get(2).map_or("", String::as_str)
    }

    /// The key of the leases.
    #[must_use]
    pub fn leases(&self) -> &str {
        self.names.get(5).map_or("", String::as_str)
    }

    /// The key of the routes.
    #[must_use]
    pub fn routes(&self) -> &str {
        self.names.get(10).map_or("", String::as_str)
    }

    /// The key of the held routes.
    #[must_use]
    pub fn held(&self) -> &str {
        self.names.get(11).map_or("", String::as_str)
    }

    /// What all keys begin with.
    #[must_use]
    pub fn start(&self) -> &str {
        &self.start
    }
}

/// Appends the command that runs a script; by its text where the engine does not have it.
pub fn encode(out: &mut Vec<u8>, keys: &InboxKeys, script: InboxScript, arguments: &[&[u8]], with_text: bool) {
    resp::begin_command(out, 3 + keys.names.len() + arguments.len());
    let (command, text) = if with_text { ("EVAL", script.text()) } else { ("EVALSHA", script.digest()) };
    resp::add_part(out, command.as_bytes());
    resp::add_part(out, text.as_bytes());
    resp::add_number(out, keys.names.len() as u64);
    keys.names.iter().for_each(|name| resp::add_part(out, name.as_bytes()));
    arguments.iter().for_each(|argument| resp::add_part(out, argument));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_has_a_text_and_a_digest_of_its_own() {
        let mut digests: Vec<&str> = InboxScript::ALL.iter().map(|script| script.digest()).collect();
        for (script, digest) in InboxScript::ALL.iter().zip(&digests) {
            assert!(script.text().contains(PRELUDE) && script.text().ends_with(script.own_text()));
            assert_eq!(digest.len(), 40);
        }
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), InboxScript::ALL.len());
    }

    #[test]
    fn a_command_names_all_keys_under_one_hash_tag() {
        let keys = InboxKeys::new("cs1:", "tag");
        let mut out = Vec::new();
        encode(&mut out, &keys, InboxScript::Leave, &[b"me"], false);
        let text = String::from_utf8_lossy(&out);
        assert!(text.starts_with("*18\r\n$7\r\nEVALSHA\r\n$40\r\n"), "{text}");
        assert_eq!(text.matches("cs1:{tag}:").count(), 14);
        assert!(text.ends_with("$2\r\nme\r\n"));
    }
}
