//! `/metrics` and the health checks, over HTTP/1.1.
//!
//! | path | answers |
//! | --- | --- |
//! | `/metrics` | Prometheus' text format |
//! | `/livez` | 200 while the process works; 503: restart it |
//! | `/readyz`, `/readyz?verbose` | 200 while it can serve clients; 503: send them elsewhere |
//! | `/health` | the same in etcd's words, as JSON |
//! | `/leader`, `/replica` | 200 on the leader, or elsewhere; 503 otherwise: for load balancers |
//!
//! # Why not an HTTP library
//! Six fixed answers to GET need a request line and the end of a head. A library would open its own
//! sockets and timers, past [`Env`], so that nothing here would run in a simulation; and it would be the
//! largest dependency of the project for its smallest part.
//!
//! A request's head is bounded, and so are its time and the number of connections: this port is often
//! reachable by more than the clients' one.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::env::{BoxFuture, BoxStream, Clock, Env, Listener};

/// What is asked of the node.
pub trait HttpSource: Send + Sync {
    /// All metrics, in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Whether this process works at all; otherwise why not.
    fn live(&self) -> Result<(), String>;
    /// Everything a client needs, each by name, and what is wrong with it if anything. May take as long as
    /// a read takes; it is given up after some seconds.
    fn ready(&self) -> BoxFuture<'_, Vec<Check>>;
    /// Whether this node leads.
    fn is_leader(&self) -> bool;
}

/// One thing that was checked, and what is wrong with it.
pub type Check = (&'static str, Result<(), String>);

const HEAD_BYTES_MAX: usize = 8 * 1024;
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send a request or to read the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the checks may take; shorter than what those who ask usually wait.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Answers whoever connects, until it is dropped, which ends the connections too.
pub async fn serve(env: Env, listener: Box<dyn Listener>, source: Arc<dyn HttpSource>) {
    let mut connections = Vec::new();
    loop {
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                env.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        connections.retain(|task: &crate::env::TaskHandle| !task.is_finished());
        // Beyond the bound a connection is closed at once; whoever asks for health will ask again.
        if connections.len() < CONNECTIONS_MAX {
            let talk = converse(accepted.stream, env.clock.clone(), source.clone());
            connections.push(env.spawner.spawn(Box::pin(talk)));
        }
    }
}

/// Answers the requests of one connection, one after another.
async fn converse(mut stream: BoxStream, clock: Arc<dyn Clock>, source: Arc<dyn HttpSource>) {
    let mut buffer = Vec::new();
    loop {
        let Some(head) = within(&*clock, CLIENT_TIMEOUT, read_head(&mut stream, &mut buffer)).await else {
            return; // Silence.
        };
        let (answer, request) = match head {
            Head::Closed => return,
            Head::TooLong => (Answer::text(431, "request too long\n"), Request::LAST),
            Head::Complete(head) => match Request::parse(&head) {
                Some(request) => (respond(&request, &*clock, &*source).await, request),
                None => (Answer::text(400, "not an HTTP request\n"), Request::LAST),
            },
        };
        let bytes = answer.encode(&request);
        let sent = within(&*clock, CLIENT_TIMEOUT, stream.write_all(&bytes)).await;
        if !matches!(sent, Some(Ok(()))) || request.last {
            return;
        }
    }
}

/// What `work` returns, unless it takes longer than `limit`.
async fn within<T>(clock: &dyn Clock, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock.sleep(limit) => None,
    }
}

enum Head {
    /// All bytes up to the empty line.
    Complete(Vec<u8>),
    TooLong,
    /// The other side is gone.
    Closed,
}

/// Reads up to the empty line that ends a head. What was read beyond it stays in `buffer`.
async fn read_head(stream: &mut BoxStream, buffer: &mut Vec<u8>) -> Head {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = buffer.split_off(end + 4);
            return Head::Complete(std::mem::replace(buffer, rest));
        }
        if buffer.len() >= HEAD_BYTES_MAX {
            return Head::TooLong;
        }
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return Head::Closed,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
        }
    }
}

/// What we understand of a request.
struct Request {
    path: String,
    verbose: bool,
    method: Method,
    /// The connection ends after the answer.
    last: bool,
}

#[derive(PartialEq, Eq)]
enum Method {
    Get,
    Head,
    Other,
}

