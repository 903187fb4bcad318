//! Lua 5.1's patterns, matched without recursion.
//!
//! Lua matches by calling itself, once for each item of a pattern, and tries again when a call comes back with
//! nothing. Here the calls that could come back are in a vector ([`Choice`]), which is never longer than the
//! pattern; and everything tried is counted, because there are patterns of ten characters that try for hours.
//!
//! As for Lua, a pattern ends at its first zero byte, and what is wrong with it is found out only when matching
//! comes there.

use mlua::{Error, Result};

use crate::script::lib::Meter;

/// More captures are an error.
const CAPTURES_MAX: usize = 32;
/// What begins an escape.
const ESCAPE: u8 = b'%';

/// A part of the subject that a pattern captures.
#[derive(Clone, Copy)]
enum Capture {
    /// It begins here, and its end is not found yet.
    Open(usize),
    /// It begins here and is that long.
    Part(usize, usize),
    /// Only the position.
    Position(usize),
}

/// What a capture is once all has matched.
pub enum Captured {
    /// The bytes from the first place up to the second.
    Part(usize, usize),
    /// The place, counted from 0.
    Position(usize),
}

/// What to do when the items that follow do not match.
enum Choice {
    /// Go on here without the item.
    Without { at: usize, next: usize },
    /// Go on with one repetition less than these.
    Fewer { from: usize, count: usize, next: usize },
    /// Go on with one repetition more of the item between the two places of the pattern.
    More { at: usize, item: usize, next: usize },
    /// Forget the last capture.
    Forget,
    /// Take back the end of a capture.
    Reopen(usize),
}

/// A subject and a pattern.
pub struct Matcher<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
    captures: [Capture; CAPTURES_MAX],
    /// How many captures there are.
    level: usize,
    choices: Vec<Choice>,
    /// Counts what is done.
    pub meter: Meter<'a>,
}

/// How far an item has come.
enum Step {
    /// On to the item at the second place, with the subject at the first.
    Next(usize, usize),
    /// Not any further.
    Fail,
    /// To the end of the pattern.
    Done,
}

impl<'a> Matcher<'a> {
    /// One that has not looked yet.
    pub fn new(subject: &'a [u8], pattern: &'a [u8], meter: Meter<'a>) -> Self {
        let end = pattern.iter().position(|byte| *byte == 0).unwrap_or(pattern.len());
        let captures = [Capture::Position(0); CAPTURES_MAX];
        Self { subject, pattern: &pattern[..end], captures, level: 0, choices: Vec::new(), meter }
    }

    /// Whether the pattern begins with `^`, which is then no part of it any more.
    pub fn take_anchor(&mut self) -> bool {
        let rest = self.pattern.strip_prefix(b"^");
        self.pattern = rest.unwrap_or(self.pattern);
        rest.is_some()
    }

    /// The first match that begins at `from` or behind, or if `anchored` at `from` only: its two ends.
    pub fn search(&mut self, from: usize, anchored: bool) -> Result<Option<(usize, usize)>> {
        let last = if anchored { from } else { self.subject.len() };
        for start in from..=last {
            if let Some(end) = self.match_at(start)? {
                return Ok(Some((start, end)));
            }
        }
        Ok(None)
    }

