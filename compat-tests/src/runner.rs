//! Runs a case against a server. How a server is talked to, and what time it is there, is the business of the
//! `client` beside this module: Quorate's own tests run the same cases on a simulated node with another one.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::case::{Action, Case, Item, Step, Word, matches};
use super::client::{self, Connection};
use super::reply::Reply;

/// Whose answers are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// redis-server: the expectations as they are.
    Redis,
    /// Quorate: the expectations or one of the alternatives.
    Quorate,
}

/// What was not as expected, one text each: empty is good. Every connection of the case is new, the first one
/// is called `A`, and every database is empty.
#[must_use]
pub fn check(case: &Case, server: SocketAddr, judge: Judge) -> Vec<String> {
    let mut failures = Vec::new();
    let result = Run::start(server).and_then(|mut run| {
        for item in &case.items {
            let Item::Step(step) = item else { continue };
            let place = || format!("{}:{}: {}", case.path.display(), step.line, step.source);
            if let Some(lines) = run.step(step).with_context(place)? {
                let expected = std::iter::once(&step.expected)
                    .chain(step.alternatives.iter().filter(|_| judge == Judge::Quorate));
                if !expected.clone().any(|expected| matches(expected, &lines)) {
                    let expected: Vec<_> = expected.map(|lines| indented(lines)).collect();
                    failures.push(format!(
                        "{}\n  expected\n{}\n  but got\n{}",
                        place(),
                        expected.join("\n  or\n"),
                        indented(&lines)
                    ));
                }
            }
        }
        run.finish().with_context(|| case.path.display().to_string())
    });
    failures.extend(result.err().map(|error| format!("{error:#}")));
    failures
}

