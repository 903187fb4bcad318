//! What an interpreter runs.

use crate::error::ClientError;
use crate::types::libraries::Library;

use super::Script;
use super::budget::Abort;
use super::source::hex;

/// A script, or what is done with a library of functions.
#[derive(Clone, Copy)]
pub enum Program<'a> {
    Script(&'a Script),
    /// Loads a library, and answers its functions: name, description or nil, and flags of each.
    Library(Code<'a>),
    /// Calls the function that a library has registered under this name, in lower case.
    Function(Code<'a>, &'a str),
}

/// The code of a library.
#[derive(Clone, Copy)]
pub struct Code<'a> {
    pub digest: &'a [u8; 20],
    /// All of it, the first line included.
    pub text: &'a [u8],
}

impl<'a> Code<'a> {
    /// The code of a library that was loaded.
    #[must_use]
    pub fn of(library: &'a Library) -> Self {
        Self { digest: &library.digest, text: &library.code }
    }

    /// What Lua reads: from the end of the first line on.
    fn body(self) -> &'a [u8] {
        let end = self.text.iter().position(|byte| *byte == b'\n').unwrap_or(self.text.len());
        &self.text[end..]
    }
}

impl<'a> Program<'a> {
    /// What it is known by among all that was compiled.
    pub(super) fn key(self) -> String {
        match self {
            Self::Script(script) => script.name.clone(),
            Self::Library(code) | Self::Function(code, _) => format!("library {}", hex(code.digest)),
        }
    }

    /// What Lua reads.
    pub(super) fn body(self) -> &'a [u8] {
        match self {
            Self::Script(script) => script.body(),
            Self::Library(code) | Self::Function(code, _) => code.body(),
        }
    }

    /// What Lua calls it in errors, as in Redis.
    pub(super) const fn chunk(self) -> &'static str {
        match self {
            Self::Script(_) => "@user_script",
            Self::Library(_) | Self::Function(..) => "@user_function",
        }
    }

    /// The error of one that does not compile.
    pub(super) fn does_not_compile(self, why: &str) -> ClientError {
        ClientError::new(match self {
            Self::Script(_) => format!("ERR Error compiling script (new function): {why}"),
            Self::Library(_) | Self::Function(..) => format!("ERR Error compiling function: {why}"),
        })
    }

    /// The error of one that has failed, and where.
    pub(super) fn failed(self, why: &str, place: Option<&str>) -> ClientError {
        let name = match self {
            Self::Script(script) => &script.name,
            Self::Function(_, name) => name,
            Self::Library(_) => return self.failed_somewhere(why),
        };
        let place = place.map(|place| format!(", on {place}.")).unwrap_or_default();
        ClientError::new(format!("{why} script: {name}{place}"))
    }

    /// The error of one that was ended.
    pub(super) fn aborted(self, why: Abort) -> ClientError {
        match (self, why) {
            // Redis' words for a library that does not come to an end.
            (Self::Library(_), Abort::Steps) => self.failed("ERR FUNCTION LOAD timeout", None),
            _ => self.failed(&format!("ERR {why}"), None),
        }
    }

    /// The error of one that has failed nobody knows where.
    pub(super) fn failed_somewhere(self, why: &str) -> ClientError {
        ClientError::new(match self {
            Self::Script(_) | Self::Function(..) => why.to_owned(),
            Self::Library(_) => format!("ERR Error registering functions: {why}"),
        })
    }
}
