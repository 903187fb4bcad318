//! The revision oracle on histories with known verdicts. That it rejects what brute force rejects stands in `brute`.

use super::super::Verdict;
use super::super::history::{History, Outcome, Request};
use super::super::revisions::{Log, Logged, check};
use super::{accepted, rejected, value};

/// `(from, to, command, reply, revision)`, in milliseconds; revision 0 is none.
#[track_caller]
fn history(lines: &[(u64, u64, &str, &str, u64)]) -> History {
    let mut history = History::default();
    for &(from, to, command, reply, revision) in lines {
        let request = Request::of(&command.split(' ').collect::<Vec<_>>());
        let operation = history.invoke(from, "n1", from * 1_000_000, request);
        let outcome = match reply {
            "?" => Outcome::Info("broken".into()),
            "!" => Outcome::Fail("refused".into()),
            _ => Outcome::Ok(value(reply)),
        };
        history.complete_at(
            operation,
            to * 1_000_000,
            outcome,
            Some(revision).filter(|revision| *revision > 0),
        );
    }
    history
}

fn judge(lines: &[(u64, u64, &str, &str, u64)]) -> Verdict {
    check(&history(lines).operations, None)
}

#[test]
fn replies_fit_their_revisions() {
    accepted(&judge(&[
        (0, 1, "GET k", "nil", 0x1),
        (2, 9, "SET k a", "OK", 3),
        (2, 9, "SET k b", "OK", 2),
        (3, 8, "GET k", "b", 2),
        (10, 11, "GET k", "a", 3),
        (12, 13, "INCR n", "1", 4),
        (14, 15, "RPUSH l a", "1", 5),
        (16, 17, "LRANGE l 0 -1", "[a]", 9),
    ]));
    rejected(&judge(&[(0, 1, "SET k a", "OK", 1), (2, 3, "GET k", "b", 1)]), "the reply should be a");
    rejected(&judge(&[(0, 9, "INCR n", "2", 1), (0, 9, "INCR n", "1", 2)]), "the reply should be 1");
}

#[test]
fn a_stale_read_has_too_low_a_revision() {
    let lines = [(0, 1, "SET k a", "OK", 1), (2, 3, "SET k b", "OK", 2), (4, 5, "GET k", "a", 1)];
    rejected(&judge(&lines), "too low for its time");
    rejected(&judge(&[(0, 1, "GET k", "nil", 7), (2, 3, "SET k a", "OK", 7)]), "too low for its time");
}

#[test]
fn two_writes_of_one_revision() {
    rejected(&judge(&[(0, 9, "SET k a", "OK", 1), (0, 9, "SET j a", "OK", 1)]), "two writes of one revision");
}

#[test]
fn the_log_has_what_was_acknowledged_and_nothing_that_was_refused() {
    let lines = [(0, 1, "SET k a", "OK", 1), (2, 3, "SET k b", "?", 0), (4, 5, "SET k c", "!", 0)];
    let log = |entries: &[(u64, &str)]| -> Log {
        let entry = |(revision, command): &(u64, &str)| {
            let request = Some(Request::of(&command.split(' ').collect::<Vec<_>>()));
            (*revision, Logged { request, ..Logged::default() })
        };
        entries.iter().map(entry).collect()
    };
    let judge = |more: &[(u64, u64, &str, &str, u64)], entries: &[(u64, &str)]| {
        check(&history(&[&lines, more].concat()).operations, Some(&log(entries)))
    };
    accepted(&judge(&[(6, 7, "GET k", "a", 1)], &[(1, "SET k a")]));
    accepted(&judge(&[(6, 7, "GET k", "b", 2)], &[(1, "SET k a"), (2, "SET k b")]));
    rejected(&judge(&[(6, 7, "GET k", "a", 2)], &[(1, "SET k a"), (2, "SET k b")]), "should be b");
    rejected(&judge(&[], &[]), "not in the log");
    rejected(&judge(&[], &[(1, "SET k x")]), "not in the log");
    rejected(&judge(&[], &[(1, "SET k a"), (2, "SET k c")]), "not applied: refused");
    rejected(&judge(&[], &[(1, "SET k a"), (2, "SET k b"), (3, "SET k b")]), "nobody can have had done");
}

#[test]
fn without_a_log_unknown_outcomes_may_leave_it_open() {
    let lines = [(0, 1, "SET k a", "?", 0), (2, 3, "GET k", "a", 1), (4, 5, "SET j a", "OK", 2)];
    assert!(matches!(judge(&lines), Verdict::Undecided(_)));
    accepted(&judge(&[lines[0], lines[2], (6, 7, "GET k", "nil", 2)]));
    rejected(&judge(&[lines[0], lines[1], lines[2], (6, 7, "GET j", "nil", 2)]), "should be a");
}

#[test]
fn an_answer_without_a_revision_is_not_judged() {
    assert!(matches!(judge(&[(0, 1, "GET k", "nil", 0)]), Verdict::Undecided(_)));
}

#[test]
fn a_hundred_thousand_operations() {
    let mut lines = Vec::new();
    let texts = (0..100_000_u64).map(|i| format!("SET k{} v{i}", i % 1_000)).collect::<Vec<_>>();
    for (i, text) in (0..).zip(&texts) {
        lines.push((2 * i, 2 * i + 7, text.as_str(), "OK", i + 1));
    }
    accepted(&judge(&lines));
    lines.push((300_000, 300_001, "GET k999", "v98999", 100_000));
    rejected(&judge(&lines), "should be v99999");
}
