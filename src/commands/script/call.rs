//! The commands of a script: what it may call, and how.
//!
//! What runs on the state does. Of what concerns a connection or a node, a script may use what is the same on
//! every node: PING, ECHO, SELECT (for its own further calls), TIME, which is the log entry's, DEBUG PROTOCOL, and
//! DEBUG SLEEP, for which nobody waits here: the reply to the client is kept back. A command that waits finds what there
//! is now.

use std::time::Duration;

use bytes::Bytes;

use crate::commands::server::{debug, monitor};
use crate::commands::{Answer, Args, Command, Flags, Lane, Resolved, resolve};
use crate::error::{ClientError, Failure, StoreError, text};
use crate::metrics::Outcome;
use crate::resp::{Reply, number};
use crate::script::{self, Caller, Program};
use crate::store::{Called, Shortage, Telling, Txn, View};
use crate::types::keyspace;

const NOT_ALLOWED: ClientError = ClientError::fixed("ERR This Redis command is not allowed from script");
const UNKNOWN: ClientError = ClientError::fixed("ERR Unknown Redis command called from script");
const WRONG_NUMBER: ClientError =
    ClientError::fixed("ERR Wrong number of args calling Redis command from script");
const READ_ONLY: ClientError =
    ClientError::fixed("ERR Write commands are not allowed from read-only scripts.");

/// A script that may write.
pub(in crate::commands) struct Writer<'t, 's> {
    tx: &'t mut Txn<'s>,
    db: u8,
    may: Permission,
    /// It has called a command that writes.
    has_written: bool,
    log: Log,
}

/// What a script or function has said about itself.
#[derive(Clone, Copy)]
pub(in crate::commands) struct Permission {
    /// It will not write.
    pub no_writes: bool,
    /// It may add data above `maxmemory`.
    pub allow_oom: bool,
}

impl Permission {
    /// Whether one that has said what it is may run at all.
    pub fn check_room(self, tx: &Txn) -> Result<(), ClientError> {
        match tx.effects.shortage {
            Some(Shortage::Memory) if !self.no_writes && !self.allow_oom => Err(Shortage::Memory.error()),
            _ => Ok(()),
        }
    }
}

impl<'t, 's> Writer<'t, 's> {
    pub fn new(tx: &'t mut Txn<'s>, db: u8, may: Permission) -> Self {
        let log = Log::new(tx);
        Self { tx, db, may, has_written: false, log }
    }

    /// Runs a program.
    pub fn run(
        mut self,
        program: Program,
        keys: &[Bytes],
        argv: &[Bytes],
        seed: u32,
    ) -> Result<Reply, StoreError> {
        let reply = script::evaluate(program, keys, argv, seed, &mut self)?;
        self.log.end(&reply, self.tx);
        Ok(reply)
    }

    /// Why a command that it calls must not run for want of room. Above `maxmemory` it may end what it has
    /// begun, as in Redis; where the disk is short nothing allows it to add data.
    fn refuse(&self, command: &Command) -> Option<ClientError> {
        let shortage = self.tx.effects.shortage?;
        let grows = command.spec.flags.has(Flags::DENYOOM);
        let allowed = shortage == Shortage::Memory && (self.may.allow_oom || self.has_written);
        (grows && !allowed).then(|| shortage.error())
    }
}

impl Caller for Writer<'_, '_> {
    fn call(&mut self, argv: Vec<Bytes>) -> Result<Reply, StoreError> {
        let admitted = admit(&argv, self.may.no_writes)
            .and_then(|resolved| self.refuse(resolved.command).map_or(Ok(resolved), Err));
        let resolved = match admitted {
            Ok(resolved) => resolved,
            Err(error) => return Ok(self.log.refused(&argv, error)),
        };
        self.has_written |= resolved.command.flags().has(Flags::WRITE);
        let reply = match resolved.command.lane {
            Lane::Write(_) | Lane::Read(_) => {
                resolved.apply(Args::new(&argv, resolved.skip, self.db), self.tx)?
            }
            Lane::Session(_) | Lane::Node(_) => {
                answer(&resolved, &argv, self.tx, &mut self.db, &mut self.log)?
            }
        };
        self.log.ran(resolved.command, self.db, argv, &reply);
        Ok(reply)
    }

    fn work(&self) -> u64 {
        self.tx.work()
    }

    fn knows(&self, argv: &[Bytes]) -> bool {
        resolve(argv).is_ok()
    }

    fn save(&mut self) {
        self.has_written = false;
        self.log.clear();
        self.tx.save();
    }

    fn undo(&mut self) {
        self.tx.undo();
    }

    fn keep(&mut self) {
        self.tx.keep();
    }
}

/// A script that only reads.
pub(in crate::commands) struct Reader<'v, 's> {
    view: &'v View<'s>,
    db: u8,
    log: Log,
}

impl<'v, 's> Reader<'v, 's> {
    pub fn new(view: &'v View<'s>, db: u8) -> Self {
        Self { view, db, log: Log::new(view) }
    }

