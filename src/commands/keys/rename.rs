//! Keys that change their name or their database.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Spec, Write};
use crate::error::{ClientError, Result, text};
use crate::resp::{Reply, number};
use crate::store::Txn;
use crate::types::{Class, DATABASES, Place, keyspace};

/// Gives a key another name.
pub struct Rename {
    db: u8,
    from: Bytes,
    to: Bytes,
}

impl Write for Rename {
    const SPEC: Spec = Spec {
        name: "RENAME",
        syntax: "key newkey",
        summary: "Rename a key",
        keys: Keys::two(1, Access::Take, Access::Overwrite),
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, from: args.bytes()?, to: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        keyspace::rename(tx, self.db, &self.from, &self.to)?;
        Ok(Reply::Ok)
    }
}

/// Gives a key a name that no key has.
pub struct RenameNx(Rename);

impl Write for RenameNx {
    const SPEC: Spec = Spec {
        name: "RENAMENX",
        syntax: "key newkey",
        summary: "Rename a key, only if the new key does not exist",
        keys: Keys::two(1, Access::Take, Access::Create),
        flags: Flags::FAST,
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Rename::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let Rename { db, from, to } = &self.0;
        if !keyspace::exists(tx, *db, from)? {
            return Err(text::NO_SUCH_KEY.into());
        }
        if keyspace::exists(tx, *db, to)? {
            return Ok(Reply::Int(0));
        }
        keyspace::rename(tx, *db, from, to)?;
        Ok(Reply::Int(1))
    }
}

/// Copies a key.
pub struct Copy {
    db: u8,
    from: Bytes,
    to_db: u8,
    to: Bytes,
    replace: bool,
}

impl Write for Copy {
    const SPEC: Spec = Spec {
        name: "COPY",
        syntax: "source destination [DB destination-db] [REPLACE]",
        summary: "Copy a key",
        since: "6.2.0",
        keys: Keys::two(1, Access::Read, Access::Overwrite),
        flags: Flags::DENYOOM,
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, from, to) = (args.db, args.bytes()?, args.bytes()?);
        let (mut to_db, mut replace) = (db, false);
        while !args.is_empty() {
            if args.take("REPLACE") {
                replace = true;
            } else if args.take("DB") {
                to_db = parse_database(&args.bytes()?)?;
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        if (db, &from) == (to_db, &to) {
            return Err(text::SAME_OBJECT.into());
        }
        Ok(Self { db, from, to_db, to, replace })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let Some(record) = keyspace::get(tx, self.db, &self.from)? else {
            keyspace::notify_miss(tx, self.db, &self.from);
            return Ok(Reply::Int(0));
        };
        let target = Place::find(tx, self.to_db, &self.to)?;
        if target.exists() && !self.replace {
            return Ok(Reply::Int(0));
        }
        target.put_copy(tx, &record)?;
        keyspace::notify(tx, Class::Generic, "copy_to", self.to_db, &self.to);
        Ok(Reply::Int(1))
    }
}

/// Moves a key to another database.
pub struct Move {
    db: u8,
    key: Bytes,
    to_db: u8,
}

impl Write for Move {
    const SPEC: Spec = Spec {
        name: "MOVE",
        syntax: "key db",
        summary: "Move a key to another database",
        keys: Keys::at(1, Access::Update),
        flags: Flags::FAST,
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key, to_db) = (args.db, args.bytes()?, parse_database(&args.bytes()?)?);
        if db == to_db {
            return Err(text::SAME_OBJECT.into());
        }
        Ok(Self { db, key, to_db })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let source = Place::find(tx, self.db, &self.key)?;
        let Some(record) = source.record().cloned() else { return Ok(Reply::Int(0)) };
        let target = Place::find(tx, self.to_db, &self.key)?;
        if target.exists() {
            return Ok(Reply::Int(0));
        }
        target.put_moved(tx, &record);
        source.vacate(tx);
        keyspace::notify(tx, Class::Generic, "move_from", self.db, &self.key);
        keyspace::notify(tx, Class::Generic, "move_to", self.to_db, &self.key);
        Ok(Reply::Int(1))
    }
}

/// Exchanges two databases.
pub struct SwapDb {
    one: u8,
    other: u8,
}

impl Write for SwapDb {
    const SPEC: Spec = Spec {
        name: "SWAPDB",
        syntax: "index1 index2",
        summary: "Swaps two Redis databases",
        since: "4.0.0",
        flags: Flags::FAST.and(Flags::DANGEROUS),
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let one = parse_int32(&args.bytes()?).map_err(|_| text::INVALID_FIRST_DB)?;
        let other = parse_int32(&args.bytes()?).map_err(|_| text::INVALID_SECOND_DB)?;
        Ok(Self { one: database(one)?, other: database(other)? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        keyspace::swap(tx, self.one, self.other);
        Ok(Reply::Ok)
    }
}

fn parse_database(text: &[u8]) -> Result<u8, ClientError> {
    database(parse_int32(text)?)
}

/// Redis reads a database's number into a C `int`, and says so.
fn parse_int32(text: &[u8]) -> Result<i32, ClientError> {
    let number = number::parse_int(text).ok_or(text::NOT_AN_INTEGER)?;
    i32::try_from(number).map_err(|_| text::NOT_AN_INT32)
}

fn database(number: i32) -> Result<u8, ClientError> {
    u8::try_from(number).ok().filter(|db| *db < DATABASES).ok_or(text::DB_OUT_OF_RANGE)
}
