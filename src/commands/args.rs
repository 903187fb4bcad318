//! The arguments of one command, read from left to right.

use bytes::Bytes;

use crate::error::{ClientError, Result, text};
use crate::resp::number;

/// The arguments after the command's name (and, for a subcommand, after that name too).
///
/// Each method takes the next argument or fails as Redis does. Arity was checked before, so a missing
/// argument in the middle of an option is a syntax error.
#[derive(Debug)]
pub struct Args<'a> {
    /// The name as the client wrote it, one word or two, for error texts.
    words: &'a [Bytes],
    rest: &'a [Bytes],
    /// The database the connection has selected.
    pub db: u8,
}

impl<'a> Args<'a> {
    /// The arguments of `argv`, whose first `skip` words are the name.
    #[must_use]
    pub fn new(argv: &'a [Bytes], skip: usize, db: u8) -> Self {
        Self { words: &argv[..skip], rest: &argv[skip..], db }
    }

    /// How many are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether none is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next argument, without taking it.
    #[must_use]
    pub fn peek(&self) -> Option<&'a Bytes> {
        self.rest.first()
    }

    /// The next argument.
    pub fn bytes(&mut self) -> Result<Bytes> {
        let (first, rest) = self.rest.split_first().ok_or(text::SYNTAX)?;
        self.rest = rest;
        Ok(first.clone())
    }

    /// All that are left.
    pub fn rest(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.rest).to_vec()
    }

    /// The next argument, as an integer.
    pub fn int(&mut self) -> Result<i64> {
        Ok(number::parse_int(&self.bytes()?).ok_or(text::NOT_AN_INTEGER)?)
    }

    /// The next argument, as a finite floating point number.
    pub fn float(&mut self) -> Result<f64> {
        Ok(number::parse_float(&self.bytes()?).ok_or(text::NOT_A_FLOAT)?)
    }

    /// Takes the next argument if it is `word` (in any case).
    pub fn take(&mut self, word: &str) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if first.eq_ignore_ascii_case(word.as_bytes()) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Fails unless all were taken.
    pub fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(text::SYNTAX.into()) }
    }

    /// "wrong number of arguments", for rules that arity cannot say (MSET's pairs).
    #[must_use]
    pub fn wrong_number(&self) -> ClientError {
        wrong_number(&String::from_utf8_lossy(&self.words.join(&b'|')).to_ascii_lowercase())
    }

    /// What Redis says instead of "wrong number of arguments" where a subcommand's number of arguments is
    /// not fixed.
    #[must_use]
    pub fn wrong_subcommand(&self) -> ClientError {
        let [container, .., subcommand] = self.words else { return self.wrong_number() };
        wrong_subcommand(&String::from_utf8_lossy(container), subcommand)
    }
}

/// "wrong number of arguments" for the command called `name` (lower case, a subcommand's is
/// `parent|name`).
#[must_use]
pub fn wrong_number(name: &str) -> ClientError {
    ClientError::new(format!("ERR wrong number of arguments for '{name}' command"))
}

/// "unknown subcommand or wrong number of arguments" for what was sent as `subcommand` of `container`.
#[must_use]
pub fn wrong_subcommand(container: &str, subcommand: &[u8]) -> ClientError {
    let shown = String::from_utf8_lossy(&subcommand[..subcommand.len().min(128)]);
    let container = container.to_ascii_uppercase();
    ClientError::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {container} HELP."
    ))
}

/// "unknown subcommand" for what was sent as `subcommand` of `name`.
#[must_use]
pub fn unknown_subcommand(name: &[u8], subcommand: &[u8]) -> ClientError {
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    let subcommand = String::from_utf8_lossy(&subcommand[..subcommand.len().min(128)]);
    ClientError::new(format!("ERR unknown subcommand '{subcommand}'. Try {name} HELP."))
}
