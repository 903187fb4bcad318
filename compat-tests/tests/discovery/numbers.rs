//! The steps of a client library of Rust, as `clients/python/discovery.py` and `clients/node/discovery.mjs` take them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use compat_tests::program::Driver;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// How long one that failed stays away.
const REST: Duration = Duration::from_millis(20);

/// A connection to whoever leads, or does not, which finds its way again by its library's means.
pub trait Finding: Send + Sized + 'static {
    /// Sends one command: the text that it answers with, if it is one.
    fn call(&mut self, words: &[&str]) -> impl Future<Output = Result<Option<String>>> + Send;
}

/// Takes the steps.
pub struct Steps<F> {
    runtime: Runtime,
    /// Until it writes.
    writer: Option<F>,
    reader: F,
    name: &'static str,
    stopping: Arc<AtomicBool>,
    writing: Option<JoinHandle<Written>>,
}

#[derive(Default)]
struct Written {
    attempted: u64,
    unknown: Vec<String>,
    longest: Duration,
}

impl<F: Finding> Steps<F> {
    /// `find` answers a connection to the leader, and one to another node.
    pub fn new(name: &'static str, find: impl Future<Output = Result<(F, F)>>) -> Result<Self> {
        let runtime = Runtime::new()?;
        let (writer, reader) = runtime.block_on(find)?;
        let stopping = Arc::default();
        Ok(Self { runtime, writer: Some(writer), reader, name, stopping, writing: None })
    }

    fn work(&mut self) -> Result<()> {
        let key = format!("{}:text", self.name);
        let writer = self.writer.as_mut().context("it does not write yet")?;
        self.runtime.block_on(async {
            // Whoever does not lead has it too: a read is a read.
            for value in (0..50).map(|number| number.to_string()).chain(["añb\r\n\0".to_owned()]) {
                writer.call(&["SET", &key, &value]).await?;
                for connection in [&mut *writer, &mut self.reader] {
                    let read = connection.call(&["GET", &key]).await?;
                    ensure!(read.as_ref() == Some(&value), "{value}: {read:?}");
                }
            }
            Ok(())
        })
    }

    fn stop(&mut self) -> Result<String> {
        self.stopping.store(true, Ordering::Relaxed);
        let writing = self.writing.take().context("it writes")?;
        let Written { attempted, unknown, longest } = self.runtime.block_on(writing)?;
        Ok(format!("{attempted} {} {}", longest.as_millis(), unknown.join(",")))
    }
}

impl<F: Finding> Driver for Steps<F> {
    fn take(&mut self, step: &str) -> Result<String> {
        match step {
            "work" => self.work().map(|()| String::new()),
            "write" => {
                let writer = self.writer.take().context("it does not write yet")?;
                let stopping = Arc::clone(&self.stopping);
                self.writing = Some(self.runtime.spawn(write_numbers(writer, self.name, stopping)));
                Ok(String::new())
            }
            "stop" => self.stop(),
            _ => bail!("no step is called {step}"),
        }
        .with_context(|| format!("{}: {step}", self.name))
    }
}

/// Writes numbers without an end, each once: what came of one that failed is not known.
async fn write_numbers(mut writer: impl Finding, name: &'static str, stopping: Arc<AtomicBool>) -> Written {
    let key = format!("{name}:numbers");
    let mut written = Written::default();
    let mut answered = Instant::now();
    while !stopping.load(Ordering::Relaxed) {
        let number = written.attempted.to_string();
        written.attempted += 1;
        let pushed = async {
            // Wherever it is connected by now, it is called by its name there.
            writer.call(&["CLIENT", "SETNAME", name]).await?;
            writer.call(&["RPUSH", &key, &number]).await
        };
        match pushed.await {
            Ok(_) => {
                written.longest = written.longest.max(answered.elapsed());
                answered = Instant::now();
            }
            Err(_) => {
                written.unknown.push(number);
                tokio::time::sleep(REST).await;
            }
        }
    }
    written
}
