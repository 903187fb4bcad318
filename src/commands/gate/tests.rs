use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;

use super::*;
use crate::commands::host::{Following, NodeInfo, PauseScope, Replication, Role, Topology};
use crate::commands::server::{LatencyMonitor, SlowLog};
use crate::commands::{Answer, Args, Host, Resolved};
use crate::error::Failure;
use crate::pubsub::Hub;
use crate::resp::encode;
use crate::session::{Outbox, Registry, Request};

/// A node with these options, which follows.
struct Follower {
    password: Option<&'static str>,
    slow_log: SlowLog,
    latency: LatencyMonitor,
}

impl Host for Follower {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_123
    }
    fn password(&self) -> Option<Bytes> {
        self.password.map(Bytes::from)
    }
    fn fill_secret(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        bytes.fill(0xa5);
        Ok(())
    }
    fn is_leader(&self) -> bool {
        false
    }
    fn replication(&self) -> Replication {
        let leader = Some(("10.0.0.1".to_owned(), 6379));
        let following = Following { leader, offset: 7, ..Following::default() };
        Replication { role: Role::Follower(following), ..Replication::default() }
    }
    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }
    fn reset_stats(&self) {}
    fn config_get(&self, patterns: &[Bytes]) -> Vec<(String, String)> {
        patterns.iter().map(|name| (String::from_utf8_lossy(name).into_owned(), "1".to_owned())).collect()
    }
    fn config_replicated(&self, _: &[(Bytes, Bytes)]) -> Result<Vec<Bytes>, ClientError> {
        Ok(Vec::new())
    }
    fn config_set(&self, _: &[(Bytes, Bytes)]) -> Result<(), ClientError> {
        Err(text::SYNTAX)
    }
    fn config_rewrite(&self) -> Result<(), ClientError> {
        Ok(())
    }
    fn pause(&self, _: PauseScope, _: Duration) {}
    fn unpause(&self) {}
    fn expire_actively(&self, _: bool) {}
    fn last_checkpoint_ms(&self) -> u64 {
        1_600_000_000_123
    }
    fn begin_checkpoint(&self) {}
    fn hand_over(&self, _: u64) {}
    fn shut_down(&self) {}
    fn topology(&self) -> Topology {
        Topology::default()
    }
    fn histogram(&self, _: usize) -> Vec<(u64, u64)> {
        Vec::new()
    }
    fn latency_monitor(&self) -> &LatencyMonitor {
        &self.latency
    }
    fn slow_log(&self) -> &SlowLog {
        &self.slow_log
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<Bytes>>);

impl Outbox for Heard {
    fn push(&self, frame: Bytes) -> bool {
        self.0.lock().expect("no test panics here").push(frame);
        true
    }
    fn push_behind(&self, frame: Bytes) -> bool {
        self.push(frame)
    }
    fn close(&self) {
        self.push(Bytes::from("closed"));
    }
    fn wake(&self) {}
    fn queued(&self) -> (usize, usize) {
        (0, 0)
    }
}

impl Follower {
    fn rules(&self) -> Rules {
        Rules { password: self.password.is_some(), debug: DebugClients::Local }
    }
}

/// A connection talks to a node as the server would let it. Each step is what it sends (words between
/// single spaces, `_` for an empty one) and all bytes it gets back, line ends as bars. A step `!channel
/// message` publishes instead.
fn check(password: Option<&'static str>, steps: &[(&str, &str)]) {
    let host = Follower { password, slow_log: SlowLog::default(), latency: LatencyMonitor::default() };
    let (registry, hub, heard) = (Arc::<Registry>::default(), Arc::<Hub>::default(), Arc::<Heard>::default());
    let outbox = Arc::clone(&heard) as Arc<dyn Outbox>;
    let client =
        registry.connect("127.0.0.1:5".to_owned(), "127.0.0.1:6379".to_owned(), outbox, Duration::ZERO);
    let mut session = Session::new(client, Arc::clone(&registry), Arc::clone(&hub), password.is_none());
    for (place, (sent, expect)) in steps.iter().enumerate() {
        let mut out = BytesMut::new();
        let replies = if let Some(message) = sent.strip_prefix('!') {
            let (channel, payload) = message.split_once(' ').expect("a channel and a message");
            hub.publish(&Bytes::from(channel.to_owned()), &Bytes::from(payload.to_owned()));
            Vec::new()
        } else {
            let words = sent.split(' ').map(|word| if word == "_" { "" } else { word });
            let argv: Vec<Bytes> = words.map(|word| Bytes::from(word.to_owned())).collect();
            vec![converse(&mut session, &host, argv)]
        };
        if !session.take_subscribed() {
            heard.0.lock().expect("no test panics here").drain(..).for_each(|frame| out.extend(frame));
        }
        for reply in replies {
            if session.wants(&reply) {
                encode(&reply, session.protocol(), &mut out);
            }
        }
        let got = String::from_utf8_lossy(&out).replace("\r\n", "|");
        assert_eq!(got, *expect, "step {place}: {sent}");
    }
}

