//! Three nodes: the real server, on simulated hosts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::config::Config;
use crate::env::sim::World;
use crate::node::Node;
use crate::raft::Role;
use crate::server::Server;

/// The nodes' hosts.
pub const HOSTS: [&str; 3] = ["n1", "n2", "n3"];
/// How long a node lets a client wait for a quorum.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    world: World,
    nodes: Arc<Mutex<BTreeMap<&'static str, Weak<Node>>>>,
    /// Why nodes could not start.
    failures: Arc<Mutex<Vec<String>>>,
    /// What was done to it, for whoever looks into a run that failed.
    diary: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// A cluster whose hosts are off.
    pub fn new(world: &World) -> Self {
        Self { world: world.clone(), nodes: Arc::default(), failures: Arc::default(), diary: Arc::default() }
    }

    /// The world it is in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Switches a host on, and starts its node.
    pub fn start(&self, host: &'static str) {
        let env = self.world.node(host);
        let (nodes, failures) = (Arc::clone(&self.nodes), Arc::clone(&self.failures));
        let serving = {
            let env = env.clone();
            async move {
                match Server::start(env, &config(host)).await {
                    Ok(server) => {
                        nodes.lock().expect("no holder panics").insert(host, Arc::downgrade(server.node()));
                        std::future::pending::<()>().await;
                    }
                    Err(error) => {
                        failures.lock().expect("no holder panics").push(format!("{host}: {error}"));
                    }
                }
            }
        };
        env.spawner.spawn(Box::pin(serving)).detach();
    }

    /// Notes something that happened to the cluster.
    pub fn note(&self, what: &str) {
        let at = self.world.elapsed();
        self.diary.lock().expect("no holder panics").push(format!("{at:>12.3?} {what}"));
    }

    /// All that was noted.
    pub fn diary(&self) -> String {
        self.diary.lock().expect("no holder panics").join("\n")
    }

    /// Starts what is off.
    pub fn start_all(&self) {
        for host in HOSTS {
            if !self.world.is_up(host) {
                self.note(&format!("{host} starts, after {:?}", self.world.exited(host)));
                self.start(host);
            }
        }
    }

    /// The node on `host`, if it is part of the cluster by now.
    pub fn node(&self, host: &str) -> Option<Arc<Node>> {
        let nodes = self.nodes.lock().expect("no holder panics");
        nodes.get(host).and_then(Weak::upgrade).filter(|_| self.world.is_up(host))
    }

    /// The host whose node leads, as far as it knows itself.
    pub fn leader(&self) -> Option<&'static str> {
        let leads = |host: &&str| {
            self.node(host).is_some_and(|node| node.view().borrow().role == Role::Leader)
        };
        HOSTS.into_iter().find(leads)
    }

    /// Waits until a node leads, for at most `limit`.
    pub async fn led(&self, limit: Duration) -> Option<&'static str> {
        let clock = self.world.client_env().clock;
        let give_up = self.world.elapsed() + limit;
        while self.world.elapsed() < give_up {
            if let Some(host) = self.leader() {
                return Some(host);
            }
            clock.sleep(Duration::from_millis(10)).await;
        }
        None
    }

    /// Where each node stands: how far it has applied the log, and a hash of its state.
    pub fn digests(&self) -> Vec<(u64, u64)> {
        let nodes = HOSTS.iter().filter_map(|host| self.node(host));
        nodes.map(|node| node.digest().expect("the state can be read")).collect()
    }

    /// Waits until all nodes have applied the same, and checks that it made them the same.
    pub async fn settle(&self, limit: Duration) -> Result<(), String> {
        let clock = self.world.client_env().clock;
        let give_up = self.world.elapsed() + limit;
        loop {
            let digests = self.digests();
            let all = digests.len() == HOSTS.len();
            if all && digests.iter().all(|(applied, _)| *applied == digests[0].0) {
                self.debug_diff();
                let same = digests.iter().all(|digest| *digest == digests[0]);
                return if same { Ok(()) } else { Err(format!("the nodes differ: {digests:x?}")) };
            }
            if self.world.elapsed() > give_up {
                return Err(format!("the nodes do not get together: {digests:x?}"));
            }
            clock.sleep(Duration::from_millis(100)).await;
        }
    }

    fn debug_diff(&self) {
        use crate::store::Table;
        let mut all = Vec::new();
        for host in HOSTS {
            let node = self.node(host).unwrap();
            let store = node.debug_store();
            let view = store.view(0);
            let mut map = std::collections::BTreeMap::new();
            for table in [Table::Keys, Table::Expiry, Table::Elements, Table::Meta] {
                view.scan(table, b"", None, &mut |key, value| {
                    map.insert((table as u8, key.to_vec()), value.to_vec());
                    std::ops::ControlFlow::Continue(())
                }).unwrap();
            }
            all.push((map, view.head().clone()));
        }
        for i in 1..3 {
            if all[0].1 != all[i].1 { self.note(&format!("head n1 {:?} vs {i} {:?}", all[0].1, all[i].1)); }
            for (key, value) in &all[0].0 {
                let other = all[i].0.get(key);
                if other != Some(value) { self.note(&format!("{i} {:?}: {:?} vs {:?}", key.0, String::from_utf8_lossy(&key.1), other.map(|o| (String::from_utf8_lossy(&o[..o.len().min(60)]).into_owned(), String::from_utf8_lossy(&value[..value.len().min(60)]).into_owned()) ))); }
            }
            for (key, _) in &all[i].0 { if !all[0].0.contains_key(key) { self.note(&format!("{i} only: {:?}", String::from_utf8_lossy(&key.1))); } }
        }
    }

    /// What went wrong with nodes that nobody made fail.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("no holder panics").clone()
    }
}

fn config(host: &str) -> Config {
    let timeout = REQUEST_TIMEOUT.as_millis().to_string();
    let mut config = Config::of(&[
        ("data", "data"),
        ("listen", &format!("{host}:6379")),
        ("peer-listen", &format!("{host}:7000")),
        ("peers", "n1:7000,n2:7000,n3:7000"),
        ("request-timeout-ms", &timeout),
        ("checkpoint-seconds", "2"),
    ])
    .expect("these fit");
    // Smaller than an operator may: so that the log is recycled, the buffer runs over, and a node that was
    // away is sent a snapshot, within seconds.
    config.wal_segment_bytes = 64 << 10;
    config.wal_keep_bytes = 128 << 10;
    config.buffer_bytes = 128 << 10;
    config
}
