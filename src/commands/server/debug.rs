//! DEBUG: for tests of clients and of the cluster. Who may send it is the option `enable-debug-command`, see
//! [`gate`](crate::commands::gate).
//!
//! Of Redis' many subcommands there are those that other people's tests use and that mean something here. Some are
//! taken without effect: what they would change in Redis does not exist.

use std::time::Duration;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::READY;
use crate::commands::keys::object;
use crate::commands::{Answer, Args, Flags, Group, Hashed, Host, Node, Spec, args, help};
use crate::config;
use crate::error::{ClientError, Failure, Result, text};
use crate::resp::{Protocol, Reply, number};
use crate::session::Session as Connection;
use crate::store::View;
use crate::types::record::{Kind, Record};
use crate::types::{self, keyspace, libraries, size};

/// What stands for no value.
const NO_DIGEST: [u8; 20] = [0; 20];

/// What tests want of a node.
pub enum Debug {
    /// Answers late. Only this connection waits: there is no single thread to block.
    Sleep(Duration),
    SetActiveExpire(bool),
    /// Makes a checkpoint: what a start would load.
    Reload,
    /// Loads beside what is there, which is an error as soon as there is anything: it would be there twice.
    LoadTwice,
    Error(Bytes),
    Protocol(Bytes),
    Object(u8, Bytes),
    /// Of what is stored: the same on all nodes, and 0 if that is nothing.
    Digest(Hashed),
    DigestValue(u8, Vec<Bytes>),
    Populate(Population),
    Log(Bytes),
    RewriteConfig,
    StructSize,
    /// Changes what does not exist here.
    Nothing,
    Help,
}

impl Node for Debug {
    const SPEC: Spec = Spec {
        name: "DEBUG",
        syntax: "subcommand [argument ...]",
        summary: "A container for debugging commands",
        complexity: "Depends on subcommand.",
        flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(READY),
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const RELOAD: ClientError =
            ClientError::fixed("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.");
        const THRESHOLD: ClientError =
            ClientError::fixed("ERR argument must be a memory value bigger than 1 and smaller than 4gb");
        let name = args.bytes()?;
        let wrong = || args::wrong_subcommand("DEBUG", &name);
        Ok(match (name.to_ascii_lowercase().as_slice(), args.len()) {
            (b"sleep", 1) => Self::Sleep(seconds(&args.bytes()?)),
            (b"set-active-expire", 1) => Self::SetActiveExpire(is_set(&args.bytes()?)),
            (b"reload", _) => {
                let (mut keeps, mut merges) = (false, false);
                while !args.is_empty() {
                    if args.take("NOFLUSH") {
                        keeps = true;
                    } else if args.take("MERGE") {
                        merges = true;
                    } else if !args.take("NOSAVE") {
                        return Err(RELOAD.into());
                    }
                }
                if keeps && !merges { Self::LoadTwice } else { Self::Reload }
            }
            (b"loadaof", _) => {
                args.rest();
                Self::Reload
            }
            (b"error", 1) => Self::Error(args.bytes()?),
            (b"protocol", 1) => Self::Protocol(args.bytes()?),
            (b"object", 1) => Self::Object(args.db, args.bytes()?),
            (b"digest", 0) => Self::Digest(Hashed::Data),
            (b"digest-state", 0) => Self::Digest(Hashed::Everything),
            (b"digest-value", _) => Self::DigestValue(args.db, args.rest()),
            (b"populate", 1..=3) => Self::Populate(Population::parse(args)?),
            (b"log", 1) => Self::Log(args.bytes()?),
            (b"config-rewrite-force-all", 0) => Self::RewriteConfig,
            (b"structsize", 0) => Self::StructSize,
            (b"quicklist-packed-threshold", 1) => {
                let bytes = args.bytes()?;
                let bytes = str::from_utf8(&bytes).ok().and_then(config::byte_count).ok_or(THRESHOLD)?;
                if bytes > 1 << 32 {
                    return Err(THRESHOLD.into());
                }
                Self::Nothing
            }
            (b"pause-cron" | b"set-skip-checksum-validation" | b"set-disable-deny-scripts", 1)
            | (b"change-repl-id", 0) => {
                args.rest();
                Self::Nothing
            }
            (b"replybuffer", 2) => {
                if args.take("PEAK-RESET-TIME") {
                    if !(args.take("NEVER") || args.take("RESET")) {
                        args.int()?;
                    }
                } else if args.take("RESIZING") {
                    args.bytes()?;
                } else {
                    return Err(wrong().into());
                }
                Self::Nothing
            }
            (b"help", 0) => Self::Help,
            _ => return Err(wrong().into()),
        })
    }

