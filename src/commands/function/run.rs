//! FCALL and FCALL_RO.

use bytes::Bytes;

use crate::commands::script::call::{Permission, Reader, Writer};
use crate::commands::{Access, Args, Flags, Group, Keys, Read, Spec, Write};
use crate::error::{ClientError, Result, StoreError};
use crate::resp::{Reply, number};
use crate::script::{Code, Program};
use crate::store::{Txn, View};
use crate::types::libraries::{self, ALLOW_OOM, Library, NO_WRITES};

const NOT_FOUND: ClientError = ClientError::fixed("ERR Function not found");
/// A function without a claim not to write, in a command that does not.
const MAY_WRITE: ClientError =
    ClientError::fixed("ERR Can not execute a script with write flag using *_ro command.");

const FLAGS: Flags = Flags::NOSCRIPT
    .and(Flags::STALE)
    .and(Flags::SKIP_MONITOR)
    .and(Flags::NO_MANDATORY_KEYS)
    .and(Flags::MOVABLE_KEYS);

/// A call: the function, and what it is given.
struct Call {
    name: Bytes,
    count: Option<i64>,
    words: Vec<Bytes>,
    db: u8,
}

/// A function that was found.
struct Function {
    library: Library,
    /// In lower case.
    name: String,
    no_writes: bool,
    allow_oom: bool,
}

impl Call {
    fn parse(args: &mut Args) -> Result<Self> {
        let (name, count) = (args.bytes()?, number::parse_int(&args.bytes()?));
        Ok(Self { name, count, words: args.rest(), db: args.db })
    }

    /// The function. Whether there is one is asked before how many keys there are.
    fn function(&self, view: &View) -> Result<Function> {
        Ok(find(view, &self.name)?.ok_or(NOT_FOUND)?)
    }

    /// The keys and the arguments.
    fn words(&self) -> Result<(&[Bytes], &[Bytes])> {
        const BAD_NUMBER: ClientError = ClientError::fixed("ERR Bad number of keys provided");
        const TOO_MANY: ClientError =
            ClientError::fixed("ERR Number of keys can't be greater than number of args");
        const NEGATIVE: ClientError = ClientError::fixed("ERR Number of keys can't be negative");
        let count = self.count.ok_or(BAD_NUMBER)?;
        if count > self.words.len() as i64 {
            return Err(TOO_MANY.into());
        }
        let count = usize::try_from(count).map_err(|_| NEGATIVE)?;
        Ok(self.words.split_at(count))
    }
}

/// Whether a function has said that it will not write.
pub fn only_reads(name: &Bytes, view: &View) -> Result<bool> {
    Ok(find(view, name)?.is_some_and(|function| function.no_writes))
}

fn find(view: &View, name: &Bytes) -> Result<Option<Function>, StoreError> {
    let Some(library_name) = libraries::library_of(view, name)? else { return Ok(None) };
    let library = libraries::get(view, &library_name)?.ok_or_else(torn)?;
    let listed = library.functions.iter().find(|listed| listed.name.eq_ignore_ascii_case(name));
    let flags = listed.ok_or_else(torn)?.flags;
    let (no_writes, allow_oom) = (flags & NO_WRITES != 0, flags & ALLOW_OOM != 0);
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    Ok(Some(Function { library, name, no_writes, allow_oom }))
}

/// The books about functions do not agree with each other.
fn torn() -> StoreError {
    StoreError::Corrupt("a function's library cannot be found".into())
}

/// Calls a function.
pub struct Fcall(Call);

impl Write for Fcall {
    const SPEC: Spec = Spec {
        name: "FCALL",
        syntax: "function numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Invoke a function",
        complexity: "Depends on the function that is executed.",
        since: "7.0.0",
        keys: Keys::counted(2, Access::Update),
        flags: FLAGS.and(Flags::MAY_REPLICATE),
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Call::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let Self(call) = self;
        let function = call.function(tx)?;
        let (keys, argv) = call.words()?;
        let program = Program::Function(Code::of(&function.library), &function.name);
        let may = Permission { no_writes: function.no_writes, allow_oom: function.allow_oom };
        may.check_room(tx)?;
        let seed = tx.rng().next_u64() as u32;
        Ok(Writer::new(tx, call.db, may).run(program, keys, argv, seed)?)
    }
}

/// Calls a function that only reads.
pub struct FcallRo(Call);

impl Read for FcallRo {
    const SPEC: Spec = Spec {
        name: "FCALL_RO",
        summary: "Invoke a read-only function",
        keys: Keys::counted(2, Access::Read),
        flags: FLAGS,
        ..Fcall::SPEC
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Call::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let Self(call) = self;
        let function = call.function(view)?;
        let (keys, argv) = call.words()?;
        if !function.no_writes {
            return Err(MAY_WRITE.into());
        }
        let program = Program::Function(Code::of(&function.library), &function.name);
        let seed = view.chance().next_u64() as u32;
        Ok(Reader::new(view, call.db).run(program, keys, argv, seed)?)
    }
}
