//! The options that can change while the node runs, and CONFIG's view of all of them.
//!
//! Readers on the way of a command take one relaxed atomic load. CONFIG SET is rare: it checks all it was
//! given against a copy of the texts, and only then stores the copy and what follows from it, so that a
//! mistake in one value leaves all of them as they were. Two at a time take turns.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::format::{Format, OutputLimits};
use super::options::{self, Opt, Scope};
use super::parse::{self, ConfigError};
use super::texts::Texts;
use super::{Config, DebugClients};
use crate::error::ClientError;
use crate::glob;

/// What Redis refuses to set, by any value, for where it would write files.
const PROTECTED: [&str; 2] = ["dir", "dbfilename"];

/// This node's settings. Share it in an [`Arc`].
pub struct Settings {
    slow: RwLock<Slow>,
    debug_clients: DebugClients,
    asks_password: AtomicBool,
    clients_max: AtomicU64,
    idle_seconds: AtomicU64,
    request_timeout_ms: AtomicU64,
    memory_bytes_max: AtomicU64,
    argument_bytes_max: AtomicU64,
    query_bytes_max: AtomicU64,
    /// In microseconds; negative: off.
    slowlog_threshold: AtomicI64,
    slowlog_entries_max: AtomicU64,
    /// In milliseconds; 0: off.
    latency_threshold_ms: AtomicU64,
}

/// What is read seldom enough to stand behind a lock.
struct Slow {
    texts: Texts,
    password: Option<Arc<str>>,
    output_limits: OutputLimits,
}

