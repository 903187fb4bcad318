//! FUNCTION DUMP and FUNCTION RESTORE.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::library::{FULL, function_exists};
use super::payload::{self, Damage};
use crate::commands::{Args, Flags, Group, Read, Spec, Write};
use crate::error::{ClientError, Result};
use crate::resp::Reply;
use crate::script::{self, Header, SOURCE_BYTES_MAX};
use crate::store::{Txn, View};
use crate::types::libraries::{self, Library};

/// All libraries in one string.
pub struct Dump;

impl Read for Dump {
    const SPEC: Spec = Spec {
        name: "FUNCTION|DUMP",
        summary: "Dump all functions into a serialized binary payload",
        complexity: "O(N) where N is the number of functions",
        since: "7.0.0",
        flags: Flags::NOSCRIPT.and(Flags::READS_NO_KEY),
        ..Spec::of(Group::Scripting)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let all = libraries::all(view)?;
        Ok(Reply::bulk(payload::encode(all.iter().map(|(_, library)| &library.code))))
    }
}

/// What becomes of the libraries that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Append,
    Replace,
    Flush,
}

/// Loads the libraries of a payload.
pub struct Restore {
    payload: Bytes,
    policy: Policy,
}

impl Write for Restore {
    const SPEC: Spec = Spec {
        name: "FUNCTION|RESTORE",
        syntax: "serialized-value [FLUSH | APPEND | REPLACE]",
        summary: "Restore all the functions on the given payload",
        complexity: "O(N) where N is the number of functions on the payload",
        since: "7.0.0",
        flags: Flags::NOSCRIPT.and(Flags::DENYOOM),
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const WRONG_POLICY: ClientError = ClientError::fixed(
            "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
        );
        if args.len() > 2 {
            return Err(args.wrong_subcommand().into());
        }
        let payload = args.bytes()?;
        let policy = match () {
            () if args.is_empty() || args.take("APPEND") => Policy::Append,
            () if args.take("REPLACE") => Policy::Replace,
            () if args.take("FLUSH") => Policy::Flush,
            () => return Err(WRONG_POLICY.into()),
        };
        Ok(Self { payload, policy })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let restored = self.libraries()?;
        let mut kept = libraries::counts(tx)?.bytes;
        for name in restored.keys() {
            match (self.policy, libraries::get(tx, name)?) {
                (Policy::Append, Some(_)) => {
                    let shown = String::from_utf8_lossy(name);
                    return Err(ClientError::new(format!("ERR Library {shown} already exists")).into());
                }
                (Policy::Replace, Some(replaced)) => kept -= libraries::size(&replaced),
                (_, _) => {}
            }
        }
        if self.policy == Policy::Flush {
            kept = 0;
        } else {
            for function in restored.values().flat_map(|library| &library.functions) {
                let other = libraries::library_of(tx, &function.name)?;
                if other.is_some_and(|other| !restored.contains_key(&other)) {
                    return Err(function_exists(&function.name).into());
                }
            }
        }
        let added: u64 = restored.values().map(libraries::size).sum();
        if kept + added > libraries::BYTES_MAX {
            return Err(FULL.into());
        }
        if self.policy == Policy::Flush {
            libraries::flush(tx)?;
        }
        for (name, library) in &restored {
            libraries::put(tx, name, library)?;
        }
        Ok(Reply::Ok)
    }
}

impl Restore {
    /// The libraries of the payload, by name.
    fn libraries(&self) -> Result<BTreeMap<Bytes, Library>> {
        let codes = payload::decode(&self.payload, SOURCE_BYTES_MAX).map_err(|damage| {
            ClientError::fixed(match damage {
                Damage::Footer => "ERR DUMP payload version or checksum are wrong",
                Damage::Kind => "ERR given type is not a function",
                Damage::Library => "ERR Failed loading library code",
            })
        })?;
        let mut restored = BTreeMap::new();
        let mut names = BTreeSet::new();
        for code in codes {
            let Header { name } = Header::parse(&code)?;
            let library = script::functions(&code)?;
            for function in &library.functions {
                if !names.insert(function.name.to_ascii_lowercase()) {
                    return Err(function_exists(&function.name).into());
                }
            }
            if restored.insert(name.clone(), library).is_some() {
                let shown = String::from_utf8_lossy(&name);
                return Err(ClientError::new(format!("ERR Library '{shown}' already exists")).into());
            }
        }
        Ok(restored)
    }
}
