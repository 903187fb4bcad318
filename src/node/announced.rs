//! What clients made for Sentinel are told of a change of leaders.
//!
//! A Sentinel publishes to those who subscribe to it; so does each node to its own subscribers, in Sentinel's
//! words. This is about the node's view and not about the state: nothing of it goes through the log, and it reaches
//! clients while there is no quorum, too.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::pubsub::Hub;
use crate::raft::View;

/// Who is told, and what the leader is called.
pub struct Announced {
    pub hub: Arc<Hub>,
    pub master: String,
}

impl Announced {
    /// Follows the view until consensus ends.
    pub async fn follow(self, mut view: watch::Receiver<View>) {
        let mut last: Option<String> = None;
        let mut down = false;
        loop {
            let leader =
                view.borrow_and_update().leader_member().map(|(_, member)| member.client_address.clone());
            match (&last, leader) {
                (Some(known), None) if !down => {
                    down = true;
                    self.tell("+sdown", format!("master {} {}", self.master, words(known)));
                }
                (Some(known), Some(leader)) if *known == leader => {
                    if std::mem::take(&mut down) {
                        self.tell("-sdown", format!("master {} {}", self.master, words(known)));
                    }
                }
                (Some(known), Some(leader)) => {
                    down = false;
                    self.tell(
                        "+switch-master",
                        format!("{} {} {}", self.master, words(known), words(&leader)),
                    );
                    last = Some(leader);
                }
                (None, Some(leader)) => last = Some(leader),
                (_, None) => {}
            }
            if view.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell(&self, channel: &'static str, message: String) {
        self.hub.publish(&Bytes::from_static(channel.as_bytes()), &Bytes::from(message));
    }
}

/// Host and port, as Sentinel writes them.
fn words(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    format!("{host} {port}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::pubsub::Subscriber;
    use crate::raft::Member;
    use crate::resp::Protocol;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Subscriber for Heard {
        fn id(&self) -> u64 {
            1
        }
        fn protocol(&self) -> Protocol {
            Protocol::Resp2
        }
        fn push(&self, frame: Bytes) -> bool {
            let text = String::from_utf8_lossy(&frame).into_owned();
            self.0
                .lock()
                .expect("no test panics here")
                .extend(text.lines().skip(4).step_by(2).map(str::to_owned));
            true
        }
    }

    fn led_by(leader: Option<u64>) -> View {
        let member = |id: u64| Member { peer_address: format!("p:{id}"), client_address: format!("h:{id}") };
        View { leader, members: BTreeMap::from([1, 2].map(|id| (id, member(id)))), ..View::default() }
    }

    #[tokio::test]
    async fn subscribers_hear_of_a_new_leader() {
        let (hub, heard) = (Arc::<Hub>::default(), Arc::<Heard>::default());
        for channel in ["+switch-master", "+sdown", "-sdown"] {
            hub.subscribe(Bytes::from_static(channel.as_bytes()), Arc::clone(&heard) as Arc<dyn Subscriber>);
        }
        let (sender, view) = watch::channel(led_by(None));
        let following = Announced { hub, master: "m".to_owned() }.follow(view);
        tokio::pin!(following);
        for leader in [Some(1), None, Some(1), None, Some(2), Some(1)] {
            sender.send_replace(led_by(leader));
            assert!(futures_util::poll!(&mut following).is_pending());
        }
        let expect = [
            "+sdown",
            "master m h 1",
            "-sdown",
            "master m h 1",
            "+sdown",
            "master m h 1",
            "+switch-master",
            "m h 1 h 2",
            "+switch-master",
            "m h 2 h 1",
        ];
        assert_eq!(*heard.0.lock().expect("no test panics here"), expect);
    }
}
