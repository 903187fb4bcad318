//! The Redis protocol, as much of it as a load generator needs: replies are counted, not understood.

use anyhow::{Context as _, Result, bail};
use compat_tests::client::encode;

use super::template::{Keys, Template};
use super::{Dialect, Replies};
use crate::workload::{Chance, Command, MSET_KEYS, Mix};

/// Longest line that can be the head of a reply, rather than nonsense.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What lock libraries release a lock with.
const RELEASE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

/// What asks whether a replica has everything that its connection has written, and waits for that.
const WAIT: &[u8] = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n";

/// Requests of one mix.
pub struct Resp {
    mix: Mix,
    /// Whether each round ends with [`WAIT`], and is answered when that is.
    waits: bool,
    chance: Chance,
    keys: Keys,
    set: Template,
    get: Template,
    mset: Template,
    incr: Template,
    acquire: Template,
    release: Template,
    script: Template,
}

impl Resp {
    /// Requests of `mix` for `keys`, with values of so many bytes.
    #[must_use]
    pub fn new(mix: Mix, value_bytes: usize, chance: Chance, keys: Keys) -> Self {
        let key = Template::key("key");
        let value = "x".repeat(value_bytes);
        let (lock, counter) = (Template::key("lock"), Template::key("counter"));
        let template = |words: &[&str]| Template::new(encode(words));
        let mut mset = vec!["MSET"];
        for _ in 0..MSET_KEYS {
            mset.extend([key.as_str(), &value]);
        }
        Self {
            mix,
            waits: false,
            chance,
            keys,
            set: template(&["SET", &key, &value]),
            get: template(&["GET", &key]),
            mset: template(&mset),
            incr: template(&["INCR", &counter]),
            acquire: template(&["SET", &lock, "token", "NX", "PX", "30000"]),
            release: template(&["EVAL", RELEASE, "1", &lock, "token"]),
            script: template(&["EVAL", "return redis.call('INCR', KEYS[1])", "1", &counter]),
        }
    }

    /// The same, each round of which is done when a replica has it.
    #[must_use]
    pub fn on_a_replica(self) -> Self {
        Self { waits: true, ..self }
    }
}

impl Dialect for Resp {
    type State = State;

    fn greet(&self, _wire: &mut Vec<u8>) {}

    fn request(&mut self, state: &mut State, wire: &mut Vec<u8>) {
        let template = match self.mix.pick(&mut self.chance) {
            Command::Lock => {
                let held = state.lock.take();
                let (template, lock) = match held {
                    Some(lock) => (&self.release, lock),
                    None => (&self.acquire, *state.lock.insert(self.keys.next())),
                };
                return template.append_for(wire, || lock);
            }
            Command::Script => &self.script,
            Command::Set => &self.set,
            Command::Get => &self.get,
            Command::Mset => &self.mset,
            Command::Incr => &self.incr,
        };
        template.append(wire, &mut self.keys);
    }

    fn end_round(&mut self, state: &mut State, requests: u64, wire: &mut Vec<u8>) {
        if self.waits && requests > 0 {
            wire.extend_from_slice(WAIT);
            state.round = requests + 1;
        }
    }

    fn read(&mut self, state: &mut State, bytes: &[u8], _wire: &mut Vec<u8>) -> Result<Replies> {
        let mut replies = state.read(bytes)?;
        if self.waits {
            state.hold(&mut replies)?;
        }
        Ok(replies)
    }
}

/// What came of a reply that is not whole yet.
#[derive(Debug, Default)]
pub struct State {
    /// The beginning of a line.
    line: Vec<u8>,
    /// Bytes of a bulk string that are still to come, with the line end after it.
    bulk: usize,
    /// Elements that are still to come, after the one that is being read.
    elements: usize,
    /// The lock that was asked for last, if its release is next.
    lock: Option<u64>,
    /// Replies of a round that are still to come, that to [`WAIT`] included; and how many came.
    round: u64,
    held: u64,
}

impl State {
    /// Keeps the replies of a round back until the last one is there, which is about all of them.
    fn hold(&mut self, replies: &mut Replies) -> Result<()> {
        self.round = self.round.checked_sub(replies.count).context("more replies than requests")?;
        self.held += std::mem::take(&mut replies.count);
        if self.round == 0 {
            replies.count = std::mem::take(&mut self.held).saturating_sub(1);
        }
        Ok(())
    }

