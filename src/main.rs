//! The program: reads the options, starts what they ask for, and turns signals into a clean stop.
//!
//! Exit codes: 0 after a clean stop, 1 when the node could not start, 2 for a mistake in the options, and
//! those of [`quorate::env::Exit`] when its disk failed or a running node must not go on.

mod dev;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use quorate::config::{self, Config, Invocation, LogFormat};
use quorate::node::StartError;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let invocation = match read_options() {
        Ok(invocation) => invocation,
        Err(error) => {
            eprintln!("quorate: {error:#}");
            return ExitCode::from(2);
        }
    };
    let result = match invocation {
        Invocation::Serve(config) => serve(*config),
        Invocation::Dev(dev) => dev::run(&dev),
        Invocation::Help(text) => print(&text),
        Invocation::Version => print(concat!("quorate ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate: {error:#}");
            exit_code(&error)
        }
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    let exit = error.downcast_ref::<StartError>().and_then(StartError::exit);
    exit.and_then(|exit| u8::try_from(exit as i32).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn read_options() -> anyhow::Result<Invocation> {
    let text =
        |text: std::ffi::OsString| text.into_string().map_err(|bad| anyhow::anyhow!("{bad:?} is not UTF-8"));
    let args: Vec<String> = std::env::args_os().skip(1).map(text).collect::<Result<_, _>>()?;
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        // Others' variables are none of our business, whatever they hold.
        if let Some(name) = name.to_str().filter(|name| name.starts_with("QUORATE_")) {
            variables.push((name.to_owned(), text(value).with_context(|| name.to_owned())?));
        }
    }
    #[expect(clippy::disallowed_methods, reason = "the options are read before there is an Env")]
    let read_file = |path: &std::path::Path| std::fs::read_to_string(path);
    Ok(config::parse(&args, &variables, &read_file)?)
}

/// Prints to a reader that may have gone, as `quorate --help | head` does.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    start_log(&config)?;
    let runtime = runtime(config.threads).context("cannot start threads")?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let env = quorate::env::real::env().context("cannot use this machine")?;
        let (stop, stopped) = oneshot::channel::<()>();
        let node = quorate::server::run(env, config, async {
            // An error means that nobody can ask any more, which is no reason to go on.
            stopped.await.unwrap_or_default();
        });
        tokio::pin!(node);
        tokio::select! {
            result = &mut node => return Ok(result?),
            name = signals.next() => tracing::info!("{name}: handing over and stopping"),
        }
        // The node may have ended by itself meanwhile; its result is then already there to be read.
        let _ = stop.send(());
        tokio::select! {
            result = node => Ok(result?),
            name = signals.next() => bail!("{name}, again: stopped without waiting"),
        }
    })
}

/// One thread on up to two cores: what a second would add there is less than what handing work between
/// threads costs, and the log and the database have threads of their own. Beyond, all cores but one.
fn runtime(threads: usize) -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match threads {
        0 if cores <= 2 => Builder::new_current_thread().enable_all().build(),
        0 => Builder::new_multi_thread().worker_threads(cores - 1).enable_all().build(),
        1 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let level: LevelFilter = config.log_level.parse()?;
    // openraft warns of every attempt to reach a node that is down. We say once that it is, and the rest an
    // operator reads only when looking for something.
    let openraft = if level <= LevelFilter::INFO { LevelFilter::ERROR.min(level) } else { level };
    let shown = Targets::new().with_default(level).with_target("openraft", openraft);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match config.log_format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.compact().with_target(false).with_ansi(io::stderr().is_terminal()).boxed(),
    };
    Ok(tracing_subscriber::registry().with(layer.with_filter(shown)).try_init()?)
}

/// The signals that ask for a stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one, and says which it was.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
