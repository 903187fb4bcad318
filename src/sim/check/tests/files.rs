//! The text of histories, and coverage.

use super::super::Verdict;
use super::super::coverage::Coverage;
use super::super::history::{Delivery, History, Outcome, Request, Value};
use super::history;

fn everything() -> History {
    let mut history = history(
        "1 0..10 SET k v -> OK
         2 5..6 INCR n; GET k -> 1; nil
         2 7..8 k=v k2=nil SET k w -> ?
         3 7..9 RPUSH l a -> !
         3 10..11 LRANGE l 0 -1 -> [a b]",
    );
    let kill = history.begin_fault(3_000_000, "kill", "n2");
    history.begin_fault(4_000_000, "disk full", "n\"3\"");
    history.end_fault(kill, 9_500_000);
    for message in [None, Some("a\n\\ü\u{1}".to_owned())] {
        history.deliveries.push(Delivery { ns: 4_000_000, subscriber: 7, channel: "c".into(), message });
    }
    let get = history.invoke(1, "n1", 20_000_000, Request::of(&["GET", "k"]));
    history.complete_at(get, 21_000_000, Outcome::Ok(Value::text("v")), Some(17));
    history.invoke(2, "n1", 20_000_000, Request::of(&["GET", "k"]));
    history
}

fn written(history: &History) -> String {
    let mut text = Vec::new();
    history.write(&mut text).expect("memory takes all");
    String::from_utf8(text).expect("only text was written")
}

#[test]
fn what_was_written_is_read_back() {
    let history = everything();
    let text = written(&history);
    for line in text.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(parsed["ns"].is_u64(), "{line}");
    }
    assert_eq!(History::read(text.as_bytes()).expect("as written"), history);
}

#[test]
fn operations_are_found_by_their_keys() {
    let history = history("1 0..1 SET a1 v -> OK\n 1 2..3 a1=v SET b1 v -> OK\n 1 4..5 GET a2 -> nil");
    let found =
        |prefix| history.on_keys(prefix).iter().map(|operation| operation.invoked_ns / 1_000_000).collect();
    let (a, any): (Vec<_>, Vec<_>) = (found("a"), found(""));
    assert_eq!((a, any), (vec![0, 4], vec![0, 2, 4]));
}

#[test]
fn what_makes_no_sense_is_refused_by_line() {
    let text = written(&everything());
    let first = text.lines().next().expect("there are lines");
    for end in 1..first.len() {
        if let Some(cut) = first.get(..end) {
            let error = History::read(cut.as_bytes()).expect_err("cut").to_string();
            assert!(error.starts_with("line 1: "), "{error}");
        }
    }
    for line in [
        r#"{"ns":1}"#,
        r#"{"ns":1,"return":5,"ok":null}"#,
        r#"{"ns":1,"end":0}"#,
        r#"{"ns":1,"invoke":999999999999,"client":1,"node":"n1","commands":[["GET","k"]]}"#,
        r#"{"ns":1,"invoke":0,"client":1,"node":"n1","commands":[[5]]}"#,
        "{\"ns\":1,\"x\":[[[[[[[[[[[[[[[[[[[[[[[[",
    ] {
        assert!(History::read(line.as_bytes()).is_err(), "{line}");
    }
}

#[test]
fn a_fault_counts_if_there_was_traffic_around_it() {
    let mut history = history(
        "1 0..10 SET k v -> OK
         1 30..31 SET k v -> ?
         1 90..95 SET k v -> OK",
    );
    let ms = |ms: u64| ms * 1_000_000;
    let first = history.begin_fault(ms(20), "kill", "n1");
    history.end_fault(first, ms(80));
    history.begin_fault(ms(96), "pause", "n1");
    let coverage = |operations, faults: &[(&'static str, usize)], near| Coverage {
        operations,
        faults: faults.to_vec(),
        near_ns: ms(near),
    };
    let check = |coverage: Coverage| coverage.check(&history);
    assert_eq!(check(coverage(2, &[("kill", 1)], 15)), Verdict::Accepted);
    let missing = |verdict: Verdict| match verdict {
        Verdict::Undecided(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(missing(check(coverage(3, &[], 15))).contains("2 of 3 operations"));
    assert!(missing(check(coverage(2, &[("kill", 1)], 14))).contains("0 of 1 kill (it struck 1 times)"));
    assert!(missing(check(coverage(2, &[("kill", 2)], 15))).contains("1 of 2 kill"));
    assert!(missing(check(coverage(2, &[("pause", 1)], 15))).contains("0 of 1 pause"));
    assert!(missing(check(coverage(2, &[("partition", 1)], 15))).contains("0 of 1 partition"));
}
