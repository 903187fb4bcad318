//! Lists. Reading order: `look`, `push`, `edit`, `pop`, `first`, `shift`; the last three have the commands that wait.

mod edit;
mod first;
mod look;
mod pop;
mod push;
mod shift;

use std::time::Duration;

use super::{Args, Command};
use crate::error::{ClientError, Result, text};
use crate::resp::number;
use crate::store::Txn;
use crate::types::list::{Change, End};
use crate::types::{Class, keyspace};

pub(super) const COMMANDS: &[Command] = &[
    Command::read::<look::LLen>(),
    Command::read::<look::LRange>(),
    Command::read::<look::LIndex>(),
    Command::read::<look::LPos>(),
    Command::write::<push::LPush>(),
    Command::write::<push::RPush>(),
    Command::write::<push::LPushX>(),
    Command::write::<push::RPushX>(),
    Command::write::<edit::LSet>(),
    Command::write::<edit::LInsert>(),
    Command::write::<edit::LRem>(),
    Command::write::<edit::LTrim>(),
    Command::write::<pop::LPop>(),
    Command::write::<pop::RPop>(),
    Command::blocking::<pop::BLPop>(),
    Command::blocking::<pop::BRPop>(),
    Command::write::<first::LMPop>(),
    Command::blocking::<first::BLMPop>(),
    Command::write::<shift::LMove>(),
    Command::write::<shift::RPopLPush>(),
    Command::blocking::<shift::BLMove>(),
    Command::blocking::<shift::BRPopLPush>(),
];

/// Takes `LEFT` or `RIGHT`.
fn take_end(args: &mut Args) -> Result<End> {
    if args.take("LEFT") {
        Ok(End::Left)
    } else if args.take("RIGHT") {
        Ok(End::Right)
    } else {
        Err(text::SYNTAX.into())
    }
}

/// Takes how long to wait, in seconds with a fraction; zero is without end.
fn take_timeout(args: &mut Args) -> Result<Option<Duration>> {
    const NOT_A_FLOAT: ClientError = ClientError::fixed("ERR timeout is not a float or out of range");
    const NEGATIVE: ClientError = ClientError::fixed("ERR timeout is negative");
    const TOO_LONG: ClientError = ClientError::fixed("ERR timeout is out of range");
    let seconds = number::parse_float(&args.bytes()?).ok_or(NOT_A_FLOAT)?;
    let ms = (seconds * 1_000.0).ceil();
    if ms < 0.0 {
        return Err(NEGATIVE.into());
    }
    if ms >= i64::MAX as f64 {
        return Err(TOO_LONG.into());
    }
    Ok((ms > 0.0).then(|| Duration::from_millis(ms as u64)))
}

/// Ends a change that took elements away at an end, in Redis' words.
fn finish_pop(tx: &mut Txn, change: Change, end: End, db: u8, key: &bytes::Bytes) {
    let kind = if end == End::Left { "lpop" } else { "rpop" };
    finish(tx, change, kind, db, key);
}

/// Ends a change, in Redis' words.
fn finish(tx: &mut Txn, change: Change, kind: &'static str, db: u8, key: &bytes::Bytes) {
    let lives = change.finish(tx);
    keyspace::notify(tx, Class::List, kind, db, key);
    if !lives {
        keyspace::notify(tx, Class::Generic, "del", db, key);
    }
}