    /// Counts the replies that end in `bytes`.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<Replies> {
        let mut replies = Replies::default();
        while !bytes.is_empty() {
            if self.bulk > 0 {
                let taken = self.bulk.min(bytes.len());
                bytes = &bytes[taken..];
                self.bulk -= taken;
                if self.bulk == 0 {
                    self.end_element(&mut replies);
                }
                continue;
            }
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                if self.line.len() > LINE_BYTES_MAX {
                    bail!("a reply that begins with a line without end");
                }
                break;
            };
            let (head, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.line.is_empty() {
                self.read_line(head, &mut replies)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(head);
                self.read_line(&line, &mut replies)?;
            }
        }
        Ok(replies)
    }

    fn read_line(&mut self, line: &[u8], replies: &mut Replies) -> Result<()> {
        let text = line.trim_ascii_end();
        match text.first() {
            Some(b'+' | b':') => {}
            Some(b'-') => replies.fail(String::from_utf8_lossy(text)),
            Some(b'$') => {
                if let Some(length) = length(text)? {
                    self.bulk = length + b"\r\n".len();
                    return Ok(());
                }
            }
            Some(b'*') => self.elements += length(text)?.unwrap_or(0),
            _ => bail!("no reply begins with {:?}", String::from_utf8_lossy(text)),
        }
        self.end_element(replies);
        Ok(())
    }

    fn end_element(&mut self, replies: &mut Replies) {
        match self.elements.checked_sub(1) {
            Some(left) => self.elements = left,
            None => replies.count += 1,
        }
    }
}

/// The number after the first byte; `None` for -1, which stands for nothing.
fn length(text: &[u8]) -> Result<Option<usize>> {
    let number = str::from_utf8(&text[1..])?;
    if number == "-1" {
        return Ok(None);
    }
    Ok(Some(number.parse().with_context(|| format!("{number:?} is no length"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks how many replies `wire` has, and how many of them are errors, wherever it is cut in two.
    #[track_caller]
    fn check(wire: &str, count: u64, errors: u64) {
        for cut in 0..=wire.len() {
            let (first, second) = wire.as_bytes().split_at(cut);
            let mut state = State::default();
            let mut found = state.read(first).expect("well formed");
            found.add(state.read(second).expect("well formed"));
            assert_eq!((found.count, found.errors), (count, errors), "{wire:?} cut at {cut}");
        }
    }

    #[test]
    fn replies_are_counted() {
        check("+OK\r\n+OK\r\n:12\r\n", 3, 0);
        check("$3\r\na\nb\r\n$-1\r\n$0\r\n\r\n", 3, 0);
        check("*2\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n+OK\r\n", 2, 0);
        check("*-1\r\n-ERR unknown\r\n+OK\r\n", 3, 1);
        check("$256\r\n", 0, 0);
    }

    #[test]
    fn nonsense_is_refused() {
        for wire in ["HTTP/1.1 200\r\n", "$x\r\n", "\r\n"] {
            assert!(State::default().read(wire.as_bytes()).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn errors_are_told() {
        let replies = State::default().read(b"-LOADING wait\r\n-ERR\r\n").expect("well formed");
        assert_eq!(replies.first_error.as_deref(), Some("-LOADING wait"));
    }

    #[test]
    fn requests_are_whole() {
        let mut wire = Vec::new();
        let mut resp = Resp::new(Mix::Only(Command::Incr), 1, Chance::new(1), Keys::From(41, 100));
        resp.request(&mut State::default(), &mut wire);
        assert_eq!(wire, b"*2\r\n$4\r\nINCR\r\n$20\r\ncounter:000000000041\r\n");
    }

    #[test]
    fn a_round_is_done_when_a_replica_has_it() {
        let mut wire = Vec::new();
        let keys = Keys::From(0, 100);
        let mut resp = Resp::new(Mix::Only(Command::Set), 1, Chance::new(1), keys).on_a_replica();
        let mut state = State::default();
        for _ in 0..2 {
            resp.end_round(&mut state, 2, &mut wire);
            assert!(wire.ends_with(WAIT));
            let mut count =
                |bytes: &[u8]| resp.read(&mut state, bytes, &mut wire).map(|replies| replies.count);
            assert_eq!(count(b"+OK\r\n+OK\r\n").expect("well formed"), 0);
            assert_eq!(count(b":1\r\n").expect("well formed"), 2);
        }
        assert!(resp.read(&mut state, b"+OK\r\n", &mut wire).is_err());
    }

    #[test]
    fn locks_are_released_by_who_took_them() {
        let mut resp = Resp::new(Mix::Only(Command::Lock), 1, Chance::new(1), Keys::From(7, 100));
        let (mut one, mut other) = (State::default(), State::default());
        let mut said = |state: &mut State| {
            let mut wire = Vec::new();
            resp.request(state, &mut wire);
            let text = String::from_utf8_lossy(&wire).into_owned();
            let lock = text.split("lock:").nth(1).and_then(|rest| rest.get(..12)).map(str::to_owned);
            (text.contains("SET"), lock.expect("a lock's name"))
        };
        let seven = (true, "000000000007".to_owned());
        assert_eq!(said(&mut one), seven);
        assert_eq!(said(&mut other), (true, "000000000008".to_owned()));
        assert_eq!(said(&mut one), (false, seven.1));
        assert_eq!(said(&mut one), (true, "000000000009".to_owned()));
    }
}