    /// Where the match ends that begins at `start`, if there is one.
    fn match_at(&mut self, start: usize) -> Result<Option<usize>> {
        self.level = 0;
        self.choices.clear();
        let (mut at, mut item) = (start, 0);
        loop {
            self.meter.steps(1)?;
            (at, item) = match self.step(at, item)? {
                Step::Next(at, item) => (at, item),
                Step::Done => return Ok(Some(at)),
                Step::Fail => match self.retry()? {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
        }
    }

    /// Takes up the last choice.
    fn retry(&mut self) -> Result<Option<(usize, usize)>> {
        while let Some(choice) = self.choices.pop() {
            self.meter.steps(1)?;
            match choice {
                Choice::Without { at, next } => return Ok(Some((at, next))),
                Choice::Fewer { from, count, next } => {
                    if count > 1 {
                        self.choices.push(Choice::Fewer { from, count: count - 1, next });
                    }
                    return Ok(Some((from + count - 1, next)));
                }
                Choice::More { at, item, next } => {
                    if self.is_single(at, item, next)? {
                        self.choices.push(Choice::More { at: at + 1, item, next });
                        return Ok(Some((at + 1, next + 1)));
                    }
                }
                Choice::Forget => self.level -= 1,
                Choice::Reopen(index) => {
                    if let Capture::Part(from, _) = self.captures[index] {
                        self.captures[index] = Capture::Open(from);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The pattern's byte there; zero at its end.
    fn pattern_at(&self, at: usize) -> u8 {
        self.pattern.get(at).copied().unwrap_or(0)
    }

    /// The subject's byte there; zero at its end.
    fn subject_at(&self, at: usize) -> u8 {
        self.subject.get(at).copied().unwrap_or(0)
    }

    fn step(&mut self, at: usize, item: usize) -> Result<Step> {
        match (self.pattern_at(item), self.pattern_at(item + 1)) {
            (b'(', b')') => self.open_capture(Capture::Position(at), at, item + 2),
            (b'(', _) => self.open_capture(Capture::Open(at), at, item + 1),
            (b')', _) => self.close_capture(at, item + 1),
            (ESCAPE, b'b') => self.balanced(at, item + 2),
            (ESCAPE, b'f') => self.frontier(at, item + 2),
            (ESCAPE, digit @ b'0'..=b'9') => self.captured_again(at, item + 2, digit),
            (0, _) => Ok(Step::Done),
            (b'$', 0) => Ok(if at == self.subject.len() { Step::Done } else { Step::Fail }),
            _ => self.repeated(at, item),
        }
    }

    /// One character, and what says how often.
    fn repeated(&mut self, at: usize, item: usize) -> Result<Step> {
        let next = self.item_end(item)?;
        match self.pattern_at(next) {
            b'?' => {
                if !self.is_single(at, item, next)? {
                    return Ok(Step::Next(at, next + 1));
                }
                self.choices.push(Choice::Without { at, next: next + 1 });
                Ok(Step::Next(at + 1, next + 1))
            }
            b'*' => self.most(at, item, next),
            b'+' if self.is_single(at, item, next)? => self.most(at + 1, item, next),
            b'-' => {
                self.choices.push(Choice::More { at, item, next });
                Ok(Step::Next(at, next + 1))
            }
            b'+' => Ok(Step::Fail),
            _ if self.is_single(at, item, next)? => Ok(Step::Next(at + 1, next)),
            _ => Ok(Step::Fail),
        }
    }

    /// As many repetitions as there are.
    fn most(&mut self, from: usize, item: usize, next: usize) -> Result<Step> {
        let mut count = 0;
        while self.is_single(from + count, item, next)? {
            count += 1;
        }
        if count > 0 {
            self.choices.push(Choice::Fewer { from, count, next: next + 1 });
        }
        Ok(Step::Next(from + count, next + 1))
    }

    fn open_capture(&mut self, capture: Capture, at: usize, next: usize) -> Result<Step> {
        if self.level >= CAPTURES_MAX {
            return Err(Error::runtime("too many captures"));
        }
        self.captures[self.level] = capture;
        self.level += 1;
        self.choices.push(Choice::Forget);
        Ok(Step::Next(at, next))
    }

    fn close_capture(&mut self, at: usize, next: usize) -> Result<Step> {
        let open = self.captures[..self.level].iter().enumerate().rev().find_map(|(index, capture)| {
            if let Capture::Open(from) = capture { Some((index, *from)) } else { None }
        });
        let (index, from) = open.ok_or_else(|| Error::runtime("invalid pattern capture"))?;
        self.captures[index] = Capture::Part(from, at - from);
        self.choices.push(Choice::Reopen(index));
        Ok(Step::Next(at, next))
    }

    /// `%1`: what was captured, once more.
    fn captured_again(&mut self, at: usize, next: usize, digit: u8) -> Result<Step> {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let capture = self.captures[..self.level].get(index).copied();
        let (from, length) = match capture {
            Some(Capture::Part(from, length)) => (from, length),
            Some(Capture::Position(_)) => return Ok(Step::Fail),
            Some(Capture::Open(_)) | None => return Err(Error::runtime("invalid capture index")),
        };
        self.meter.bytes(length)?;
        let again = self.subject[at..].starts_with(&self.subject[from..from + length]);
        Ok(if again { Step::Next(at + length, next) } else { Step::Fail })
    }

    /// `%b()`: from an opening to the closing that belongs to it.
    fn balanced(&mut self, at: usize, item: usize) -> Result<Step> {
        let (open, close) = (self.pattern_at(item), self.pattern_at(item + 1));
        if open == 0 || close == 0 {
            return Err(Error::runtime("unbalanced pattern"));
        }
        if self.subject_at(at) != open {
            return Ok(Step::Fail);
        }
        let mut depth = 1_usize;
        for (passed, byte) in self.subject[at + 1..].iter().enumerate() {
            self.meter.steps(1)?;
            if *byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Step::Next(at + passed + 2, item + 2));
                }
            } else if *byte == open {
                depth += 1;
            }
        }
        Ok(Step::Fail)
    }

    /// `%f[set]`: between what is not in the set and what is.
    fn frontier(&mut self, at: usize, item: usize) -> Result<Step> {
        if self.pattern_at(item) != b'[' {
            return Err(Error::runtime("missing '[' after '%f' in pattern"));
        }
        let next = self.item_end(item)?;
        let before = if at == 0 { 0 } else { self.subject[at - 1] };
        let is_frontier =
            !self.in_set(before, item, next - 1) && self.in_set(self.subject_at(at), item, next - 1);
        Ok(if is_frontier { Step::Next(at, next) } else { Step::Fail })
    }

    /// Where the item ends that is one character or a set of them.
    fn item_end(&mut self, item: usize) -> Result<usize> {
        let mut next = item + 1;
        match self.pattern_at(item) {
            ESCAPE if self.pattern_at(next) == 0 => Err(Error::runtime("malformed pattern (ends with '%')")),
            ESCAPE => Ok(next + 1),
            b'[' => {
                if self.pattern_at(next) == b'^' {
                    next += 1;
                }
                // The first character belongs to the set, also if it is a bracket.
                loop {
                    let byte = self.pattern_at(next);
                    if byte == 0 {
                        return Err(Error::runtime("malformed pattern (missing ']')"));
                    }
                    next += 1;
                    if byte == ESCAPE && self.pattern_at(next) != 0 {
                        next += 1;
                    }
                    if self.pattern_at(next) == b']' {
                        break;
                    }
                }
                self.meter.steps((next - item) / 4)?;
                Ok(next + 1)
            }
            _ => Ok(next),
        }
    }

    /// Whether the character there fits the item between `item` and `next`.
    fn is_single(&mut self, at: usize, item: usize, next: usize) -> Result<bool> {
        self.meter.steps(1 + (next - item) / 4)?;
        let Some(byte) = self.subject.get(at).copied() else { return Ok(false) };
        Ok(match self.pattern[item] {
            b'.' => true,
            ESCAPE => in_class(byte, self.pattern[item + 1]),
            b'[' => self.in_set(byte, item, next - 1),
            same => same == byte,
        })
    }

    /// Whether a character is in the set whose brackets are there.
    fn in_set(&self, byte: u8, open: usize, close: usize) -> bool {
        let is_complement = self.pattern_at(open + 1) == b'^';
        let mut set = &self.pattern[open + 1 + usize::from(is_complement)..close];
        loop {
            let (is_in, rest) = match set {
                [] => return is_complement,
                [ESCAPE, class, rest @ ..] => (in_class(byte, *class), rest),
                [first, b'-', last, rest @ ..] => ((*first..=*last).contains(&byte), rest),
                [same, rest @ ..] => (*same == byte, rest),
            };
            if is_in {
                return !is_complement;
            }
            set = rest;
        }
    }

    /// How many captures the match has.
    pub const fn captures(&self) -> usize {
        self.level
    }

    /// One of them; of a match without captures, the first is all of it.
    pub fn capture(&self, index: usize, (start, end): (usize, usize)) -> Result<Captured> {
        if self.level == 0 && index == 0 {
            return Ok(Captured::Part(start, end));
        }
        match self.captures[..self.level].get(index) {
            Some(Capture::Part(from, length)) => Ok(Captured::Part(*from, from + length)),
            Some(Capture::Position(at)) => Ok(Captured::Position(*at)),
            Some(Capture::Open(_)) => Err(Error::runtime("unfinished capture")),
            None => Err(Error::runtime("invalid capture index")),
        }
    }
}

/// Whether a character is in the class of that letter, or outside of it if the letter is a capital; what
/// is no letter of a class means itself.
fn in_class(byte: u8, class: u8) -> bool {
    let is_in = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | 9..=13),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is_in == class.is_ascii_lowercase()
}
