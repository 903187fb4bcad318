//! Programs in other languages that use Quorate as their users do, and what they need on this machine.
//!
//! Their sources are in `clients/`, the versions of all they use are pinned there, and what is installed for them
//! goes below `target/clients`. What is missing is a failure that says how to get it, never a test that did not
//! run.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who takes a test's steps with a client library.
pub trait Driver {
    /// Takes the step of this name: what it has to say about it, or what went wrong.
    fn take(&mut self, step: &str) -> Result<String>;
}

/// A running program that is told and answers in lines. It ends with this value.
pub struct Talk {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

impl Talk {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().with_context(|| name.clone())?;
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("its output was asked for")?).lines();
        let (sender, output) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { name, child, input, output })
    }

    /// Writes bytes to it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        input.write_all(bytes).with_context(|| format!("{}: it reads no more", self.name))
    }

    /// The next line that it says.
    pub fn line(&mut self) -> Result<String> {
        self.output.recv_timeout(PATIENCE).with_context(|| format!("{}: nothing more was said", self.name))
    }

    /// Writes a line and reads one.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        self.write(format!("{line}\n").as_bytes())?;
        self.line().with_context(|| format!("no answer to {line}"))
    }

    /// Writes nothing more, and reads all that it says until it ends well.
    pub fn finish(mut self) -> Result<String> {
        self.input = None;
        let mut text = String::new();
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(line) => text.extend([&line, "\n"]),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("{}: it does not end; it said:\n{text}", self.name),
            }
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "{}: {status}; it said:\n{text}", self.name);
        Ok(text)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that reads names of steps and answers each with a line, `ok ...` or `failed ...`.
impl Driver for Talk {
    fn take(&mut self, step: &str) -> Result<String> {
        let answer = self.ask(step)?;
        match answer.split_once(' ').unwrap_or((&answer, "")) {
            ("ok", rest) => Ok(rest.to_owned()),
            (_, rest) => bail!("{}: {step}: {rest}", self.name),
        }
    }
}

/// Runs a source of `clients/python` in an environment with what requirements.txt names.
pub fn python(source: &str) -> Result<Command> {
    let sources = sources("python");
    let environment = target("python")?;
    install(&environment, &sources.join("requirements.txt"), || {
        run(
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment),
            "apt-get install python3-venv",
        )?;
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args(["install", "--quiet", "--require-hashes", "-r"]).arg(sources.join("requirements.txt"));
        run(&mut pip, "it needs PyPI")
    })?;
    let mut command = Command::new(environment.join("bin/python"));
    // Nothing is left beside the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(sources.join(source));
    Ok(command)
}

/// Runs a source of `clients/node` with what package-lock.json names.
pub fn node(source: &str) -> Result<Command> {
    let sources = sources("node");
    let directory = target("node")?;
    install(&directory, &sources.join("package-lock.json"), || {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(sources.join(name), directory.join(name))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&directory);
        run(&mut npm, "apt-get install nodejs npm; it needs Node.js 20 and the npm registry")
    })?;
    // Node.js looks for packages beside the source.
    for entry in fs::read_dir(&sources)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "mjs") {
            fs::copy(&path, directory.join(path.file_name().context("it has an extension")?))?;
        }
    }
    let mut command = Command::new("node");
    command.arg(directory.join(source));
    Ok(command)
}

/// Compiles a source of `clients/c` with a library, which is a directory and sources in it: the program's file.
pub fn c(source: &str, library: &Path, library_sources: &[&str]) -> Result<PathBuf> {
    const ADVICE: &str = "apt-get install gcc libc6-dev";
    let source = sources("c").join(source);
    let program = target("c")?.join(source.file_stem().context("a source has a name")?);
    let object = program.with_extension("o");
    let compiler = |warnings: &[&str]| {
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-pthread"]).args(warnings).arg("-I").arg(library.parent().unwrap_or(library));
        compiler
    };
    let mut compile = compiler(&["-Wall", "-Wextra", "-Werror"]);
    run(compile.arg("-c").arg(source).arg("-o").arg(&object), ADVICE)?;
    // What the library's own sources are warned of is not ours to mend.
    let mut link = compiler(&["-w"]);
    link.arg("-o").arg(&program).arg(&object);
    link.args(library_sources.iter().map(|name| library.join(name)));
    run(&mut link, ADVICE)?;
    Ok(program)
}

fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(language)
}

/// `target/clients/LANGUAGE`, made.
fn target(language: &str) -> Result<PathBuf> {
    // target/PROFILE/deps/test-0123456789abcdef
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(3).context("a test lives in target/PROFILE/deps")?;
    let directory = target.join("clients").join(language);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Installs, unless it is done for the same list of versions. One at a time, whoever asks.
fn install(directory: &Path, versions: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (installed, wanted) = (directory.join("installed"), fs::read(versions)?);
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    install()?;
    Ok(fs::write(installed, wanted)?)
}

/// Runs a command to its good end; `advice` is what to do when it has none.
fn run(command: &mut Command, advice: &str) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{command:?}: {advice}"))?;
    ensure!(status.success(), "{command:?} ended with {status}: {advice}");
    Ok(())
}
