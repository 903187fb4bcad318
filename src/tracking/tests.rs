use super::*;

/// A connection that writes down what it is sent.
struct Listener {
    id: u64,
    protocol: Protocol,
    listens: bool,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Keeper for Listener {
    fn id(&self) -> u64 {
        self.id
    }
    fn protocol(&self) -> Protocol {
        self.protocol
    }
    fn listens(&self) -> bool {
        self.listens
    }
    fn push_behind(&self, frame: Bytes) {
        let text = String::from_utf8_lossy(&frame).replace("\r\n", " ");
        self.heard.lock().expect("no test panics here").push(format!("{}: {}", self.id, text.trim_end()));
    }
    fn redirect_broke(&self) {
        self.heard.lock().expect("no test panics here").push(format!("{} broke", self.id));
    }
}

/// A node with clients: 1, 2 and 3 speak RESP3; 4 speaks RESP2, 5 too, and it subscribes.
struct Scene {
    tracking: Tracking,
    clients: BTreeMap<u64, Arc<Listener>>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    fn new() -> Self {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let client = |id| {
            let protocol = if id < 4 { Protocol::Resp3 } else { Protocol::Resp2 };
            (id, Arc::new(Listener { id, protocol, listens: id == 5, heard: Arc::clone(&heard) }))
        };
        Self { tracking: Tracking::default(), clients: (1..=5).map(client).collect(), heard }
    }