fn converse(session: &mut Session, host: &Follower, argv: Vec<Bytes>) -> Reply {
    let Resolved { command, .. } = match resolve(&argv) {
        Ok(resolved) => resolved,
        Err(error) => return reject(session, &argv, error),
    };
    session.begin(Duration::from_secs(3), command.spec.name, &argv);
    session.show_begun();
    if let Some(error) = refuse(command, session, host.rules()) {
        return reject(session, &argv, error);
    }
    if queues(command, session) {
        return session.queue(argv);
    }
    let reply = run(session, host, &argv);
    match session.request.take() {
        None => reply,
        Some(Request::Watch(keys)) => {
            keys.iter().for_each(|key| session.watch(key, 1));
            Reply::Ok
        }
        Some(Request::Exec) => {
            let transaction = session.take_transaction();
            let replies = transaction.commands.iter().map(|queued| run(session, host, &queued.argv));
            Reply::Array(replies.collect())
        }
    }
}

fn run(session: &mut Session, host: &Follower, argv: &[Bytes]) -> Reply {
    let Resolved { command, skip } = resolve(argv).expect("it was resolved when it came");
    let mut args = Args::new(argv, skip, session.db());
    let reply = match command.lane {
        Lane::Session(run) => run(&mut args, session),
        Lane::Node(run) => run(&mut args, session, host).map(|answer| match answer {
            Answer::Now(reply) | Answer::After(_, reply) | Answer::Checkpoint(reply) => reply,
            Answer::Look(_) | Answer::Digest(_) => Reply::text("the state is not here"),
            Answer::Replicas { wanted, .. } => Reply::Int(wanted),
            Answer::Logged { .. } => Reply::text("the log is not here"),
            Answer::Populate(_) => Reply::text("the log is not here"),
            Answer::Forget(_) => Reply::text("the members are not here"),
        }),
        Lane::Write(_) | Lane::Read(_) => Ok(Reply::text("the state is not here")),
    };
    match reply {
        Ok(reply) => reply,
        Err(Failure::Client(error)) => error.into(),
        Err(Failure::Store(error)) => panic!("{error}"),
    }
}

#[test]
fn debug_is_for_whom_the_option_says() {
    let debug = resolve(&[Bytes::from("DEBUG"), Bytes::from("HELP")]).expect("it exists").command;
    let allowed = |from: &str, debug_clients| {
        let registry = Arc::<Registry>::default();
        let outbox = Arc::<Heard>::default();
        let client = registry.connect(from.to_owned(), "10.0.0.1:6379".to_owned(), outbox, Duration::ZERO);
        let session = Session::new(client, registry, Arc::default(), true);
        match refuse(debug, &session, Rules { password: false, debug: debug_clients }) {
            Some(error) => {
                assert_eq!(error, text::NO_DEBUG);
                false
            }
            None => true,
        }
    };
    for (from, local) in [("127.0.0.1:5", true), ("[::1]:5", true), ("10.0.0.2:5", false)] {
        assert!(!allowed(from, DebugClients::None), "{from}");
        assert_eq!(allowed(from, DebugClients::Local), local, "{from}");
        assert!(allowed(from, DebugClients::All), "{from}");
    }
}

#[test]
fn greets() {
    let hello = |protocol: &str, start: &str| {
        format!(
            "{start}|$6|server|$5|redis|$7|version|$5|7.4.0|$5|proto|:{protocol}|$2|id|:1|$4|mode|$10|\
             standalone|$4|role|$7|replica|$7|modules|*0|"
        )
    };
    let (two, three) = (hello("2", "*14"), hello("3", "%7"));
    check(
        None,
        &[
            ("HELLO", &two),
            ("HELLO 4", "-NOPROTO unsupported protocol version|"),
            ("HELLO abc", "-ERR Protocol version is not an integer or out of range|"),
            ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'|"),
            ("HELLO 3 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'|"),
            ("HELLO 3 AUTH nobody x", "-WRONGPASS invalid username-password pair or user is disabled.|"),
            ("CLIENT GETNAME", "$-1|"),
            ("HELLO 3 AUTH default x SETNAME me", &three),
            ("CLIENT GETNAME", "$2|me|"),
            ("HELLO 3 SETNAME _", &three),
            ("CLIENT GETNAME", "_|"),
            ("RESET", "+RESET|"),
            ("HELLO", &two),
            ("QUIT", "+OK|"),
        ],
    );
}

