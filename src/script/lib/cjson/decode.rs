//! `cjson.decode`.
//!
//! The text ends at its first zero byte, as it does for redis-server, whose tokens these are: the names in
//! the errors are theirs.

use mlua::{Error, Lua, Result, String, Table, Value};

use super::Settings;
use crate::script::lib::{Meter, VALUES_MAX, number};

/// What a token costs, with what it adds to the value.
const TOKEN_STEPS: usize = 4;

/// The value of a JSON text.
pub fn decode(lua: &Lua, text: &String, settings: Settings) -> Result<Value> {
    let text = text.as_bytes();
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(Error::runtime("JSON parser does not support UTF-16 or UTF-32"));
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let lexer = Lexer { text: &text[..end], at: 0, allow_invalid_numbers: settings.decode_invalid };
    let mut decoder = Decoder { lua, settings, lexer, meter: Meter::new(lua), open: Vec::new(), slots: 1 };
    let value = decoder.document()?;
    decoder.meter.settle()?;
    Ok(value)
}

struct Decoder<'a> {
    lua: &'a Lua,
    settings: Settings,
    lexer: Lexer<'a>,
    meter: Meter<'a>,
    /// What is being read, from the outermost on.
    open: Vec<Open>,
    /// How many slots of Lua's stack redis-server would use by now.
    slots: usize,
}

/// A table of which a part is read.
enum Open {
    Array { table: Table, read: i64 },
    Object { table: Table, key: String },
}

/// How far a step has come.
enum Step {
    /// To the end of a value.
    Value(Value),
    /// To the beginning of another: its first token.
    Token(Token),
}

impl Decoder<'_> {
    fn document(&mut self) -> Result<Value> {
        let mut token = self.token()?;
        loop {
            let mut step = self.begin(&token)?;
            // A whole value goes into the table around it, which may be whole then too.
            while let Step::Value(value) = step {
                if self.open.is_empty() {
                    let end = self.token()?;
                    return if end.kind == Kind::End { Ok(value) } else { Err(unexpected("the end", &end)) };
                }
                step = self.add(value)?;
            }
            if let Step::Token(next) = step {
                token = next;
            }
        }
    }

    /// Reads what begins with the token: all of it, or a table up to its first value.
    fn begin(&mut self, token: &Token) -> Result<Step> {
        Ok(Step::Value(match &token.kind {
            Kind::String(bytes) => Value::String(self.lua.create_string(bytes)?),
            Kind::Number(number) => Value::Number(*number),
            Kind::Boolean(value) => Value::Boolean(*value),
            Kind::Null => Value::NULL,
            Kind::ObjectBegin => return self.begin_object(),
            Kind::ArrayBegin => return self.begin_array(),
            _ => return Err(unexpected("value", token)),
        }))
    }

    fn begin_object(&mut self) -> Result<Step> {
        self.descend(3)?;
        let table = self.lua.create_table()?;
        let token = self.token()?;
        if token.kind == Kind::ObjectEnd {
            return Ok(Step::Value(Value::Table(table)));
        }
        let key = self.key(&token)?;
        self.slots += 2;
        self.open.push(Open::Object { table, key });
        Ok(Step::Token(self.token()?))
    }

    fn begin_array(&mut self) -> Result<Step> {
        self.descend(2)?;
        let table = self.lua.create_table()?;
        let token = self.token()?;
        if token.kind == Kind::ArrayEnd {
            return Ok(Step::Value(Value::Table(table)));
        }
        self.slots += 1;
        self.open.push(Open::Array { table, read: 0 });
        Ok(Step::Token(token))
    }

    /// Fails if another table would nest too deeply.
    fn descend(&self, slots: usize) -> Result<()> {
        let (depth, at) = (self.open.len() + 1, self.lexer.at);
        if depth as i64 <= self.settings.decode_depth_max.into() && self.slots + slots <= VALUES_MAX {
            return Ok(());
        }
        let text = format!("Found too many nested data structures ({depth}) at character {at}");
        Err(Error::runtime(text))
    }

    fn key(&mut self, token: &Token) -> Result<String> {
        let Kind::String(bytes) = &token.kind else { return Err(unexpected("object key string", token)) };
        let key = self.lua.create_string(bytes)?;
        let colon = self.token()?;
        if colon.kind == Kind::Colon { Ok(key) } else { Err(unexpected("colon", &colon)) }
    }

    /// Puts a value into the innermost table, and goes on to its next value or its end.
    fn add(&mut self, value: Value) -> Result<Step> {
        match self.open.pop().expect("there is a table around the value") {
            Open::Array { table, read } => {
                table.raw_set(read + 1, value)?;
                let token = self.token()?;
                match token.kind {
                    Kind::ArrayEnd => {
                        self.slots -= 1;
                        return Ok(Step::Value(Value::Table(table)));
                    }
                    Kind::Comma => self.open.push(Open::Array { table, read: read + 1 }),
                    _ => return Err(unexpected("comma or array end", &token)),
                }
            }
            Open::Object { table, key } => {
                table.raw_set(key, value)?;
                let token = self.token()?;
                match token.kind {
                    Kind::ObjectEnd => {
                        self.slots -= 2;
                        return Ok(Step::Value(Value::Table(table)));
                    }
                    Kind::Comma => {
                        let token = self.token()?;
                        let key = self.key(&token)?;
                        self.open.push(Open::Object { table, key });
                    }
                    _ => return Err(unexpected("comma or object end", &token)),
                }
            }
        }
        Ok(Step::Token(self.token()?))
    }

    fn token(&mut self) -> Result<Token> {
        let before = self.lexer.at;
        let token = self.lexer.next();
        self.meter.steps(TOKEN_STEPS)?;
        self.meter.bytes(self.lexer.at - before)?;
        Ok(token)
    }
}

