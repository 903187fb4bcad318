//! Where the suites come from: archives in pinned versions, fetched once and unpacked below `target`. Nothing of
//! them is part of this project.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::run_to_the_end;
use crate::oracle::VERSION;

const PATIENCE: Duration = Duration::from_secs(300);

/// Redis' source as Debian keeps it; the version is the oracle's.
const REDIS_ARCHIVE: &str = "redis_7.0.15.orig.tar.gz";
const REDIS_SHA256: &str = "4b1dc4ee6d622a09fff9c6777191209750fb5e5a725ef78ea012d6eef4c22982";
const REDIS_DIRECTORY: &str = "redis-7.0.15";

/// Where Debian's mirrors keep it: the archive, and the archive of security updates.
const POOLS: [&str; 2] = ["pool/main/r/redis", "pool/updates/main/r/redis"];
/// Asked after the mirrors that this machine is set up with.
const MIRRORS: [&str; 2] = ["http://deb.debian.org/debian", "http://deb.debian.org/debian-security"];

/// The directory of Redis' source: `REDIS_SOURCE`, or fetched and unpacked below `target` unless it is there.
pub fn redis(target: &Path) -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("REDIS_SOURCE") {
        let directory = PathBuf::from(directory);
        let told = fs::read_to_string(directory.join("src/version.h")).unwrap_or_default();
        ensure!(
            told.contains(&format!("\"{VERSION}\"")),
            "REDIS_SOURCE is not the source of Redis {VERSION}: its src/version.h says {told:?}"
        );
        return Ok(directory);
    }
    let unpacked = target.join(REDIS_DIRECTORY);
    if unpacked.is_dir() {
        return Ok(unpacked);
    }
    fs::create_dir_all(target)?;
    let archive = target.join(REDIS_ARCHIVE);
    if !is_as_pinned(&archive, REDIS_SHA256) {
        fetch_redis(&archive)?;
    }
    unpack(&archive, &unpacked)?;
    Ok(unpacked)
}

fn fetch_redis(archive: &Path) -> Result<()> {
    let mut complaints = Vec::new();
    let configured = configured_mirrors();
    for mirror in configured.iter().map(String::as_str).chain(MIRRORS) {
        for pool in POOLS {
            let url = format!("{mirror}/{pool}/{REDIS_ARCHIVE}");
            match fetch(&url, archive) {
                Ok(()) if is_as_pinned(archive, REDIS_SHA256) => return Ok(()),
                Ok(()) => complaints.push(format!("{url}: not the pinned archive (SHA-256 {REDIS_SHA256})")),
                Err(error) => complaints.push(format!("{url}: {error:#}")),
            }
        }
    }
    bail!(
        "Redis' test suite and hiredis are in its source, and no mirror gave it. Get it with `apt-get source --download-only \
         redis=5:7.0.15*` (needs a deb-src line) and put it at {}.\n{}",
        archive.display(),
        complaints.join("\n")
    )
}

/// The mirrors apt is set up with; none where there is no apt.
fn configured_mirrors() -> Vec<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(SITE)"]);
    let sites = run_to_the_end(&mut command, PATIENCE).map(|(_, text)| text).unwrap_or_default();
    let mut mirrors: Vec<_> = sites
        .lines()
        .filter(|line| line.starts_with("http") && line.contains("debian"))
        .map(str::to_owned)
        .collect();
    mirrors.sort_unstable();
    mirrors.dedup();
    mirrors
}

/// Fetches a file with apt's own program, which knows the machine's proxy, or with curl.
fn fetch(url: &str, file: &Path) -> Result<()> {
    const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
    let mut command;
    if Path::new(APT_HELPER).exists() {
        command = Command::new(APT_HELPER);
        command.arg("download-file").arg(url).arg(file);
    } else {
        command = Command::new("curl");
        command.args(["--fail", "--silent", "--show-error", "--location", "--output"]).arg(file).arg(url);
    }
    let (status, text) = run_to_the_end(&mut command, PATIENCE)?;
    ensure!(status.success(), "{}", text.trim());
    Ok(())
}

/// Unpacks an archive that has one directory at its top. What is at `directory` is always complete.
pub fn unpack(archive: &Path, directory: &Path) -> Result<()> {
    let parent = directory.parent().context("it lies below target")?;
    let partial = tempfile::Builder::new().prefix("unpacking-").tempdir_in(parent)?;
    let mut command = Command::new("tar");
    command.arg("-xzf").arg(archive).arg("-C").arg(partial.path());
    let (status, text) = run_to_the_end(&mut command, PATIENCE)?;
    ensure!(status.success(), "tar -xzf {}: {text}", archive.display());
    let name = directory.file_name().context("it has a name")?;
    fs::rename(partial.path().join(name), directory)
        .with_context(|| format!("{} in {}", directory.display(), archive.display()))
}

/// Whether the file is there and has this hash.
fn is_as_pinned(file: &Path, sha256: &str) -> bool {
    let Ok(bytes) = fs::read(file) else { return false };
    let digest = Sha256::digest(bytes);
    let hex = digest.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    hex == sha256
}
