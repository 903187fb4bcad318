//! The tests that redis-py, Python's client library, has for itself. They are in its source, and are run by
//! pytest; what became of each is written down by a plugin of ours (`redis-py/report.py`).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Outcome, Report, Test, run_to_the_end, source};

const VERSION: &str = "redis-8.1.0";
const PATIENCE: Duration = Duration::from_secs(300);
const NEEDS_PYPI: &str =
    "redis-py's tests and pytest come from PyPI, or from the index that pip is set up with";

/// The suite, and the Python that runs it.
pub struct RedisPy {
    python: PathBuf,
    source: PathBuf,
}

impl RedisPy {
    /// Fetches what is not below `target` yet: an environment with pytest, and redis-py's source.
    pub fn fetch(target: &Path) -> Result<Self> {
        let environment = target.join("redis-py");
        let python = environment.join("bin/python");
        let source = target.join(VERSION);
        let requirements = own("requirements.txt");
        // Written last: what is there is complete.
        let ready = environment.join("ready");
        let wanted = fs::read_to_string(&requirements)?;
        if fs::read_to_string(&ready).ok().as_ref() != Some(&wanted) {
            let mut command = Command::new("python3");
            command.args(["-m", "venv", "--clear"]).arg(&environment);
            succeed(&mut command).context(
                "redis-py's tests need Python 3.11 or later with its venv module: \
                 apt-get install python3 python3-venv",
            )?;
            let mut command = pip(&python, "install");
            succeed(command.arg("--only-binary=:all:").arg("--requirement").arg(&requirements))
                .context(NEEDS_PYPI)?;
            fs::write(&ready, &wanted)?;
        }
        if !source.is_dir() {
            let mut command = pip(&python, "download");
            command.args(["--no-binary=:all:", "--no-deps", "--dest"]).arg(target).arg("--requirement");
            succeed(command.arg(own("source.txt"))).context(NEEDS_PYPI)?;
            source::unpack(&target.join(format!("{VERSION}.tar.gz")), &source)?;
        }
        Ok(Self { python, source })
    }

    /// Runs `tests/UNIT.py` against the server at `address`, without the tests in `skipped`.
    ///
    /// Some of these tests give a message a tenth of a second to arrive, which says nothing on a busy machine. So
    /// what failed is run once more, by itself, and that counts.
    pub fn run(
        &self,
        unit: &str,
        skipped: &[&str],
        address: SocketAddr,
        sentinels: &[SocketAddr],
    ) -> Result<Report> {
        let file = format!("tests/{unit}.py");
        let mut report = Report { unit: unit.to_owned(), tests: Vec::new(), aborts: Vec::new() };
        self.pytest(&mut report, std::slice::from_ref(&file), skipped, address, sentinels)?;
        let is_failed = |test: &Test| matches!(test.outcome, Outcome::Failed(_));
        let failed: Vec<_> = report.tests.extract_if(.., |test| is_failed(test)).collect();
        if !failed.is_empty() {
            let ids: Vec<_> = failed.iter().map(|test| format!("{file}::{}", test.name)).collect();
            self.pytest(&mut report, &ids, &[], address, sentinels)?;
        }
        Ok(report)
    }

    /// Runs what `selected` names, and puts what became of it into the report.
    fn pytest(
        &self,
        report: &mut Report,
        selected: &[String],
        skipped: &[&str],
        address: SocketAddr,
        sentinels: &[SocketAddr],
    ) -> Result<()> {
        let directory = tempfile::tempdir()?;
        let (skip, said) = (directory.path().join("skip"), directory.path().join("report"));
        let prefix = format!("tests/{}.py::", report.unit);
        let ids: Vec<_> = skipped.iter().map(|name| format!("{prefix}{name}")).collect();
        fs::write(&skip, ids.join("\n"))?;
        let sentinels: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
        let mut command = Command::new(&self.python);
        command
            .args(["-m", "pytest", "-q", "--tb=line", "-W", "ignore"])
            .args(["-p", "report", "-p", "no:cacheprovider", "-c"])
            .arg(own("pytest.ini"))
            .args(["--rootdir", ".", "-m", "not onlycluster and not redismod and not ssl"])
            .args(["--redis-url", &format!("redis://{address}/9")])
            .args(["--sentinels", &sentinels.join(","), "--master-service", "mymaster"])
            .args(selected)
            .env("PYTHONPATH", own(""))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SKIP", &skip)
            .env("REPORT", &said)
            .current_dir(&self.source);
        let (status, text) = run_to_the_end(&mut command, PATIENCE)?;
        // 1: some tests failed. More: it did not come to its end.
        if !matches!(status.code(), Some(0 | 1)) {
            report.aborts.push(format!("pytest ended with {status}:\n{text}"));
        }
        for line in fs::read_to_string(&said).unwrap_or_default().lines() {
            let test = read(line, &prefix).with_context(|| format!("not a line of a report: {line}"))?;
            report.tests.push(test);
        }
        Ok(())
    }
}

/// Reads a line that the plugin wrote.
fn read(line: &str, prefix: &str) -> Option<Test> {
    let mut parts = line.splitn(3, '\t');
    let (outcome, id, said) = (parts.next()?, parts.next()?, parts.next()?);
    let outcome = match outcome {
        "passed" => Outcome::Passed,
        "failed" => Outcome::Failed(said.replace("\\n", "\n")),
        "listed" => Outcome::Skipped,
        "skipped" => Outcome::LeftOut,
        _ => return None,
    };
    Some(Test { name: id.strip_prefix(prefix)?.to_owned(), outcome })
}

/// A file of ours that belongs to this suite.
fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("redis-py").join(name)
}

fn pip(python: &Path, command: &str) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", command, "--quiet", "--disable-pip-version-check", "--require-hashes"]);
    pip
}

fn succeed(command: &mut Command) -> Result<()> {
    let (status, text) = run_to_the_end(command, PATIENCE)?;
    ensure!(status.success(), "{command:?} ended with {status}:\n{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let read = |line| read(line, "tests/test_lock.py::");
        let test =
            read("failed\ttests/test_lock.py::TestLock::test_a[1 2]\tassert 1\\n\t2").expect("it is one");
        assert_eq!(test.name, "TestLock::test_a[1 2]");
        assert!(matches!(test.outcome, Outcome::Failed(said) if said == "assert 1\n\t2"));
        assert!(read("passed\ttests/test_lock.py::test_b\t").is_some_and(|test| test.name == "test_b"));
        for line in
            ["", "passed", "passed\ttests/test_scripting.py::test_b\t", "odd\ttests/test_lock.py::test_b\t"]
        {
            assert!(read(line).is_none(), "{line}");
        }
    }
}