    /// Runs a program.
    pub fn run(
        mut self,
        program: Program,
        keys: &[Bytes],
        argv: &[Bytes],
        seed: u32,
    ) -> Result<Reply, StoreError> {
        let reply = script::evaluate(program, keys, argv, seed, &mut self)?;
        self.log.end(&reply, self.view);
        Ok(reply)
    }
}

impl Caller for Reader<'_, '_> {
    fn call(&mut self, argv: Vec<Bytes>) -> Result<Reply, StoreError> {
        let resolved = match admit(&argv, true) {
            Ok(resolved) => resolved,
            Err(error) => return Ok(self.log.refused(&argv, error)),
        };
        let reply = match resolved.command.lane {
            Lane::Read(execute) => {
                self.view.mark_read();
                reply(execute(&mut Args::new(&argv, resolved.skip, self.db), self.view))?
            }
            _ => answer(&resolved, &argv, self.view, &mut self.db, &mut self.log)?,
        };
        self.log.ran(resolved.command, self.db, argv, &reply);
        Ok(reply)
    }

    fn work(&self) -> u64 {
        self.view.work()
    }

    fn knows(&self, argv: &[Bytes]) -> bool {
        resolve(argv).is_ok()
    }

    fn save(&mut self) {
        self.log.clear();
    }

    fn undo(&mut self) {}

    fn keep(&mut self) {}
}

/// What a script has called so far, if anybody here is to be told. A script that starts again begins a new one.
struct Log {
    telling: Telling,
    called: Called,
}

impl Log {
    fn new(view: &View) -> Self {
        Self { telling: view.telling(), called: Called::default() }
    }

    fn clear(&mut self) {
        self.called = Called::default();
    }

    /// A call that is not made; the reply to it.
    fn refused(&mut self, argv: &[Bytes], error: ClientError) -> Reply {
        if self.telling != Telling::Nothing {
            if let Ok(resolved) = resolve(argv) {
                self.called.count(resolved.command.index, Outcome::Rejected);
            }
            self.called.fail(&error);
        }
        error.into()
    }

    fn slept(&mut self, pause: Duration) {
        if self.telling != Telling::Nothing {
            self.called.sleep(pause);
        }
    }

    fn ran(&mut self, command: &Command, db: u8, argv: Vec<Bytes>, reply: &Reply) {
        if self.telling == Telling::Nothing {
            return;
        }
        let outcome = if reply.is_error() { Outcome::Failed } else { Outcome::Done };
        self.called.count(command.index, outcome);
        if let Reply::Error(error) = reply {
            self.called.fail(error);
        }
        if self.telling == Telling::Words && monitor::shows(command) {
            self.called.show(db, argv);
        }
    }

    fn end(self, reply: &Reply, view: &View) {
        if self.telling != Telling::Nothing {
            let error = if let Reply::Error(error) = reply { Some(error) } else { None };
            view.tell(self.called.end(error));
        }
    }
}

/// What a script calls, if it may.
fn admit(argv: &[Bytes], no_writes: bool) -> Result<Resolved, ClientError> {
    let resolved = resolve(argv)
        .map_err(|error| if error.as_str().starts_with("ERR unknown") { UNKNOWN } else { WRONG_NUMBER })?;
    if resolved.command.spec.flags.has(Flags::NOSCRIPT) && debug::in_script(argv).is_none() {
        return Err(NOT_ALLOWED);
    }
    if no_writes && matches!(resolved.command.lane, Lane::Write(_)) {
        return Err(READ_ONLY);
    }
    Ok(resolved)
}

/// What a command of a connection or a node answers in a script.
fn answer(
    resolved: &Resolved,
    argv: &[Bytes],
    view: &View,
    db: &mut u8,
    log: &mut Log,
) -> Result<Reply, StoreError> {
    Ok(match (resolved.command.spec.name, argv) {
        ("PING", [_]) => Reply::Status("PONG"),
        ("PING" | "ECHO", [_, message]) => Reply::Bulk(message.clone()),
        ("PING", _) => super::super::args::wrong_number("ping").into(),
        ("SELECT", [_, index]) => match number::parse_int(index) {
            None => text::NOT_AN_INTEGER.into(),
            Some(index) => match u8::try_from(index).ok().filter(|index| *index < keyspace::DATABASES) {
                Some(index) => {
                    *db = index;
                    Reply::Ok
                }
                None => text::DB_OUT_OF_RANGE.into(),
            },
        },
        ("TIME", _) => {
            let ms = view.now();
            Reply::Array([ms / 1000, ms % 1000 * 1000].map(|part| Reply::bulk(part.to_string())).into())
        }
        _ => match debug::in_script(argv) {
            Some(Ok(Answer::After(pause, reply))) => {
                log.slept(pause);
                reply
            }
            Some(Ok(Answer::Now(reply))) => reply,
            Some(Err(failure)) => return reply(Err(failure)),
            _ => NOT_ALLOWED.into(),
        },
    })
}

fn reply(result: Result<Reply, Failure>) -> Result<Reply, StoreError> {
    match result {
        Ok(reply) => Ok(reply),
        Err(Failure::Client(error)) => Ok(error.into()),
        Err(Failure::Store(error)) => Err(error),
    }
}
