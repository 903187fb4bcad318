use std::time::Duration;

use super::*;
use crate::commands::host::{CommandInfo, DatabaseInfo, Follower, Following, Member};

/// What a tool would read from these sections.
fn check(info: &NodeInfo, sections: &str, expect: &[&str]) {
    let asked: Vec<Bytes> = sections.split_whitespace().map(|word| Bytes::from(word.to_owned())).collect();
    let text = render(info, 1_700_000_000_123, &asked);
    assert_eq!(text.split_terminator("\r\n").collect::<Vec<_>>(), expect, "{sections}");
}

#[test]
fn renders_what_tools_read_by_position() {
    let get = CommandInfo {
        name: "GET",
        calls: 2,
        micros: 11,
        percentiles: vec![5.023, 6.0, 6.5],
        ..CommandInfo::default()
    };
    let set = CommandInfo { name: "CONFIG|SET", rejected: 1, ..CommandInfo::default() };
    let info = NodeInfo {
        commands: vec![get, set, CommandInfo { name: "DEL", ..CommandInfo::default() }],
        percents: Some(vec![50.0, 99.0, 99.9]),
        errors: vec![("ERR".to_owned(), 3)],
        keyspace: vec![DatabaseInfo { db: 0, keys: 7, expires: 2, average_ttl_ms: 90 }],
        ..NodeInfo::default()
    };
    check(
        &info,
        "keyspace COMMANDSTATS errorstats latencystats nonsense",
        &[
            "# Commandstats",
            "cmdstat_get:calls=2,usec=11,usec_per_call=5.50,rejected_calls=0,failed_calls=0",
            "cmdstat_config|set:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0",
            "",
            "# Errorstats",
            "errorstat_ERR:count=3",
            "",
            "# Latencystats",
            "latency_percentiles_usec_get:p50=5.023,p99=6.000,p99.9=6.500",
            "",
            "# Keyspace",
            "db0:keys=7,expires=2,avg_ttl=90",
        ],
    );
    check(&info, "nonsense", &[]);
    check(&info, "modules", &["# Modules"]);
}

#[test]
fn shows_the_leader_as_master_and_others_as_its_slaves() {
    let follower = Follower {
        id: 2,
        host: "10.0.0.2".to_owned(),
        port: 6379,
        online: true,
        offset: 41,
        lag: Duration::from_millis(1900),
    };
    let mut info = NodeInfo::default();
    info.replication =
        Replication { role: Role::Leader { followers: vec![follower] }, offset: 42, ..info.replication };
    let end = [
        "master_failover_state:no-failover",
        "master_replid:0000000000000000000000000000000000000000",
        "master_replid2:0000000000000000000000000000000000000000",
        "master_repl_offset:42",
        "second_repl_offset:-1",
        "repl_backlog_active:0",
        "repl_backlog_size:0",
        "repl_backlog_first_byte_offset:0",
        "repl_backlog_histlen:0",
    ];
    let leader = [
        "# Replication",
        "role:master",
        "connected_slaves:1",
        "slave0:ip=10.0.0.2,port=6379,state=online,offset=41,lag=1",
    ];
    check(&info, "replication", &[&leader[..], &end].concat());

    info.replication.role = Role::Follower(Following {
        leader: Some(("10.0.0.1".to_owned(), 6379)),
        silence: Duration::from_millis(120),
        syncing: false,
        offset: 41,
    });
    let follower = [
        "# Replication",
        "role:slave",
        "master_host:10.0.0.1",
        "master_port:6379",
        "master_link_status:up",
        "master_last_io_seconds_ago:0",
        "master_sync_in_progress:0",
        "slave_read_repl_offset:41",
        "slave_repl_offset:41",
        "slave_priority:100",
        "slave_read_only:0",
        "replica_announced:1",
        "connected_slaves:0",
    ];
    check(&info, "replication", &[&follower[..], &end].concat());
}

#[test]
fn shows_consensus() {
    let mut info = NodeInfo::default();
    info.raft.node_id = 1;
    info.raft.state = "leader";
    info.raft.members = vec![
        Member {
            id: 1,
            state: "leader",
            voter: true,
            address: "10.0.0.1:7379".to_owned(),
            ..Member::default()
        },
        Member {
            id: 2,
            state: "learner",
            voter: false,
            address: "10.0.0.2:7379".to_owned(),
            ..Member::default()
        },
    ];
    let text = render(&info, 0, &[Bytes::from("raft")]);
    for line in [
        "raft_state:leader\r\n",
        "raft_num_voting_nodes:1\r\n",
        "raft_node1:id=1,state=leader,voting=yes,addr=10.0.0.1:7379\r\n",
        "raft_node2:id=2,state=learner,voting=no,addr=10.0.0.2:7379\r\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn default_leaves_out_the_figures_of_commands() {
    let headings = |asked: &[&'static str]| {
        let asked: Vec<Bytes> = asked.iter().copied().map(Bytes::from).collect();
        let text = render(&NodeInfo::default(), 0, &asked);
        text.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(headings(&[]).len(), 13);
    assert_eq!(headings(&["default"]), headings(&[]));
    assert_eq!(headings(&["default", "commandstats"]).len(), 14);
    assert_eq!(headings(&["ALL"]).len(), 15);
    assert_eq!(headings(&["server", "everything"]), headings(&["all"]));
}

#[test]
fn sizes_for_people() {
    for (bytes, text) in
        [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (916_240, "894.77K"), (25_276_514_304, "23.54G")]
    {
        assert_eq!(human(bytes), text);
    }
}