#[test]
fn asks_for_the_password() {
    const NO_AUTH: &str = "-NOAUTH Authentication required.|";
    const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.|";
    check(
        Some("secret"),
        &[
            ("PING", NO_AUTH),
            ("NOPE", "-ERR unknown command 'NOPE', with args beginning with: |"),
            ("ECHO", "-ERR wrong number of arguments for 'echo' command|"),
            ("EXEC", "-EXECABORT Transaction discarded because of: NOAUTH Authentication required.|"),
            (
                "HELLO 3",
                "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
                 AUTH <user> <pass> option can be used to authenticate the client and select the RESP \
                 protocol version at the same time|",
            ),
            ("AUTH secre", WRONG),
            ("AUTH secret2", WRONG),
            ("AUTH _", WRONG),
            ("AUTH nobody secret", WRONG),
            ("AUTH a b c", "-ERR syntax error|"),
            ("AUTH secret", "+OK|"),
            ("PING", "+PONG|"),
            ("AUTH wrong", WRONG),
            ("PING", "+PONG|"),
            ("RESET", "+RESET|"),
            ("PING", NO_AUTH),
        ],
    );
    check(
        None,
        &[(
            "AUTH secret",
            "-ERR AUTH <password> called without any password configured for the default user. Are you \
             sure your configuration is correct?|",
        )],
    );
}