    fn execute(self, connection: &mut Connection, host: &dyn Host) -> Result<Answer> {
        Ok(match self {
            Self::Sleep(pause) => Answer::After(pause, Reply::Ok),
            Self::SetActiveExpire(on) => {
                host.expire_actively(on);
                Reply::Ok.into()
            }
            Self::Reload => Answer::Checkpoint(Reply::Ok),
            Self::LoadTwice => Answer::Look(Box::new(|view| {
                const TWICE: ClientError = ClientError::fixed("ERR Error trying to load the RDB dump");
                let keys = (0..keyspace::DATABASES).map(|db| keyspace::count(view, db)).sum::<u64>();
                if keys > 0 || libraries::counts(view)?.libraries > 0 {
                    return Err(TWICE.into());
                }
                Ok(Reply::Ok)
            })),
            Self::Error(said) => {
                let said = String::from_utf8_lossy(&said).replace(['\r', '\n'], " ");
                return Err(ClientError::new(said).into());
            }
            Self::Protocol(kind) => sample(&kind, connection.protocol())?.into(),
            Self::Object(db, key) => Answer::Look(Box::new(move |view| describe(view, db, &key))),
            Self::Digest(what) => Answer::Digest(what),
            Self::DigestValue(db, keys) => Answer::Look(Box::new(move |view| {
                let digests = keys.iter().map(|key| {
                    let digest = value_digest(view, db, key)?.unwrap_or(NO_DIGEST);
                    Ok(hex(&digest))
                });
                Ok(Reply::Array(digests.collect::<Result<_>>()?))
            })),
            Self::Populate(keys) => Answer::Populate(keys),
            Self::Log(message) => {
                tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(&message));
                Reply::Ok.into()
            }
            Self::RewriteConfig => {
                host.config_rewrite()?;
                Reply::Ok.into()
            }
            Self::StructSize => Reply::bulk(format!("bits:{}", usize::BITS)).into(),
            Self::Nothing => Reply::Ok.into(),
            Self::Help => explain().into(),
        })
    }
}

/// The keys that DEBUG POPULATE makes, as far as they are not there: `prefix:0`, `prefix:1`, ...
pub struct Population {
    pub db: u8,
    pub count: u64,
    prefix: Bytes,
    /// Of each value; 0: as long as its text.
    pub size: usize,
}

impl Population {
    /// Redis makes a key's name in so much room, the last byte of which is C's.
    const NAME_BYTES_MAX: usize = 127;

    fn parse(args: &mut Args) -> Result<Self> {
        let positive = |args: &mut Args| {
            let given = number::parse_int(&args.bytes()?).and_then(|given: i64| u64::try_from(given).ok());
            Ok::<_, Failure>(given.ok_or(text::OUT_OF_RANGE)?)
        };
        let (db, count) = (args.db, positive(args)?);
        let prefix = if args.is_empty() { Bytes::from_static(b"key") } else { args.bytes()? };
        let size = if args.is_empty() { 0 } else { positive(args)? };
        Ok(Self { db, count, prefix, size: usize::try_from(size).unwrap_or(usize::MAX) })
    }