    /// Does what a word says:
    ///
    /// | word | |
    /// | --- | --- |
    /// | `1+`, `1+noloop`, `1+>5`, `1+a,b` | 1 tracks; to 5; prefixes |
    /// | `1-` | it no longer does |
    /// | `1?k@7` | it reads `k` at revision 7 |
    /// | `1?k`, `1.k`, `1/k` | it is going to read `k`; it has; it has not |
    /// | `k!8`, `k!8=1` | `k` is changed by the entry that ends at revision 8; by 1 |
    /// | `*!8` | all keys are |
    /// | `flush`, `<2` | all is forgotten; at most two keys |
    /// | `5x` | the connection ends |
    fn step(&mut self, word: &str) {
        let key = |text: &str| Bytes::from(text.to_owned());
        if word == "flush" {
            return self.tracking.flush();
        }
        if let Some(limit) = word.strip_prefix('<') {
            return self.tracking.limit(limit.parse().expect("a number"));
        }
        if let Some((name, at)) = word.split_once('!') {
            let (revision, author) = at.split_once('=').map_or((at, None), |(at, by)| (at, Some(by)));
            let author = author.map(|by| Author { sequence: by.parse().expect("a client"), place: 0 });
            let touch = |name: &str| match name {
                "*" => Touch::All,
                name => Touch::Key { key: key(name), author },
            };
            let touched = name.split(',').map(touch).collect::<Vec<_>>();
            let revision = revision.parse().expect("a number");
            return self.tracking.touched(&touched, revision, |author| Some(author.sequence));
        }
        let (id, rest) = word.split_at(1);
        let id = id.parse().expect("a client");
        let (what, rest) = rest.split_at(1);
        match what {
            "+" => {
                let prefixes = |text: &str| text.split(',').map(key).collect::<Vec<_>>();
                let options = match rest.split_at_checked(1) {
                    Some((">", to)) => {
                        let to = to.parse().expect("a client");
                        let keeper = Arc::clone(&self.clients[&to]) as Arc<dyn Keeper>;
                        let keeper = Arc::downgrade(&keeper);
                        Options { redirect: Some(Redirect { id: to, keeper }), noloop: false, prefixes: None }
                    }
                    _ => Options {
                        redirect: None,
                        noloop: rest.starts_with("noloop"),
                        prefixes: rest
                            .strip_prefix("noloop")
                            .unwrap_or(rest)
                            .split_once(':')
                            .map(|(_, all)| prefixes(all)),
                    },
                };
                let client = Arc::clone(&self.clients[&id]) as Arc<dyn Keeper>;
                if let Err(overlap) = self.tracking.start(client, options) {
                    self.heard.lock().expect("no test panics here").push(format!("{overlap:?}"));
                }
            }
            "-" => self.tracking.stop(id),
            "x" => {
                self.tracking.stop(id);
                self.clients.remove(&id);
            }
            "?" => match rest.split_once('@') {
                Some((name, revision)) => {
                    self.tracking.remember(id, &[key(name)], revision.parse().expect("a number"));
                }
                None => self.tracking.hold(id, &[key(rest)]),
            },
            "." => {
                self.tracking.have_read(std::iter::once(id));
                self.tracking.release(id, &[key(rest)]);
            }
            "/" => self.tracking.release(id, &[key(rest)]),
            _ => panic!("{word}: no such step"),
        }
    }
}

/// Runs a script, and compares what was heard and what is remembered in the end: clients, keys, items, prefixes.
#[track_caller]
fn check(script: &str, expect: &[&str], totals: [usize; 4]) {
    let mut scene = Scene::new();
    script.split(' ').for_each(|word| scene.step(word));
    assert_eq!(*scene.heard.lock().expect("no test panics here"), expect, "{script}");
    let [clients, keys, items, prefixes] = totals;
    assert_eq!(scene.tracking.totals(), Totals { clients, keys, items, prefixes }, "{script}");
    let counted = scene.tracking.lock().keys.values().map(BTreeMap::len).sum::<usize>();
    assert_eq!(counted, items, "{script}");
    assert_eq!(scene.tracking.any.load(Ordering::SeqCst), clients > 0, "{script}");
}

const A: &str = "1: >2 $10 invalidate *1 $1 a";

#[test]
fn a_key_that_was_read_is_told_of_once() {
    check("1?a@1 a!2", &[], [0; 4]);
    check("1+ 1?a@1 a!2 a!3", &[A], [1, 0, 0, 0]);
    check("1+ 1?a@1 b!2", &[], [1, 1, 1, 0]);
    check("1+ 1?a@1 1?a@1 1?b@1 2+ 2?a@1", &[], [2, 2, 3, 0]);
    check("1+ 2+ 1?a@1 2?a@1 a!2", &[A, "2: >2 $10 invalidate *1 $1 a"], [2, 0, 0, 0]);
    check("1+ 1?a@1 1- a!2 1+ a!3", &[], [1, 0, 0, 0]);
    // RESP2 has no way to hear of it on the same connection.
    check("4+ 4?a@1 a!2", &[], [1, 0, 0, 0]);
}

#[test]
fn what_a_read_has_seen_is_not_told() {
    check("1+ 1?a@2 a!2 a!1", &[], [1, 1, 1, 0]);
    check("1+ 1?a@2 a!2 a!3", &[A], [1, 0, 0, 0]);
    check("1+ 1?a@2 1?a@3 a!3", &[], [1, 1, 1, 0]);
}

#[test]
fn a_held_key_outlives_changes() {
    check("1+ 1?a a!2 a!3", &[A, A], [1, 1, 1, 0]);
    check("1+ 1?a a!2 1.a a!3 a!4", &[A, A], [1, 0, 0, 0]);
    check("1+ 1?a 1?a@9 a!3 1.a", &[A], [1, 1, 1, 0]);
    check("1+ 1?a *!3 flush 1.a a!4", &["1: >2 $10 invalidate _", "1: >2 $10 invalidate _", A], [1, 0, 0, 0]);
    check("1+ 1?a 1/a a!4", &[], [1, 0, 0, 0]);
    // What it did not read then, it had read before.
    check("1+ 1?a@1 1?a 1/a a!4", &[A], [1, 0, 0, 0]);
}

#[test]
fn everything_at_once() {
    check("1+ 2+:x 1?a@1 1?b@7 *!5 a!6", &["1: >2 $10 invalidate _", "2: >2 $10 invalidate _"], [2, 1, 1, 1]);
    check("1+ 1?a@9 flush a!10", &["1: >2 $10 invalidate _"], [1, 0, 0, 0]);
}

#[test]
fn own_changes_need_not_be_heard() {
    check("1+ 1?a@1 a!2=1", &[A], [1, 0, 0, 0]);
    check("1+noloop 1?a@1 a!2=1 a!3", &[], [1, 0, 0, 0]);
    check("1+noloop 1?a@1 a!2=2", &[A], [1, 0, 0, 0]);
    check("1+noloop:a ab!2=1 ac!3=2", &["1: >2 $10 invalidate *1 $2 ac"], [1, 0, 0, 1]);
    // Its own change, and then the key's end, in one entry.
    check("1+noloop: a!2=1 a!3", &[A], [1, 0, 0, 1]);
}

#[test]
fn prefixes_are_told_of_together() {
    check("1+: b,a,b!2", &["1: >2 $10 invalidate *2 $1 a $1 b"], [1, 0, 0, 1]);
    check(
        "1+:a,b 1+:c ax,c,bx,a,d!2",
        &[
            "1: >2 $10 invalidate *2 $1 a $2 ax",
            "1: >2 $10 invalidate *1 $2 bx",
            "1: >2 $10 invalidate *1 $1 c",
        ],
        [1, 0, 0, 3],
    );
    check(
        "1+:ab 2+:a abc!2 1- abc!3",
        &[
            "2: >2 $10 invalidate *1 $3 abc",
            "1: >2 $10 invalidate *1 $3 abc",
            "2: >2 $10 invalidate *1 $3 abc",
        ],
        [1, 0, 0, 1],
    );
    check(
        "1+:a 1+:b,ax 2+:b,bx 1+:b",
        &["Existing(b\"ax\", b\"a\")", "Provided(b\"b\", b\"bx\")"],
        [1, 0, 0, 2],
    );
}

#[test]
fn another_connection_hears_it() {
    check("4+>5 4?a@1 a!2", &["5: *3 $7 message $20 __redis__:invalidate *1 $1 a"], [1, 0, 0, 0]);
    check("4+>2 4?a@1 a!2", &["2: >2 $10 invalidate *1 $1 a"], [1, 0, 0, 0]);
    check("1+>4 1?a@1 a!2", &[], [1, 0, 0, 0]);
    check("1+>5 1?a@1 5x a!2", &["1 broke", "1: >2 $21 tracking-redir-broken :5"], [1, 0, 0, 0]);
    check("4+>5 4?a@1 5x a!2", &["4 broke"], [1, 0, 0, 0]);
}

#[test]
fn the_table_is_bounded() {
    let of = |key: &str| format!("1: >2 $10 invalidate *1 $1 {key}");
    check("1+ 2+ <2 1?a@1 2?a@1 1?b@1 1?c@1", &[&of("a"), &of("a").replacen('1', "2", 1)], [2, 2, 2, 0]);
    check("1+ 1?a@1 1?b@1 1?c@1 <1", &[&of("a"), &of("b")], [1, 1, 1, 0]);
    check("1+ <2 1?c@1 1?d@1 1?b@1 1?a@1", &[&of("b"), &of("c")], [1, 2, 2, 0]);
    check("1+ <0 1?c@1 1?d@1 1?b@1", &[], [1, 3, 3, 0]);
}
