//! EVAL and its kin.

use bytes::Bytes;

use super::call::{Permission, Reader, Writer};
use crate::commands::{Access, Args, Flags, Group, Keys, Read, Spec, Write};
use crate::error::{ClientError, Result, text};
use crate::resp::{Reply, number};
use crate::script::{NAME_CHARS, Program, Script};
use crate::store::{Txn, View};
use crate::types::scripts::{self, Digest};

pub(super) const NO_SCRIPT: ClientError = ClientError::fixed("NOSCRIPT No matching script. Please use EVAL.");
/// A script without a claim not to write, in a command that does not.
const MAY_WRITE: ClientError =
    ClientError::fixed("ERR Can not execute a script with write flag using *_ro command.");

const FLAGS: Flags = Flags::NOSCRIPT
    .and(Flags::STALE)
    .and(Flags::SKIP_MONITOR)
    .and(Flags::NO_MANDATORY_KEYS)
    .and(Flags::MOVABLE_KEYS);
const COMPLEXITY: &str = "Depends on the script that is executed.";

/// What follows the script: its keys and its arguments.
struct Arguments {
    keys: Vec<Bytes>,
    argv: Vec<Bytes>,
    db: u8,
}

impl Arguments {
    fn parse(args: &mut Args) -> Result<Self> {
        let count = number::parse_int(&args.bytes()?).ok_or(text::NOT_AN_INTEGER)?;
        let mut keys = args.rest();
        if count > keys.len() as i64 {
            return Err(ClientError::fixed("ERR Number of keys can't be greater than number of args").into());
        }
        let Ok(count) = usize::try_from(count) else {
            return Err(ClientError::fixed("ERR Number of keys can't be negative").into());
        };
        let argv = keys.split_off(count);
        Ok(Self { keys, argv, db: args.db })
    }

    /// Runs a script that may write.
    fn write(&self, tx: &mut Txn, script: &Script) -> Result<Reply> {
        let may = Permission { no_writes: script.flags.no_writes, allow_oom: script.flags.allow_oom };
        if script.flags.declared {
            may.check_room(tx)?;
        }
        let seed = tx.rng().next_u64() as u32;
        Ok(Writer::new(tx, self.db, may).run(Program::Script(script), &self.keys, &self.argv, seed)?)
    }

    /// Runs a script that only reads.
    fn read(&self, view: &View, script: &Script) -> Result<Reply> {
        if script.flags.declared && !script.flags.no_writes {
            return Err(MAY_WRITE.into());
        }
        let seed = view.chance().next_u64() as u32;
        Ok(Reader::new(view, self.db).run(Program::Script(script), &self.keys, &self.argv, seed)?)
    }
}

/// Runs a script.
pub struct Eval {
    text: Bytes,
    arguments: Arguments,
}

impl Write for Eval {
    const SPEC: Spec = Spec {
        name: "EVAL",
        syntax: "script numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Execute a Lua script server side",
        complexity: COMPLEXITY,
        since: "2.6.0",
        keys: Keys::counted(2, Access::Update),
        flags: FLAGS.and(Flags::MAY_REPLICATE),
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { text: args.bytes()?, arguments: Arguments::parse(args)? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let script = Script::new(self.text)?;
        let reply = self.arguments.write(tx, &script)?;
        if !reply.is_error() {
            scripts::remember(tx, &script.digest, &script.text)?;
        }
        Ok(reply)
    }
}

/// Runs a script that is known.
pub struct EvalSha {
    name: Bytes,
    arguments: Arguments,
}

impl Write for EvalSha {
    const SPEC: Spec =
        Spec { name: "EVALSHA", syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]", ..Eval::SPEC };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { name: args.bytes()?, arguments: Arguments::parse(args)? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let script = known(tx, &self.name)?.ok_or(NO_SCRIPT)?;
        self.arguments.write(tx, &script)
    }
}

/// Runs a script that only reads.
pub struct EvalRo {
    text: Bytes,
    arguments: Arguments,
}

impl Read for EvalRo {
    const SPEC: Spec = Spec {
        name: "EVAL_RO",
        summary: "Execute a read-only Lua script server side",
        since: "7.0.0",
        keys: Keys::counted(2, Access::Read),
        flags: FLAGS,
        ..Eval::SPEC
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { text: args.bytes()?, arguments: Arguments::parse(args)? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        self.arguments.read(view, &Script::new(self.text)?)
    }
}

/// Runs a script that is known and only reads.
pub struct EvalShaRo {
    name: Bytes,
    arguments: Arguments,
}

impl Read for EvalShaRo {
    const SPEC: Spec =
        Spec { name: "EVALSHA_RO", syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]", ..EvalRo::SPEC };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { name: args.bytes()?, arguments: Arguments::parse(args)? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let script = known(view, &self.name)?.ok_or(NO_SCRIPT)?;
        self.arguments.read(view, &script)
    }
}

/// Whether a script, given by its text or by its name, has said that it will not write.
pub fn only_reads(is_text: bool, script: &Bytes, view: &View) -> Result<bool> {
    let script = if is_text { Some(Script::new(script.clone())?) } else { known(view, script)? };
    Ok(script.is_some_and(|script| script.flags.no_writes))
}

/// The script of this name.
fn known(view: &View, name: &[u8]) -> Result<Option<Script>> {
    let Some(digest) = digest(name) else { return Ok(None) };
    let text = scripts::get(view, &digest)?;
    Ok(text.map(|text| Script::with_digest(text, digest)).transpose()?)
}

/// The bytes of a name: of 40 hexadecimal digits.
pub(super) fn digest(name: &[u8]) -> Option<Digest> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut digest = Digest::default();
    if name.len() != NAME_CHARS {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(name.as_chunks().0) {
        *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
    }
    Some(digest)
}