    /// The command that makes the key with this number.
    #[must_use]
    pub fn command(&self, number: u64) -> [Bytes; 4] {
        let prefix = self.prefix.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut name = [prefix, format!(":{number}").as_bytes()].concat();
        name.truncate(Self::NAME_BYTES_MAX);
        let mut value = format!("value:{number}").into_bytes();
        if self.size > 0 {
            value.resize(self.size, 0);
        }
        [Bytes::from_static(b"SET"), name.into(), value.into(), Bytes::from_static(b"NX")]
    }
}

/// As C's `atoi` would have it.
fn is_set(word: &[u8]) -> bool {
    word.trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit()).any(|digit| *digit != b'0')
}

/// How long DEBUG SLEEP is to last. Not a number counts as none, as with Redis' strtod.
fn seconds(text: &[u8]) -> Duration {
    Duration::try_from_secs_f64(number::parse_float(text).unwrap_or(0.0)).unwrap_or_default()
}

/// What a script is answered that calls DEBUG, if it may: it asks for a reply of some kind, which is the same on every
/// node, or wants its own reply late.
pub(in crate::commands) fn in_script(argv: &[Bytes]) -> Option<Result<Answer>> {
    let [name, subcommand, argument] = argv else { return None };
    if !name.eq_ignore_ascii_case(b"DEBUG") {
        return None;
    }
    match subcommand.to_ascii_lowercase().as_slice() {
        b"protocol" => Some(sample(argument, Protocol::Resp2).map(Answer::Now)),
        b"sleep" => Some(Ok(Answer::After(seconds(argument), Reply::Ok))),
        _ => None,
    }
}

/// A reply of the kind asked for.
fn sample(kind: &[u8], protocol: Protocol) -> Result<Reply> {
    const KINDS: ClientError = ClientError::fixed(
        "ERR Wrong protocol type name. Please use one of the following: \
         string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
    );
    const NOT_RESP2: ClientError = ClientError::fixed("ERR RESP2 is not supported by this command");
    let three = || (0..3).map(Reply::Int);
    Ok(match kind.to_ascii_lowercase().as_slice() {
        b"string" => Reply::text("Hello World"),
        b"integer" => Reply::Int(12_345),
        b"double" => Reply::Double(3141.0 / 1000.0),
        b"bignum" => Reply::BigNumber(Bytes::from_static(b"1234567999999999999999999999999999999")),
        b"null" => Reply::Nil,
        b"array" => Reply::Array(three().collect()),
        b"set" => Reply::Set(three().collect()),
        b"map" => Reply::Map((0..3).map(|place| (Reply::Int(place), Reply::Bool(place == 1))).collect()),
        b"attrib" => {
            let popularity = vec![Reply::text("key:123"), Reply::Int(90)];
            Reply::Sequence(vec![
                Reply::Attributes(vec![(Reply::text("key-popularity"), Reply::Array(popularity))]),
                Reply::text("Some real reply following the attribute"),
            ])
        }
        b"push" if protocol == Protocol::Resp2 => return Err(NOT_RESP2.into()),
        b"push" => Reply::Sequence(vec![
            Reply::Push(vec![Reply::text("server-cpu-usage"), Reply::Int(42)]),
            Reply::text("Some real reply following the push reply"),
        ]),
        b"true" => Reply::Bool(true),
        b"false" => Reply::Bool(false),
        b"verbatim" => Reply::Verbatim(Bytes::from_static(b"This is a verbatim\nstring")),
        _ => return Err(KINDS.into()),
    })
}

/// DEBUG OBJECT's line. There are no addresses to tell.
fn describe(view: &View, db: u8, key: &Bytes) -> Result<Reply> {
    let Some(record) = keyspace::peek(view, db, key)? else { return Err(text::NO_SUCH_KEY.into()) };
    let (encoding, bytes) = (types::encoding(&record), size::stored_bytes(key, &record)?);
    let (idle, references) = (keyspace::idle_seconds(view, db, key), object::references(&record));
    Ok(Reply::StatusText(Bytes::from(format!(
        "Value at:0x0 refcount:{references} encoding:{encoding} serializedlength:{bytes} lru:0 lru_seconds_idle:{idle}"
    ))))
}

