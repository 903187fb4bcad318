//! redis-cli, as scripts and people use it: commands as arguments, and a conversation through its input.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use compat_tests::oracle;
use compat_tests::program::{Driver, Talk};

use crate::Setting;

const PROGRAM: &str = "redis-cli";

pub struct RedisCli {
    home: SocketAddr,
    other: SocketAddr,
    protocol: u8,
    prefix: String,
    talk: Talk,
    stopping: Arc<AtomicBool>,
    counts: Vec<JoinHandle<Result<(u64, Duration)>>>,
}

/// `--no-raw` shows types, as a person's terminal does.
fn command(node: SocketAddr, protocol: u8, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["--no-raw", "-h", &node.ip().to_string(), "-p", &node.port().to_string()]);
    if protocol == 3 {
        command.arg("-3");
    }
    command.args(arguments);
    command
}

/// One that takes commands line by line, or that does what its arguments say.
fn start(node: SocketAddr, protocol: u8, arguments: &[&str]) -> Result<Talk> {
    Talk::start(&mut command(node, protocol, arguments))
}

/// Asks for a reply of one line.
fn expect(talk: &mut Talk, line: &str, expected: &str) -> Result<()> {
    check(line, &talk.ask(line)?, expected)
}

fn check(what: &str, reply: &str, expected: &str) -> Result<()> {
    ensure!(reply == expected, "{what}: expected {expected:?}, got {reply:?}");
    Ok(())
}

