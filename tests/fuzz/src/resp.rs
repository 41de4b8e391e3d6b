//! Replies of the shared engine: the same in whatever pieces they come, within their bounds, and none is a yes to a claim but
//! the one that is.

use countersign::ledger::shared::EngineAnswer;
use countersign::ledger::shared::script::EngineOperation;
use countersign::wire::resp::{REPLY_LIMIT, RespValue, VALUE_LIMIT, command, reply_length, values};

/// The whole input is a reply and what follows it.
pub fn run(bytes: &[u8]) {
    let whole = reply_length(bytes);
    for end in 0..bytes.len().min(512) {
        match (reply_length(&bytes[..end]), whole) {
            (Ok(Some(length)), whole) => assert_eq!(whole, Ok(Some(length))),
            (Ok(None), Ok(Some(length))) => assert!(end < length),
            (Ok(None), _) => {}
            (Err(_), whole) => assert!(whole.is_err()),
        }
    }
    let Ok(Some(length)) = whole else { return };
    assert!(length <= bytes.len() && length <= REPLY_LIMIT);
    let reply = &bytes[..length];
    let count = values(reply).count();
    assert!((1..=VALUE_LIMIT).contains(&count));
    for operation in [EngineOperation::Claim, EngineOperation::Commit, EngineOperation::Release, EngineOperation::Ping]
    {
        if EngineAnswer::of(operation, reply) == EngineAnswer::Yours {
            assert_eq!((operation, values(reply).nth(1)), (EngineOperation::Claim, Some(RespValue::Integer(0))));
        }
    }
    let texts: Vec<&[u8]> =
        values(reply).filter_map(|it| if let RespValue::Text(text) = it { Some(text) } else { None }).collect();
    let mut again = Vec::new();
    command(&mut again, &texts);
    if again.len() <= REPLY_LIMIT {
        assert_eq!(reply_length(&again), Ok(Some(again.len())));
    }
}