#[cold]
fn unexpected(expected: &str, token: &Token) -> Error {
    let (found, character) = (token.kind.name(), token.at + 1);
    Error::runtime(format!("Expected {expected} but found {found} at character {character}"))
}

/// A token and where it begins; one that is none, where it goes wrong.
struct Token {
    kind: Kind,
    at: usize,
}

#[derive(PartialEq)]
enum Kind {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Kind {
    /// The name errors have for it.
    const fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::String(_) => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Error(what) => what,
        }
    }
}

/// What was read, or what is wrong with it.
type Lexed<T> = std::result::Result<T, &'static str>;

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    allow_invalid_numbers: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &[u8] {
        &self.text[self.at..]
    }

    /// The byte there; zero at the end.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Token {
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        match self.kind() {
            Ok(kind) => Token { kind, at },
            Err(what) => Token { kind: Kind::Error(what), at: self.at },
        }
    }

    fn kind(&mut self) -> Lexed<Kind> {
        let single = match self.byte(self.at) {
            0 => return Ok(Kind::End),
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => return self.number(),
            b'{' => Kind::ObjectBegin,
            b'}' => Kind::ObjectEnd,
            b'[' => Kind::ArrayBegin,
            b']' => Kind::ArrayEnd,
            b',' => Kind::Comma,
            b':' => Kind::Colon,
            _ => return self.word(),
        };
        self.at += 1;
        Ok(single)
    }

    fn word(&mut self) -> Lexed<Kind> {
        for (word, kind) in
            [("true", Kind::Boolean(true)), ("false", Kind::Boolean(false)), ("null", Kind::Null)]
        {
            if self.rest().starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(kind);
            }
        }
        let may_be_number = matches!(self.byte(self.at), b'+' | b'i' | b'I' | b'n' | b'N');
        if may_be_number && self.allow_invalid_numbers && self.is_invalid_number() {
            return self.number();
        }
        Err("invalid token")
    }

    fn number(&mut self) -> Lexed<Kind> {
        if !self.allow_invalid_numbers && self.is_invalid_number() {
            return Err("invalid number");
        }
        let (number, length) = number::parse_prefix(self.rest()).ok_or("invalid number")?;
        self.at += length;
        Ok(Kind::Number(number))
    }

    /// Whether what begins here is a number to C, but not to JSON.
    fn is_invalid_number(&self) -> bool {
        let at = self.at + usize::from(self.byte(self.at) == b'-');
        match self.byte(at) {
            b'+' => at == self.at,
            b'0' => matches!(self.byte(at + 1), b'x' | b'X' | b'0'..=b'9'),
            0..=b'9' => false,
            _ => {
                let word = self.text.get(at..at + 3).unwrap_or_default();
                word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
            }
        }
    }

    fn string(&mut self) -> Lexed<Kind> {
        self.at += 1;
        let mut string = Vec::new();
        loop {
            let plain = self.rest().iter().position(|byte| matches!(byte, b'"' | b'\\'));
            let plain = plain.unwrap_or(self.rest().len());
            string.extend_from_slice(&self.rest()[..plain]);
            self.at += plain;
            match self.byte(self.at) {
                b'"' => {
                    self.at += 1;
                    return Ok(Kind::String(string));
                }
                b'\\' => self.escape(&mut string)?,
                _ => return Err("unexpected end of string"),
            }
        }
    }

    fn escape(&mut self, string: &mut Vec<u8>) -> Lexed<()> {
        string.push(match self.byte(self.at + 1) {
            same @ (b'"' | b'\\' | b'/') => same,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 12,
            b'r' => b'\r',
            b'u' => {
                let (character, length) = self.unicode().ok_or("invalid unicode escape code")?;
                string.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                self.at += length;
                return Ok(());
            }
            _ => return Err("invalid escape code"),
        });
        self.at += 2;
        Ok(())
    }

    /// The character that is escaped here, in one unit of UTF-16 or two, and how long that is.
    fn unicode(&self) -> Option<(char, usize)> {
        let first = self.unit(self.at)?;
        if !(0xD800..0xE000).contains(&first) {
            return Some((char::from_u32(first)?, 6));
        }
        let second = self.unit(self.at + 6)?;
        let character = char::decode_utf16([first as u16, second as u16]).next()?.ok()?;
        Some((character, 12))
    }

    /// The four digits after `\u`.
    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
    }
}