impl RedisCli {
    pub fn new(setting: &Setting) -> Result<Self> {
        oracle::program(PROGRAM)?;
        Ok(Self {
            home: setting.home,
            other: setting.other,
            protocol: setting.protocol,
            prefix: setting.prefix.clone(),
            talk: start(setting.home, setting.protocol, &[])?,
            stopping: Arc::default(),
            counts: Vec::new(),
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    /// Runs one command as arguments through the other node.
    fn elsewhere(&self, arguments: &[&str], expected: &str) -> Result<()> {
        let output = command(self.other, self.protocol, arguments).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", output.status);
        check(&format!("{arguments:?}"), String::from_utf8(output.stdout)?.trim_end(), expected)
    }

    fn handshake(&mut self) -> Result<()> {
        let text = self.key("text");
        expect(&mut self.talk, "PING", "PONG")?;
        expect(&mut self.talk, &format!("SET {text} \"a\\r\\n\\x00b\""), "OK")?;
        expect(&mut self.talk, &format!("GET {text}"), r#""a\r\n\x00b""#)?;
        expect(&mut self.talk, &format!("GET {text}:nothing"), "(nil)")?;
        self.elsewhere(&["STRLEN", &text], "(integer) 5")?;
        let information = self.talk.ask("CLIENT INFO")?;
        ensure!(information.contains(&format!(" resp={}", self.protocol)), "{information}");
        expect(
            &mut self.talk,
            "NONSENSE",
            "(error) ERR unknown command 'NONSENSE', with args beginning with: ",
        )
    }

    /// `--pipe`, which reads the protocol itself.
    fn pipeline(&mut self) -> Result<()> {
        const COMMANDS: usize = 2_000;
        let mut pipe = start(self.home, 2, &["--pipe"])?;
        for number in 0..COMMANDS {
            let words = ["SET".to_owned(), self.key(&format!("pipeline:{number}")), number.to_string()];
            pipe.write(&compat_tests::client::encode(&words))?;
        }
        let text = pipe.finish()?;
        ensure!(text.contains(&format!("errors: 0, replies: {COMMANDS}")), "{text}");
        let last = format!("GET {}", self.key("pipeline:1999"));
        expect(&mut self.talk, &last, "\"1999\"")
    }

    fn transaction(&mut self) -> Result<()> {
        let key = self.key("transaction");
        expect(&mut self.talk, &format!("SET {key} 1"), "OK")?;
        expect(&mut self.talk, &format!("WATCH {key}"), "OK")?;
        self.elsewhere(&["SET", &key, "10"], "OK")?;
        expect(&mut self.talk, "MULTI", "OK")?;
        expect(&mut self.talk, &format!("SET {key} 2"), "QUEUED")?;
        expect(&mut self.talk, "EXEC", "(nil)")?;
        expect(&mut self.talk, &format!("WATCH {key}"), "OK")?;
        expect(&mut self.talk, "MULTI", "OK")?;
        expect(&mut self.talk, &format!("INCR {key}"), "QUEUED")?;
        expect(&mut self.talk, &format!("GET {key}"), "QUEUED")?;
        expect(&mut self.talk, "EXEC", "1) (integer) 11")?;
        check("EXEC", &self.talk.line()?, "2) \"11\"")?;
        self.elsewhere(&["GET", &key], "\"11\"")
    }

    fn pubsub(&mut self) -> Result<()> {
        let news = self.key("news");
        let mut subscriber = start(self.home, self.protocol, &["SUBSCRIBE", &news])?;
        check("SUBSCRIBE", &subscriber.line()?, "Reading messages... (press Ctrl-C to quit)")?;
        let mut reply = |lines: [&str; 3]| {
            lines.iter().try_for_each(|expected| check("SUBSCRIBE", &subscriber.line()?, expected))
        };
        let channel = format!("2) \"{news}\"");
        reply(["1) \"subscribe\"", &channel, "3) (integer) 1"])?;
        let published = command(self.other, self.protocol, &["PUBLISH", &news, "hello"]).output()?;
        ensure!(published.status.success(), "PUBLISH: {}", published.status);
        reply(["1) \"message\"", &channel, "3) \"hello\""])
    }

    fn script(&mut self) -> Result<()> {
        let key = self.key("script");
        let source = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
        expect(
            &mut self.talk,
            &format!("EVALSHA {} 0", "f".repeat(40)),
            "(error) NOSCRIPT No matching script. Please use EVAL.",
        )?;
        expect(&mut self.talk, &format!("EVAL \"{source}\" 1 {key} 5"), "(integer) 5")?;
        let sha = self.talk.ask(&format!("SCRIPT LOAD \"{source}\""))?;
        self.elsewhere(&["EVALSHA", sha.trim_matches('"'), "1", &key, "7"], "(integer) 12")?;
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(source.as_bytes())?;
        let path = file.path().to_str().context("a temporary file has a plain name")?;
        self.elsewhere(&["--eval", path, &key, ",", "1"], "(integer) 13")
    }

    /// The command that meets the lost connection is reported and not said again; the next one connects.
    fn reconnect(&mut self) -> Result<()> {
        let line = format!("INCR {}", self.key("reconnect"));
        expect(&mut self.talk, &line, "(integer) 1")?;
        let id = self.talk.ask("CLIENT ID")?;
        let id = id.strip_prefix("(integer) ").context("CLIENT ID answers with a number")?;
        let mut second = start(self.home, self.protocol, &[])?;
        expect(&mut second, &format!("CLIENT KILL ID {id}"), "(integer) 1")?;
        self.talk.write(format!("{line}\n").as_bytes())?;
        expect(&mut self.talk, &line, "(integer) 2")
    }

    fn count(&mut self) {
        for fresh in [false, false, true] {
            let (home, protocol, line) = (self.home, self.protocol, format!("INCR {}", self.key("count")));
            let stopping = Arc::clone(&self.stopping);
            self.counts.push(thread::spawn(move || {
                let mut talk = start(home, protocol, &[])?;
                let (mut acknowledged, mut longest) = (0, Duration::ZERO);
                while !stopping.load(Ordering::Relaxed) {
                    if fresh {
                        talk = start(home, protocol, &[])?;
                    }
                    let began = Instant::now();
                    let mut reply = talk.ask(&line)?;
                    // After half a second it says how long it took.
                    if reply.ends_with("s)") {
                        reply = talk.line()?;
                    }
                    ensure!(reply.starts_with("(integer) "), "{reply}");
                    acknowledged += 1;
                    longest = longest.max(began.elapsed());
                }
                Ok((acknowledged, longest))
            }));
        }
    }

    fn stop(&mut self) -> Result<String> {
        self.stopping.store(true, Ordering::Relaxed);
        let (mut acknowledged, mut longest) = (0, Duration::ZERO);
        for count in self.counts.drain(..) {
            let Ok(told) = count.join() else { bail!("a count panicked") };
            let (more, took) = told?;
            acknowledged += more;
            longest = longest.max(took);
        }
        Ok(format!("{acknowledged} {}", longest.as_millis()))
    }
}

impl Driver for RedisCli {
    fn take(&mut self, step: &str) -> Result<String> {
        let silent = |()| String::new();
        match step {
            "handshake" => self.handshake().map(silent),
            "pipeline" => self.pipeline().map(silent),
            "transaction" => self.transaction().map(silent),
            "pubsub" => self.pubsub().map(silent),
            "script" => self.script().map(silent),
            "reconnect" => self.reconnect().map(silent),
            "count" => {
                self.count();
                Ok(String::new())
            }
            "stop" => self.stop(),
            _ => bail!("no step is called {step}"),
        }
        .with_context(|| format!("redis-cli: {step}"))
    }
}
