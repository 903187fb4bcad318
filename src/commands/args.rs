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
    words: Words<'a>,
    /// How many words are the name.
    skip: usize,
    /// The next argument's place among the words.
    next: usize,
    /// The database the connection has selected.
    pub db: u8,
}

/// All words of a command, its name as the client wrote it included.
#[derive(Clone, Copy, Debug)]
enum Words<'a> {
    /// Each by itself.
    Held(&'a [Bytes]),
    /// Where they lie in something larger.
    Within(&'a Bytes, &'a [&'a [u8]]),
}

impl<'a> Args<'a> {
    /// The arguments of `argv`, whose first `skip` words are the name.
    #[must_use]
    pub const fn new(argv: &'a [Bytes], skip: usize, db: u8) -> Self {
        Self { words: Words::Held(argv), skip, next: skip, db }
    }

    /// The same of an `argv` whose words lie in `whole`: only who keeps one counts as a holder of that.
    #[must_use]
    pub const fn within(whole: &'a Bytes, argv: &'a [&'a [u8]], skip: usize, db: u8) -> Self {
        Self { words: Words::Within(whole, argv), skip, next: skip, db }
    }

    /// How many are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.words.len() - self.next
    }

    /// Whether none is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next argument, without taking it.
    #[must_use]
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.words.get(self.next)
    }

    /// The next argument.
    fn word(&mut self) -> Result<&'a [u8]> {
        let word = self.peek().ok_or(text::SYNTAX)?;
        self.next += 1;
        Ok(word)
    }

    /// The next argument, to keep.
    pub fn bytes(&mut self) -> Result<Bytes> {
        let word = self.words.get_bytes(self.next).ok_or(text::SYNTAX)?;
        self.next += 1;
        Ok(word)
    }

    /// All that are left, to keep.
    pub fn rest(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| self.bytes().ok()).collect()
    }

    /// The next argument, as an integer.
    pub fn int(&mut self) -> Result<i64> {
        self.number(number::parse_int, text::NOT_AN_INTEGER)
    }

    /// The next argument, as a finite floating point number.
    pub fn float(&mut self) -> Result<f64> {
        self.number(number::parse_float, text::NOT_A_FLOAT)
    }

    fn number<T>(&mut self, parse: fn(&[u8]) -> Option<T>, otherwise: ClientError) -> Result<T> {
        Ok(parse(self.word()?).ok_or(otherwise)?)
    }

    /// Takes the next argument if it is `word` (in any case).
    pub fn take(&mut self, word: &str) -> bool {
        let is_next = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(word.as_bytes()));
        self.next += usize::from(is_next);
        is_next
    }

    /// Fails unless all were taken.
    pub fn end(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(text::SYNTAX.into()) }
    }

    fn name(&self) -> Vec<&'a [u8]> {
        (0..self.skip).filter_map(|place| self.words.get(place)).collect()
    }

    /// "wrong number of arguments", for rules that arity cannot say (MSET's pairs).
    #[must_use]
    pub fn wrong_number(&self) -> ClientError {
        wrong_number(&String::from_utf8_lossy(&self.name().join(&b'|')).to_ascii_lowercase())
    }

    /// What Redis says instead of "wrong number of arguments" where a subcommand's number of arguments is
    /// not fixed.
    #[must_use]
    pub fn wrong_subcommand(&self) -> ClientError {
        let name = self.name();
        let [container, .., subcommand] = name[..] else { return self.wrong_number() };
        wrong_subcommand(&String::from_utf8_lossy(container), subcommand)
    }
}

impl<'a> Words<'a> {
    const fn len(self) -> usize {
        match self {
            Words::Held(words) => words.len(),
            Words::Within(_, words) => words.len(),
        }
    }

    fn get(self, place: usize) -> Option<&'a [u8]> {
        match self {
            Words::Held(words) => words.get(place).map(|word| &word[..]),
            Words::Within(_, words) => words.get(place).copied(),
        }
    }

    fn get_bytes(self, place: usize) -> Option<Bytes> {
        match self {
            Words::Held(words) => words.get(place).cloned(),
            Words::Within(whole, words) => words.get(place).map(|word| whole.slice_ref(word)),
        }
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