/// What a value comes to, and when it ends: the same for the same, and another for others.
fn value_digest(view: &View, db: u8, key: &Bytes) -> Result<Option<[u8; 20]>> {
    let Some(record) = keyspace::peek(view, db, key)? else { return Ok(None) };
    let mut digest = Sha1::new();
    digest.update([record.header.kind as u8]);
    digest.update(record.header.deadline.unwrap_or(0).to_le_bytes());
    for part in parts(view, db, key, &record)? {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    Ok(Some(digest.finalize().into()))
}

/// All that a value consists of, in an order that does not depend on how it is kept.
fn parts(view: &View, db: u8, key: &Bytes, record: &Record) -> Result<Vec<Bytes>> {
    Ok(match record.header.kind {
        Kind::String => types::string::of(Some(record))?.cloned().into_iter().collect(),
        Kind::Hash => {
            let mut pairs = types::hash::of(Some(record))?.pairs(view)?;
            pairs.sort_unstable();
            pairs.into_iter().flat_map(|(field, value)| [field, value]).collect()
        }
        Kind::List => {
            let mut elements = Vec::new();
            types::list::get(view, db, key)?.walk(view, 0, &mut |_, element| {
                elements.push(element);
                std::ops::ControlFlow::Continue(())
            })?;
            elements
        }
    })
}

fn hex(digest: &[u8; 20]) -> Reply {
    let digits = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Reply::StatusText(digits.into())
}

fn explain() -> Reply {
    help::reply(
        "DEBUG",
        &[
            "CHANGE-REPL-ID",
            "    Accepted, without effect.",
            "CONFIG-REWRITE-FORCE-ALL",
            "    Like CONFIG REWRITE.",
            "DIGEST",
            "    Output a hex signature representing the current DB content.",
            "DIGEST-STATE",
            "    The same for all that nodes have in common: scripts, revisions, the clock, and so on.",
            "DIGEST-VALUE <key> [<key> ...]",
            "    Output a hex signature of the values of all the specified keys.",
            "ERROR <string>",
            "    Return a Redis protocol error with <string> as message.",
            "LOADAOF",
            "    Make a checkpoint.",
            "LOG <message>",
            "    Write <message> to the server log.",
            "OBJECT <key>",
            "    Show low level info about `key` and associated value.",
            "PAUSE-CRON <0|1>",
            "    Accepted, without effect.",
            "POPULATE <count> [<prefix>] [<size>]",
            "    Create <count> string keys named key:<num>, on all nodes. If <prefix> is specified then it",
            "    is used instead of the 'key' prefix.",
            "PROTOCOL <type>",
            "    Reply with a test value of the specified type. <type> can be: string,",
            "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
            "    true, false.",
            "QUICKLIST-PACKED-THRESHOLD <size>",
            "    Accepted, without effect.",
            "RELOAD [option ...]",
            "    Make a checkpoint. Valid <option> values: MERGE, NOFLUSH, NOSAVE. NOFLUSH without MERGE",
            "    fails if there is anything, which would then be there twice.",
            "REPLYBUFFER <PEAK-RESET-TIME <NEVER|RESET|time>|RESIZING <0|1>>",
            "    Accepted, without effect.",
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Setting it to 0 keeps this node, while it leads, from removing keys that end before they are",
            "    accessed, or something is written.",
            "SET-DISABLE-DENY-SCRIPTS <0|1>",
            "    Accepted, without effect: scripts may always call DEBUG PROTOCOL and DEBUG SLEEP, and nothing",
            "    else of DEBUG.",
            "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
            "    Accepted, without effect.",
            "SLEEP <seconds>",
            "    Make this client wait for <seconds>; in a script, for the script's reply. Decimals allowed.",
            "STRUCTSIZE",
            "    Return how many bits a pointer has.",
        ],
    )
}