/// Records the server's replies as the case's expectations. One that holds already is kept, patterns and all.
pub fn record(case: &mut Case, server: SocketAddr) -> Result<()> {
    let mut run = Run::start(server)?;
    for item in &mut case.items {
        let Item::Step(step) = item else { continue };
        let lines = run.step(step).with_context(|| format!("{}:{}", case.path.display(), step.line))?;
        if let Some(lines) = lines.filter(|lines| !matches(&step.expected, lines)) {
            step.expected = lines;
        }
    }
    run.finish()
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

struct Run {
    server: SocketAddr,
    connections: HashMap<String, Connection>,
    current: String,
    variables: HashMap<String, Vec<u8>>,
    last: Option<Reply>,
    unordered: bool,
    fields: Option<Vec<String>>,
}

impl Run {
    fn start(server: SocketAddr) -> Result<Self> {
        let mut run = Self {
            server,
            connections: HashMap::new(),
            current: String::new(),
            variables: HashMap::new(),
            last: None,
            unordered: false,
            fields: None,
        };
        run.switch("A")?;
        let reply = run.connection().call(&["FLUSHALL"])?;
        ensure!(reply == Reply::Status(b"OK".to_vec()), "FLUSHALL before the case: {reply:?}");
        Ok(run)
    }

    /// Leaves no connection behind that the next case could see in CLIENT LIST.
    fn finish(mut self) -> Result<()> {
        for (name, connection) in &mut self.connections {
            // The server may have closed it already: some cases are about that.
            let _ = connection.send(&["QUIT"]);
            while let Ok(_late) = connection.receive() {}
            ensure!(connection.is_closed(), "connection {name} is still open after QUIT");
        }
        Ok(())
    }

    fn connection(&mut self) -> &mut Connection {
        self.connections.get_mut(&self.current).expect("switch() made it")
    }

    fn switch(&mut self, name: &str) -> Result<()> {
        if !self.connections.contains_key(name) {
            let connection = Connection::open(self.server)?;
            let mut remember = |what: &str, address: SocketAddr| {
                self.variables.insert(format!("{name}.{what}"), address.to_string().into_bytes());
            };
            remember("addr", connection.local()?);
            remember("laddr", connection.server());
            self.connections.insert(name.to_owned(), connection);
        }
        name.clone_into(&mut self.current);
        Ok(())
    }

    /// Does what the step says; the lines of the reply if there is one.
    fn step(&mut self, step: &Step) -> Result<Option<Vec<String>>> {
        match &step.action {
            Action::Command(words) => {
                self.send(words)?;
                return self.replies(1).map(Some);
            }
            Action::Receive(count) => return self.replies(*count).map(Some),
            Action::Scan(words) => return Ok(Some(self.scan(words)?.render())),
            Action::Send(words) => self.send(words)?,
            Action::Raw(bytes) => self.connection().send_raw(bytes)?,
            Action::Client(name) => self.switch(name)?,
            Action::Resp3 => {
                let reply = self.connection().call(&["HELLO", "3"])?;
                ensure!(matches!(reply, Reply::Map(_)), "HELLO 3: {reply:?}");
            }
            Action::Advance(time) => client::pause(*time),
            Action::Let(name) => {
                let value = match &self.last {
                    Some(Reply::Int(number)) => number.to_string().into_bytes(),
                    Some(reply) => reply.text().context("the last reply has no text")?.to_vec(),
                    None => bail!("there was no reply to remember"),
                };
                self.variables.insert(name.clone(), value);
            }
            Action::Closed => {
                ensure!(self.connection().is_closed(), "the connection is open, or not all was read")
            }
            Action::Silent => self.silent()?,
            Action::Unordered => self.unordered = true,
            Action::Fields(names) => self.fields = Some(names.clone()),
        }
        Ok(None)
    }

    fn send(&mut self, words: &[Word]) -> Result<()> {
        let now_ms = client::wall_ms();
        let resolve = |word: &Word| word.resolve(&self.variables, now_ms);
        let words = words.iter().map(resolve).collect::<Result<Vec<_>>>()?;
        Ok(self.connection().send(&words)?)
    }

    /// The lines of the next replies.
    fn replies(&mut self, count: usize) -> Result<Vec<String>> {
        let unordered = std::mem::take(&mut self.unordered);
        let fields = self.fields.take();
        let mut replies = Vec::new();
        for _ in 0..count {
            let mut reply = self.connection().receive()?;
            if unordered && count == 1 {
                reply.sort();
            }
            replies.push(match (&fields, reply.text()) {
                (Some(names), Some(text)) => select(names, text),
                _ => reply.render(),
            });
            self.last = Some(reply);
        }
        if unordered {
            replies.sort();
        }
        Ok(replies.concat())
    }

    fn scan(&mut self, words: &[Word]) -> Result<Reply> {
        let mut seen = BTreeSet::new();
        let mut cursor = b"0".to_vec();
        // A full iteration over the few keys of a case needs few rounds; a cursor that goes in circles needs
        // a limit.
        for _ in 0..1_000 {
            let mut command = vec![Word::Bytes(b"SCAN".to_vec()), Word::Bytes(cursor.clone())];
            command.extend_from_slice(words);
            self.send(&command)?;
            let reply = self.connection().receive()?;
            let Reply::Array(parts) = &reply else { return Ok(reply) };
            let [Reply::Bulk(next), Reply::Array(keys)] = parts.as_slice() else {
                bail!("SCAN answers with a cursor and keys, not {reply:?}");
            };
            for key in keys {
                seen.insert(
                    key.text().ok_or_else(|| anyhow!("SCAN answers with keys, not {key:?}"))?.to_vec(),
                );
            }
            if next == b"0" {
                return Ok(Reply::Array(seen.into_iter().map(Reply::Bulk).collect()));
            }
            cursor.clone_from(next);
        }
        bail!("a thousand rounds of SCAN, and the cursor never came back to 0")
    }

    /// A reply to PING must be the next thing to read.
    fn silent(&mut self) -> Result<()> {
        let connection = self.connection();
        let reply = connection.call(&["PING", "anything else?"])?;
        let answer = Reply::Bulk(b"anything else?".to_vec());
        let subscribed = Reply::Array(vec![Reply::Bulk(b"pong".to_vec()), answer.clone()]);
        ensure!(
            reply == answer || reply == subscribed,
            "something was waiting: {}",
            reply.render().join("\n")
        );
        Ok(())
    }
}

/// `name:value` for each of the names.
fn select(names: &[String], text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let value = |name: &String| {
        text.split("\r\n")
            .find(|line| line.split_once(':').is_some_and(|(field, _)| field == name))
            .map_or_else(|| format!("{name} is missing"), str::to_owned)
    };
    names.iter().map(value).collect()
}