impl Settings {
    /// The settings a node starts with.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let texts = config.texts.clone();
        let slow = Slow { texts: Texts::default(), password: None, output_limits: OutputLimits::default() };
        let settings = Self {
            slow: RwLock::new(slow),
            debug_clients: config.debug_clients,
            asks_password: AtomicBool::default(),
            clients_max: AtomicU64::default(),
            idle_seconds: AtomicU64::default(),
            request_timeout_ms: AtomicU64::default(),
            memory_bytes_max: AtomicU64::default(),
            argument_bytes_max: AtomicU64::default(),
            query_bytes_max: AtomicU64::default(),
            slowlog_threshold: AtomicI64::default(),
            slowlog_entries_max: AtomicU64::default(),
            latency_threshold_ms: AtomicU64::default(),
        };
        settings.store(&mut settings.write(), texts);
        settings
    }

    /// Who may send DEBUG (`enable-debug-command`); fixed.
    #[must_use]
    pub const fn debug_clients(&self) -> DebugClients {
        self.debug_clients
    }

    /// Connections served at a time (`maxclients`).
    #[must_use]
    pub fn clients_max(&self) -> u64 {
        self.clients_max.load(Relaxed)
    }

    /// How long a client may be idle (`timeout`); `None`: for ever.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        Some(self.idle_seconds.load(Relaxed)).filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// How long a command may wait for a quorum.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms.load(Relaxed))
    }

    /// Size of the data above which writes are refused (`maxmemory`); `None`: no such size.
    #[must_use]
    pub fn memory_bytes_max(&self) -> Option<u64> {
        Some(self.memory_bytes_max.load(Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Longest argument of a command (`proto-max-bulk-len`).
    #[must_use]
    pub fn argument_bytes_max(&self) -> u64 {
        self.argument_bytes_max.load(Relaxed)
    }

    /// Most bytes a client's unanswered requests may take (`client-query-buffer-limit`).
    #[must_use]
    pub fn query_bytes_max(&self) -> u64 {
        self.query_bytes_max.load(Relaxed)
    }

    /// The time from which on a command counts as slow (`slowlog-log-slower-than`); `None`: none does.
    #[must_use]
    pub fn slowlog_threshold(&self) -> Option<Duration> {
        u64::try_from(self.slowlog_threshold.load(Relaxed)).ok().map(Duration::from_micros)
    }

    /// How many slow commands are remembered (`slowlog-max-len`).
    #[must_use]
    pub fn slowlog_entries_max(&self) -> usize {
        usize::try_from(self.slowlog_entries_max.load(Relaxed)).unwrap_or(usize::MAX)
    }

    /// How many keys are remembered of which clients keep copies (`tracking-table-max-keys`); 0: no limit.
    #[must_use]
    pub fn tracked_keys_max(&self) -> u64 {
        self.read().texts.number("tracking-table-max-keys")
    }

    /// How long an event takes at least that LATENCY remembers (`latency-monitor-threshold`); `None`: it
    /// remembers none.
    #[must_use]
    pub fn latency_threshold(&self) -> Option<Duration> {
        Some(self.latency_threshold_ms.load(Relaxed)).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// The percentiles of commands' times that INFO shows; `None`: nothing is told about their times
    /// (`latency-tracking`).
    #[must_use]
    pub fn latency_percents(&self) -> Option<Vec<f64>> {
        let slow = self.read();
        let percents = slow.texts.text("latency-tracking-info-percentiles").split(' ');
        let tracking = slow.texts.text("latency-tracking") == "yes";
        tracking.then(|| percents.filter_map(|percent| percent.parse().ok()).collect())
    }

    /// How much unread output each class of clients may have.
    #[must_use]
    pub fn output_limits(&self) -> OutputLimits {
        self.read().output_limits
    }

    /// Whether clients must give a password, without reading it.
    #[must_use]
    pub fn asks_password(&self) -> bool {
        self.asks_password.load(Relaxed)
    }

    /// The password clients must give, if any (`requirepass`).
    #[must_use]
    pub fn password(&self) -> Option<Arc<str>> {
        self.read().password.clone()
    }

    /// CONFIG GET: names and values of all options that match one of the patterns, each once. A pattern
    /// without wildcards is answered under the name it was asked for, as Redis does; one with wildcards finds nothing
    /// that is hidden.
    #[must_use]
    pub fn get(&self, patterns: &[impl AsRef<[u8]>]) -> Vec<(String, String)> {
        let slow = self.read();
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for pattern in patterns {
            let pattern = String::from_utf8_lossy(pattern.as_ref());
            let lower = pattern.to_ascii_lowercase();
            let is_glob = pattern.contains(['*', '?', '[']);
            for (name, place) in options::names() {
                let matches = if is_glob {
                    glob::matches(lower.as_bytes(), name.as_bytes()) && !options::is_hidden(place)
                } else {
                    lower == name
                };
                if matches && seen.insert(name) {
                    let shown = if is_glob { name } else { &*pattern };
                    found.push((shown.to_owned(), slow.texts.at(place).to_owned()));
                }
            }
        }
        found
    }

    /// CONFIG SET: all of the pairs, or none.
    ///
    /// # Errors
    /// Redis' texts for an unknown, immutable, doubled or malformed option.
    pub fn set<N: AsRef<[u8]>, V: AsRef<[u8]>>(&self, pairs: &[(N, V)]) -> Result<(), ClientError> {
        let mut slow = self.write();
        let (texts, _) = changed(&slow.texts, pairs)?;
        self.store(&mut slow, texts);
        Ok(())
    }

    /// The names among these that are options of the whole cluster, which CONFIG SET changes in the log.
    ///
    /// # Errors
    /// Those of [`Settings::set`], for all of the pairs.
    pub fn replicated<N, V>(&self, pairs: &[(N, V)]) -> Result<Vec<N>, ClientError>
    where
        N: AsRef<[u8]> + Clone,
        V: AsRef<[u8]>,
    {
        let (_, scopes) = changed(&self.read().texts, pairs)?;
        let names = pairs.iter().zip(scopes).filter(|(_, scope)| *scope == Scope::Cluster);
        Ok(names.map(|((name, _), _)| name.clone()).collect())
    }

    /// CONFIG REWRITE: `file`, the text of [`Config::file`], with the values of now. All else in it stays as
    /// it is, and what only CONFIG knows has no place in it.
    ///
    /// # Errors
    /// When somebody made the file unreadable meanwhile.
    pub fn rewrite(&self, config: &Config, file: &str) -> Result<String, ConfigError> {
        let slow = self.read();
        let live = options::all().enumerate().filter(|(_, option)| option.scope == Scope::Live);
        let values = live.map(|(place, option)| (option, slow.texts.at(place), config.texts.at(place)));
        let path = config.file.clone().unwrap_or_default();
        parse::rewrite(&path, file, values)
    }

    /// Records what became known only after the start, such as the port that was free. Not for clients:
    /// it may change what they cannot.
    pub fn announce(&self, name: &str, value: impl Into<String>) {
        self.write().texts.put(options::place(name), value.into());
    }

    fn read(&self) -> RwLockReadGuard<'_, Slow> {
        self.slow.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slow> {
        self.slow.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that follows from `texts`, under the lock that keeps changes apart.
    fn store(&self, slow: &mut Slow, texts: Texts) {
        self.clients_max.store(texts.number("maxclients"), Relaxed);
        self.idle_seconds.store(texts.number("timeout"), Relaxed);
        self.request_timeout_ms.store(texts.number("request-timeout-ms"), Relaxed);
        self.memory_bytes_max.store(texts.number("maxmemory"), Relaxed);
        self.argument_bytes_max.store(texts.number("proto-max-bulk-len"), Relaxed);
        self.query_bytes_max.store(texts.number("client-query-buffer-limit"), Relaxed);
        let threshold = texts.text("slowlog-log-slower-than").parse().expect("its format is a number");
        self.slowlog_threshold.store(threshold, Relaxed);
        self.latency_threshold_ms.store(texts.number("latency-monitor-threshold"), Relaxed);
        self.slowlog_entries_max.store(texts.number("slowlog-max-len"), Relaxed);
        let password = Some(texts.text("requirepass")).filter(|password| !password.is_empty()).map(Arc::from);
        self.asks_password.store(password.is_some(), Relaxed);
        let output_limits = texts.output_limits();
        *slow = Slow { texts, password, output_limits };
    }
}

/// These texts with these options changed, and who may set each.
fn changed<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    texts: &Texts,
    pairs: &[(N, V)],
) -> Result<(Texts, Vec<Scope>), ClientError> {
    // Names are all judged before values, and the first misfit is the one that is told.
    let mut targets: Vec<(&'static Opt, usize, String)> = Vec::with_capacity(pairs.len());
    let mut seen = HashSet::new();
    let mut texts = texts.clone();
    for (name, value) in pairs {
        let written = String::from_utf8_lossy(name.as_ref());
        let place = options::find(&written).ok_or_else(|| unknown(&written))?;
        let option = options::all().nth(place).expect("the table's places are within the table");
        if PROTECTED.iter().any(|name| written.eq_ignore_ascii_case(name)) {
            return Err(failed(&written, "can't set protected config"));
        }
        let stays = || option.scope.may_stay() && value.as_ref() == texts.at(place).as_bytes();
        if !option.scope.at_run_time() && !stays() {
            return Err(failed(&written, "can't set immutable config"));
        }
        let lower = written.to_ascii_lowercase();
        if !seen.insert(lower.clone()) {
            return Err(failed(&written, "duplicate parameter"));
        }
        targets.push((option, place, lower));
    }
    let scopes = targets.iter().map(|(option, ..)| option.scope).collect();
    for ((option, place, name), (_, value)) in targets.into_iter().zip(pairs) {
        let value =
            std::str::from_utf8(value.as_ref()).map_err(|_| failed(&name, "argument must be text"))?;
        let canonical = match option.format {
            Format::OutputLimits => texts.output_limits().parse(value).map(|limits| limits.to_string()),
            format => format.canonical(value),
        };
        texts.put(place, canonical.map_err(|why| failed(&name, &why))?);
    }
    Ok((texts, scopes))
}

fn unknown(name: &str) -> ClientError {
    ClientError::new(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"))
}

fn failed(name: &str, why: &str) -> ClientError {
    ClientError::new(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(&Config::default())
    }

    /// `line` is CONFIG SET's arguments; the right-hand sides are redis-server 7.0.15's.
    #[track_caller]
    fn check(settings: &Settings, line: &str, expect: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let pairs: Vec<(&str, &str)> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let found = settings.set(&pairs).map_or_else(|error| error.to_string(), |()| "OK".to_owned());
        assert_eq!(found, expect, "CONFIG SET {line}");
    }

    #[test]
    fn set_complains_in_the_words_of_redis() {
        let settings = settings();
        let unknown = "ERR Unknown option or number of arguments for CONFIG SET - ";
        let failed = |name: &str, why: &str| {
            format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
        };
        check(&settings, "maxclients 5", "OK");
        check(&settings, "nosuch 1", &format!("{unknown}'nosuch'"));
        check(&settings, "max* 1", &format!("{unknown}'max*'"));
        check(&settings, "maxmemory 100mb noSuch 1", &format!("{unknown}'noSuch'"));
        check(&settings, "DATABASES 2", &failed("DATABASES", "can't set immutable config"));
        check(&settings, "databases 2 nosuch 1", &failed("databases", "can't set immutable config"));
        check(&settings, "dir x", &failed("dir", "can't set protected config"));
        check(&settings, "dir ./quorate-data", &failed("dir", "can't set protected config"));
        check(&settings, "data ./quorate-data", "OK");
        check(&settings, "dbfilename x.rdb", &failed("dbfilename", "can't set protected config"));
        check(&settings, "tls-port 0", "OK");
        check(&settings, "port 1", &failed("port", "can't set immutable config"));
        check(&settings, "port 6379 gather-us 300 maxclients 5", "OK");
        check(&settings, "databases 16", &failed("databases", "can't set immutable config"));
        check(&settings, "maxclients 1 maxclients 1", &failed("maxclients", "duplicate parameter"));
        check(
            &settings,
            "MAXCLIENTS x",
            &failed("maxclients", "argument couldn't be parsed into an integer"),
        );
        check(
            &settings,
            "maxclients 0",
            &failed("maxclients", "argument must be between 1 and 4294967295 inclusive"),
        );
        check(&settings, "maxmemory xyz", &failed("maxmemory", "argument must be a memory value"));
        check(&settings, "appendonly maybe", &failed("appendonly", "argument must be 'yes' or 'no'"));
        check(&settings, "hz x maxclients x", &failed("hz", "argument couldn't be parsed into an integer"));
        assert_eq!(settings.clients_max(), 5);
    }

    #[test]
    fn set_is_all_or_nothing() {
        let settings = settings();
        check(
            &settings,
            "maxclients 7 timeout -1",
            "ERR CONFIG SET failed (possibly related to argument 'timeout') - \
             argument must be between 0 and 2147483647 inclusive",
        );
        assert_eq!(settings.clients_max(), 10_000);
        assert_eq!(settings.idle_timeout(), None);
        check(&settings, "maxclients 7 timeout 60", "OK");
        assert_eq!(settings.clients_max(), 7);
        assert_eq!(settings.idle_timeout(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn sets_at_a_time_keep_each_other() {
        let settings = &settings();
        let sets = |name: &'static str| {
            move || {
                for value in 1..=2000 {
                    let value = value.to_string();
                    settings.set(&[(name, &value)]).expect("well formed");
                    assert_eq!(settings.get(&[name])[0].1, value, "{name} has one writer");
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(sets("maxclients"));
            scope.spawn(sets("timeout"));
        });
    }

    #[test]
    fn get_finds_names_patterns_and_aliases() {
        let settings = settings();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(settings.get(&["MaxClients", "maxc*", "nosuch"])[0], pair("MaxClients", "10000"));
        assert_eq!(settings.get(&["MaxClients", "maxc*", "nosuch"]).len(), 1);
        assert_eq!(settings.get(&["databases"]), [pair("databases", "16")]);
        assert_eq!(settings.get(&["port", "bind"]), [pair("port", "6379"), pair("bind", "127.0.0.1")]);
        check(&settings, "hash-max-ziplist-entries 1 hash-max-listpack-entries 2", "OK");
        let expect = [pair("hash-max-listpack-entries", "2"), pair("hash-max-ziplist-entries", "2")];
        assert_eq!(settings.get(&["hash-max-*-entries"]), expect);
        let told = options::names().filter(|(_, place)| !options::is_hidden(*place)).count();
        assert_eq!(settings.get(&["*"]).len(), told);
        assert_eq!(settings.get(&["key-load-dela?"]), []);
        assert_eq!(settings.get(&["*", "Key-Load-Delay"]).pop(), Some(pair("Key-Load-Delay", "0")));
    }

    #[test]
    fn rewrite_touches_what_changed() {
        let settings = settings();
        let check = |file: &str, expect: &str| {
            assert_eq!(settings.rewrite(&Config::default(), file).expect("the file is well formed"), expect);
        };
        let file = "# mine\nlisten = 'a:1'\nmaxclients = 5 # few\ntimeout = '0'\n";
        check(file, "# mine\nlisten = 'a:1'\nmaxclients = \"10000\" # few\ntimeout = '0'\n");
        check("", "");
        settings.set(&[("maxclients", "7"), ("requirepass", "a\"b\\c"), ("hz", "20")]).expect("well formed");
        let appended = "requirepass = \"a\\\"b\\\\c\"\n";
        check(file, &format!("# mine\nlisten = 'a:1'\nmaxclients = \"7\" # few\ntimeout = '0'\n{appended}"));
        check("requirepass=''", "requirepass=\"a\\\"b\\\\c\"\nmaxclients = \"7\"\n");
        settings.set(&[("requirepass", "a\nb\u{7f}")]).expect("any text");
        check("maxclients = 7", "maxclients = 7\nrequirepass = \"a\\u000Ab\\u007F\"\n");
    }

    #[test]
    fn limits_and_password_follow_their_texts() {
        let settings = settings();
        assert_eq!((settings.asks_password(), settings.password()), (false, None));
        settings.set(&[("requirepass", "secret")]).expect("any text");
        assert_eq!((settings.asks_password(), settings.password().as_deref()), (true, Some("secret")));
        settings.set(&[("requirepass", "")]).expect("any text");
        assert_eq!((settings.asks_password(), settings.password()), (false, None));
        settings.set(&[("client-output-buffer-limit", "pubsub 1mb 0 0")]).expect("well formed");
        assert_eq!(settings.output_limits().pubsub.hard_bytes, 1 << 20);
        assert_eq!(settings.output_limits().normal.hard_bytes, 1 << 30);
        assert_eq!(settings.slowlog_threshold(), Some(Duration::from_millis(10)));
        settings.set(&[("slowlog-log-slower-than", "-1")]).expect("it may be off");
        assert_eq!(settings.slowlog_threshold(), None);
        assert_eq!(settings.slowlog_entries_max(), 128);
        assert_eq!(settings.tracked_keys_max(), 1_000_000);
        settings.announce("port", "7001");
        assert_eq!(settings.get(&["port"])[0].1, "7001");
    }
}