impl Request {
    /// What goes with an answer to something that was no request.
    const LAST: Self = Self { path: String::new(), verbose: false, method: Method::Other, last: true };

    fn parse(head: &[u8]) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !target.starts_with('/') || !version.starts_with("HTTP/1.") {
            return None;
        }
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Other,
        };
        let header = |name: &str| {
            let lines = lines.clone().filter_map(|line| line.split_once(':'));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
        };
        // A body is never read, so nothing after it could be understood.
        let has_body = header("content-length").is_some_and(|length| length != "0")
            || header("transfer-encoding").is_some();
        let asks_to_close = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Self {
            path: path.to_owned(),
            verbose: query.split('&').any(|word| word == "verbose" || word.starts_with("verbose=")),
            method,
            last: has_body || asks_to_close || version == "HTTP/1.0",
        })
    }
}

async fn respond(request: &Request, clock: &dyn Clock, source: &dyn HttpSource) -> Answer {
    if request.method == Method::Other {
        return Answer::text(405, "only GET and HEAD\n");
    }
    match request.path.as_str() {
        "/metrics" => {
            Answer { content_type: "text/plain; version=0.0.4", ..Answer::text(200, source.metrics()) }
        }
        "/livez" => match source.live() {
            Ok(()) => Answer::text(200, "ok\n"),
            Err(why) => Answer::text(503, format!("{why}\n")),
        },
        "/readyz" => ready(&checks(clock, source).await, request.verbose),
        "/health" => health(&checks(clock, source).await),
        "/leader" if source.is_leader() => Answer::text(200, "leader\n"),
        "/leader" => Answer::text(503, "not the leader\n"),
        "/replica" if source.is_leader() => Answer::text(503, "the leader\n"),
        "/replica" => Answer::text(200, "not the leader\n"),
        _ => Answer::text(404, "/metrics /livez /readyz?verbose /health /leader /replica\n"),
    }
}

async fn checks(clock: &dyn Clock, source: &dyn HttpSource) -> Vec<Check> {
    let late = || vec![("checks", Err(format!("no answer in {} s", READY_TIMEOUT.as_secs())))];
    within(clock, READY_TIMEOUT, source.ready()).await.unwrap_or_else(late)
}

fn ready(checks: &[Check], verbose: bool) -> Answer {
    let failed = checks.iter().any(|(_, found)| found.is_err());
    let line = |(name, found): &Check| match found {
        Ok(()) => format!("[+]{name} ok\n"),
        Err(why) => format!("[-]{name} failed: {why}\n"),
    };
    let mut body = String::new();
    if verbose || failed {
        body.extend(checks.iter().map(line));
    }
    body.push_str(if failed { "not ready\n" } else { "ok\n" });
    Answer::text(if failed { 503 } else { 200 }, body)
}

fn health(checks: &[Check]) -> Answer {
    let failed: Vec<String> = checks
        .iter()
        .filter_map(|(name, found)| found.as_ref().err().map(|why| format!("{name}: {why}")))
        .collect();
    let (status, health) = if failed.is_empty() { (200, "true") } else { (503, "false") };
    let reason = json_string(&failed.join("; "));
    let body = format!("{{\"health\":\"{health}\",\"reason\":{reason}}}\n");
    Answer { content_type: "application/json", ..Answer::text(status, body) }
}