#[test]
fn collects_a_transaction() {
    check(
        None,
        &[
            ("EXEC", "-ERR EXEC without MULTI|"),
            ("DISCARD", "-ERR DISCARD without MULTI|"),
            ("WATCH a", "+OK|"),
            ("MULTI", "+OK|"),
            ("MULTI", "-ERR MULTI calls can not be nested|"),
            ("WATCH a", "-ERR WATCH inside MULTI is not allowed|"),
            ("PING", "+QUEUED|"),
            ("UNWATCH", "+QUEUED|"),
            ("EXEC", "*2|+PONG|+OK|"),
            ("MULTI", "+OK|"),
            ("NOPE", "-ERR unknown command 'NOPE', with args beginning with: |"),
            ("PING", "+QUEUED|"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
            ("EXEC", "-ERR EXEC without MULTI|"),
            ("MULTI", "+OK|"),
            (
                "EXEC x",
                "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
                 command|",
            ),
            ("MULTI", "+OK|"),
            ("DISCARD", "+OK|"),
            ("MULTI", "+OK|"),
            ("SUBSCRIBE a", "+QUEUED|"),
            ("PING", "+QUEUED|"),
            ("EXEC", "*2|*3|$9|subscribe|$1|a|:1|*2|$4|pong|$0||"),
            (
                "EXEC",
                "-EXECABORT Transaction discarded because of: Can't execute 'exec': only (P|S)SUBSCRIBE / \
                 (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context|",
            ),
        ],
    );
}

/// What EXEC does, its commands do.
#[test]
fn looks_into_a_transaction() {
    let outbox = Arc::<Heard>::default() as Arc<dyn Outbox>;
    let (registry, hub) = (Arc::<Registry>::default(), Arc::<Hub>::default());
    let client =
        registry.connect("127.0.0.1:5".to_owned(), "127.0.0.1:6379".to_owned(), outbox, Duration::ZERO);
    let mut session = Session::new(client, registry, hub, true);
    let host = Follower { password: None, slow_log: SlowLog::default(), latency: LatencyMonitor::default() };
    let exec = resolve(&[Bytes::from("EXEC")]).expect("it exists").command;
    let get = resolve(&[Bytes::from("GET"), Bytes::from("k")]).expect("it exists").command;
    let refused =
        |command, session: &Session, shortage| lacks_room(command, &[], session, || Some(shortage)).is_some();
    for (sent, writes, grows, refuses_all) in [
        ("RESET", false, false, false),
        ("MULTI", false, false, true),
        ("GET k", false, false, true),
        ("DEL k", true, false, true),
        ("SET k v", true, true, true),
    ] {
        converse(&mut session, &host, sent.split(' ').map(|word| Bytes::from(word.to_owned())).collect());
        assert_eq!(may_write(exec, &[], &session, |_, _| false), writes, "after {sent}");
        assert!(!may_write(exec, &[], &session, |_, _| true), "after {sent}");
        for shortage in [Shortage::Memory, Shortage::Disk] {
            assert_eq!(refused(exec, &session, shortage), grows, "after {sent}");
        }
        assert_eq!(refused(get, &session, Shortage::Memory), refuses_all, "after {sent}");
        assert!(!refused(get, &session, Shortage::Disk), "after {sent}");
    }
}

#[test]
fn lets_a_subscriber_only_listen() {
    check(
        None,
        &[
            ("SUBSCRIBE a b a", "*3|$9|subscribe|$1|a|:1|*3|$9|subscribe|$1|b|:2|*3|$9|subscribe|$1|a|:2|"),
            ("PSUBSCRIBE x*", "*3|$10|psubscribe|$2|x*|:3|"),
            (
                "CLIENT LIST",
                "-ERR Can't execute 'client|list': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
                 RESET are allowed in this context|",
            ),
            ("PING x", "*2|$4|pong|$1|x|"),
            ("!a hi", "*3|$7|message|$1|a|$2|hi|"),
            ("!xy hi", "*4|$8|pmessage|$2|x*|$2|xy|$2|hi|"),
            ("UNSUBSCRIBE b zz", "*3|$11|unsubscribe|$1|b|:2|*3|$11|unsubscribe|$2|zz|:2|"),
            ("UNSUBSCRIBE", "*3|$11|unsubscribe|$1|a|:1|"),
            ("!a hi", ""),
            ("PUNSUBSCRIBE", "*3|$12|punsubscribe|$2|x*|:0|"),
            ("PUNSUBSCRIBE", "*3|$12|punsubscribe|$-1|:0|"),
            ("CLIENT ID", ":1|"),
            ("SUBSCRIBE a", "*3|$9|subscribe|$1|a|:1|"),
            ("RESET", "+RESET|"),
            ("!a hi", ""),
            ("PING", "+PONG|"),
        ],
    );
    check(
        None,
        &[
            ("CLIENT REPLY OFF", ""),
            ("SUBSCRIBE a", "*3|$9|subscribe|$1|a|:1|"),
            ("PING", ""),
            ("!a hi", "*3|$7|message|$1|a|$2|hi|"),
        ],
    );
}

#[test]
fn tells_who_listens() {
    check(
        None,
        &[
            ("PUBSUB CHANNELS", "*0|"),
            (
                "PUBSUB CHANNELS a b",
                "-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.|",
            ),
            ("PUBSUB nope", "-ERR unknown subcommand 'nope'. Try PUBSUB HELP.|"),
            ("PUBSUB NUMSUB a b", "*4|$1|a|:0|$1|b|:0|"),
            ("PUBSUB NUMPAT", ":0|"),
        ],
    );
}

#[test]
fn replies_as_asked() {
    check(
        None,
        &[
            ("CLIENT REPLY SKIP", ""),
            ("PING", ""),
            ("PING", "+PONG|"),
            ("CLIENT REPLY SKIP", ""),
            ("CLIENT REPLY ON", "+OK|"),
            ("PING", "+PONG|"),
            ("CLIENT REPLY OFF", ""),
            ("CLIENT REPLY SKIP", ""),
            ("PING", ""),
            ("PING", ""),
            ("CLIENT REPLY ON", "+OK|"),
            ("CLIENT REPLY no", "-ERR syntax error|"),
        ],
    );
}

#[test]
fn lists_and_kills() {
    let line = "id=1 addr=127.0.0.1:5 laddr=127.0.0.1:6379 fd=-1 name= age=3 idle=0 flags=e db=2 sub=0 \
                psub=0 ssub=0 multi=-1 qbuf=26 qbuf-free=0 argv-mem=10 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 \
                omem=0 tot-mem=";
    let tail = " events=r cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver=\n|";
    let session = {
        let registry = Arc::<Registry>::default();
        let outbox = Arc::<Heard>::default() as Arc<dyn Outbox>;
        let client =
            registry.connect("127.0.0.1:5".to_owned(), "127.0.0.1:6379".to_owned(), outbox, Duration::ZERO);
        Session::new(client, registry, Arc::default(), true)
    };
    let size = session.client().line(Duration::ZERO);
    let total = size.split("tot-mem=").nth(1).and_then(|rest| rest.split(' ').next()).expect("the field");
    let total: usize = total.parse().expect("a number");
    let list = format!("{line}{}{tail}", total + 26);
    let list = format!("${}|{list}", list.len() - 1);
    check(
        None,
        &[
            ("SELECT 16", "-ERR DB index is out of range|"),
            ("SELECT a", "-ERR value is not an integer or out of range|"),
            (
                "SELECT 99999999999",
                "-ERR value is out of range, value must between -2147483648 and 2147483647|",
            ),
            ("SELECT 2", "+OK|"),
            ("CLIENT NO-EVICT ON", "+OK|"),
            ("CLIENT LIST", &list),
            ("CLIENT LIST TYPE pubsub", "$0||"),
            ("CLIENT LIST TYPE nope", "-ERR Unknown client type 'nope'|"),
            ("CLIENT LIST ID 0 -5 9", "$0||"),
            ("CLIENT LIST ID a", "-ERR Invalid client ID|"),
            ("CLIENT LIST ID", "-ERR syntax error|"),
            ("CLIENT KILL ID 0", "-ERR client-id should be greater than 0|"),
            ("CLIENT KILL ID 9", ":0|"),
            ("CLIENT KILL USER nobody", "-ERR No such user 'nobody'|"),
            ("CLIENT KILL TYPE normal", ":0|"),
            ("CLIENT KILL 1.1.1.1:1", "-ERR No such client|"),
            ("CLIENT KILL 127.0.0.1:5", "+OK|"),
            ("CLIENT KILL TYPE normal SKIPME no ADDR 127.0.0.1:5", ":1|"),
            ("CLIENT SETINFO lib-name jedis", "+OK|"),
            ("CLIENT SETINFO lib-colour red", "-ERR Unrecognized option 'lib-colour'|"),
            (
                "CLIENT MAINT_NOTIFICATIONS ON",
                "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.|",
            ),
            ("CLIENT UNBLOCK 9 ERROR", ":0|"),
            ("CLIENT UNBLOCK 9 NOW", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR|"),
        ],
    );
}

#[test]
fn answers_about_the_node() {
    check(
        None,
        &[
            ("TIME", "*2|$10|1700000000|$6|123000|"),
            ("ROLE", "*5|$5|slave|$8|10.0.0.1|:6379|$9|connected|:7|"),
            ("WAIT 1 -1", "-ERR timeout is negative|"),
            ("WAIT 1 x", "-ERR timeout is not an integer or out of range|"),
            ("WAIT 1 0", ":1|"),
            ("CONFIG GET a", "*2|$1|a|$1|1|"),
            ("CONFIG SET a 1 b", "-ERR syntax error|"),
            ("CONFIG RESETSTAT", "+OK|"),
            ("INFO modules", "$11|# Modules||"),
            ("DEBUG SLEEP 0.5", "+OK|"),
            (
                "DEBUG nope",
                "-ERR unknown subcommand or wrong number of arguments for 'nope'. Try DEBUG HELP.|",
            ),
            ("CLUSTER INFO", "-ERR This instance has cluster support disabled|"),
            ("READONLY", "+OK|"),
            ("SLOWLOG GET", "*0|"),
            ("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1|"),
            ("SLOWLOG LEN", ":0|"),
        ],
    );
}

#[test]
fn describes_commands() {
    check(
        None,
        &[
            (
                "COMMAND INFO PING nope",
                "*2|*10|$4|ping|:-1|*1|+fast|:0|:0|:0|*2|+@fast|+@connection|*0|*0|*0|$-1|",
            ),
            ("COMMAND GETKEYS WATCH a b", "*2|$1|a|$1|b|"),
            ("COMMAND GETKEYS CLIENT LIST", "-ERR The command has no key arguments|"),
            ("COMMAND GETKEYS nope x", "-ERR Invalid command specified|"),
            ("COMMAND LIST FILTERBY PATTERN UNWA*", "*1|$7|unwatch|"),
            ("COMMAND LIST FILTERBY MODULE x", "*0|"),
            ("COMMAND LIST FILTERBY PATTERN", "-ERR syntax error|"),
            (
                "COMMAND DOCS ECHO",
                "*2|$4|echo|*10|$7|summary|$21|Echo the given string|$5|since|$5|1.0.0|$5|group|$10|\
                 connection|$10|complexity|$4|O(1)|$9|arguments|*1|*4|$4|name|$7|message|$4|type|$6|string|",
            ),
        ],
    );
}