/// `text` as a JSON string.
fn json_string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if u32::from(c) < 0x20 => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    fn encode(&self, request: &Request) -> Vec<u8> {
        let Self { status, content_type, body } = self;
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        };
        let connection = if request.last { "close" } else { "keep-alive" };
        let mut text = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
             connection: {connection}\r\n\r\n",
            body.len()
        );
        if request.method != Method::Head {
            text.push_str(body);
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock on which nothing ever takes long, or everything does.
    struct Still {
        patient: bool,
    }

    impl Clock for Still {
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
        fn wall_ms(&self) -> u64 {
            0
        }
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            if self.patient { Box::pin(std::future::pending()) } else { Box::pin(async {}) }
        }
        fn sleep_precise(&self, duration: Duration) -> BoxFuture<'static, ()> {
            self.sleep(duration)
        }
    }

    #[derive(Clone)]
    struct Node {
        is_leader: bool,
        quorum: Result<(), String>,
    }

    impl HttpSource for Node {
        fn metrics(&self) -> String {
            "quorate_up 1\n".to_owned()
        }
        fn live(&self) -> Result<(), String> {
            Ok(())
        }
        fn ready(&self) -> BoxFuture<'_, Vec<Check>> {
            Box::pin(async { vec![("disk", Ok(())), ("quorum", self.quorum.clone())] })
        }
        fn is_leader(&self) -> bool {
            self.is_leader
        }
    }

    const WELL: Node = Node { is_leader: true, quorum: Ok(()) };

    /// All that is answered to these bytes.
    async fn talk(node: Node, bytes: &[u8]) -> String {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        ours.write_all(bytes).await.expect("the pipe holds it");
        ours.shutdown().await.expect("a pipe can be closed");
        converse(Box::new(theirs), Arc::new(Still { patient: true }), Arc::new(node)).await;
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.expect("answers are text");
        answer
    }

    #[track_caller]
    fn check(node: &Node, target: &str, status: u16, body: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = runtime.block_on(talk(node.clone(), request.as_bytes()));
        let (head, found) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{target}: {head}");
        assert_eq!(found, body, "{target}");
    }

    #[test]
    fn paths_tell_how_the_node_is() {
        let ill = Node { is_leader: false, quorum: Err("no \"leader\"".to_owned()) };
        check(&WELL, "/metrics", 200, "quorate_up 1\n");
        check(&WELL, "/livez", 200, "ok\n");
        check(&WELL, "/readyz", 200, "ok\n");
        check(&WELL, "/readyz?verbose", 200, "[+]disk ok\n[+]quorum ok\nok\n");
        check(&ill, "/readyz", 503, "[+]disk ok\n[-]quorum failed: no \"leader\"\nnot ready\n");
        check(&WELL, "/health", 200, "{\"health\":\"true\",\"reason\":\"\"}\n");
        check(&ill, "/health", 503, "{\"health\":\"false\",\"reason\":\"quorum: no \\\"leader\\\"\"}\n");
        check(&WELL, "/leader", 200, "leader\n");
        check(&ill, "/leader", 503, "not the leader\n");
        check(&WELL, "/replica", 503, "the leader\n");
        check(&ill, "/replica", 200, "not the leader\n");
        check(&WELL, "/", 404, "/metrics /livez /readyz?verbose /health /leader /replica\n");
    }

    #[tokio::test]
    async fn a_connection_serves_several_requests() {
        let answers = talk(
            WELL,
            b"GET /livez HTTP/1.1\r\n\r\nHEAD /livez HTTP/1.1\r\n\r\nGET /leader HTTP/1.0\r\n\r\n",
        )
        .await;
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3);
        assert_eq!(answers.matches("ok\n").count(), 1, "HEAD has no body");
        assert!(answers.ends_with("connection: close\r\n\r\nleader\n"), "{answers}");
    }

    #[tokio::test]
    async fn what_is_no_request_ends_the_connection() {
        let post = "POST /livez HTTP/1.1\r\nContent-Length: 24\r\n\r\nGET /livez HTTP/1.1\r\n\r\n";
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        for (request, status) in [
            (post, "405"),
            (&long, "431"),
            ("*1\r\n$4\r\nPING\r\n\r\n", "400"),
            ("GET livez HTTP/1.1\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
        ] {
            let answer = talk(WELL, request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.20}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        }
        assert_eq!(talk(WELL, b"GET /livez HTT").await, "", "half a request");
        assert_eq!(talk(WELL, &[0xff, b'\r', b'\n', b'\r', b'\n']).await.matches("400").count(), 1);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        converse(Box::new(theirs), Arc::new(Still { patient: false }), Arc::new(WELL)).await;
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.expect("the connection was closed");
        assert_eq!(answer, "", "silence is answered with silence");

        struct Stuck;
        impl HttpSource for Stuck {
            fn metrics(&self) -> String {
                String::new()
            }
            fn live(&self) -> Result<(), String> {
                Ok(())
            }
            fn ready(&self) -> BoxFuture<'_, Vec<Check>> {
                Box::pin(std::future::pending())
            }
            fn is_leader(&self) -> bool {
                false
            }
        }
        let found = checks(&Still { patient: false }, &Stuck).await;
        assert_eq!(found, [("checks", Err("no answer in 5 s".to_owned()))]);
    }
}
