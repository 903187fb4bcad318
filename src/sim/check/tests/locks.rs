//! Locks and leases with known verdicts.

use super::super::leases::{self, Allowance};
use super::super::{Verdict, locks};
use super::{accepted, history, rejected};

#[track_caller]
fn good(lines: &str) {
    accepted(&locks::check(&history(lines).operations, &Allowance::default()));
}

#[track_caller]
fn bad(lines: &str, words: &str) {
    rejected(&locks::check(&history(lines).operations, &Allowance::default()), words);
}

#[test]
fn holders_one_after_another() {
    good(
        "1 0..1 LOCK l a 100 -> 1
          2 2..3 LOCK l b 100 -> nil
          1 50..51 UNLOCK l a -> 1
          2 51..52 LOCK l c 100 -> 2
          3 152..153 LOCK l d 100 -> 3
          2 160..161 UNLOCK l c -> 0",
    );
    // Who was answered late may have held it before.
    good("1 0..150 LOCK l a 100 -> 1\n 2 120..130 LOCK l b 100 -> 2");
    // One of unknown outcome gave it back, perhaps.
    good("1 0..1 LOCK l a 100 -> 1\n 1 10..11 UNLOCK l a -> ?\n 2 20..21 LOCK l b 100 -> 2");
}

#[test]
fn two_holders_at_once() {
    bad("1 0..1 LOCK l a 100 -> 1\n 2 50..51 LOCK l b 100 -> 2", "two holders at once");
    bad(
        "1 0..1 LOCK l a 100 -> 1\n 1 90..91 RENEW l a 100 -> 1\n 2 150..151 LOCK l b 100 -> 2",
        "two holders at once",
    );
    good("1 0..1 LOCK l a 100 -> 1\n 1 90..91 RENEW l a 100 -> ?\n 2 150..151 LOCK l b 100 -> 2");
    bad(
        "1 0..1 LOCK l a 100 -> 1\n 1 9..10 UNLOCK l a -> !\n 2 50..51 LOCK l b 100 -> 2",
        "two holders at once",
    );
}

#[test]
fn a_lock_that_ended_early() {
    let early_ns = |early_ns| Allowance { early_ns, ..Allowance::default() };
    let early = history("1 0..1 LOCK l a 100 -> 1\n 2 98..99 LOCK l b 100 -> 2");
    accepted(&locks::check(&early.operations, &early_ns(1_000_000)));
    rejected(&locks::check(&early.operations, &early_ns(999_999)), "two holders at once");
    bad("1 0..1 LOCK l a 100 -> 1\n 1 50..51 RENEW l a 100 -> 0", "lost while it was held");
    good("1 0..1 LOCK l a 100 -> 1\n 1 99..100 RENEW l a 100 -> 0");
}

#[test]
fn tokens_rise() {
    bad("1 0..1 LOCK l a 10 -> 7\n 2 50..51 LOCK l b 10 -> 6", "not above an earlier one");
    bad("1 0..1 LOCK l a 10 -> 7\n 2 50..51 LOCK l b 10 -> 7", "one token for two");
}

#[test]
fn a_protected_register_takes_no_older_token() {
    good(
        "1 0..1 STORE r 1 x -> 1\n 2 2..3 STORE r 2 y -> 1\n 1 4..5 STORE r 1 z -> 0\n 2 6..7 STORE r 2 z -> 1",
    );
    bad("2 2..3 STORE r 2 y -> 1\n 1 4..5 STORE r 1 z -> 1", "an older token was taken");
    bad("2 2..3 STORE r 2 y -> 0", "refused, though nobody had a newer token");
    good("1 0..1 STORE r 2 x -> ?\n 2 2..3 STORE r 1 y -> 0");
}

#[test]
fn what_is_no_lock_is_not_judged() {
    for lines in [
        "1 0..1 LOCK l a 10 -> 1\n 1 2..3 LOCK l a 10 -> nil",
        "1 0..1 GET l -> 1",
        "1 0..1 LOCK l a 10 -> x",
    ] {
        let verdict = locks::check(&history(lines).operations, &Allowance::default());
        assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict:?}");
    }
}

/// Two milliseconds late, and while nobody led.
fn lease(lines: &str) -> Verdict {
    let allowance = Allowance {
        late_ns: 2_000_000,
        leaderless: vec![(500_000_000, 700_000_000)],
        ..Allowance::default()
    };
    leases::check(&history(lines).operations, &allowance)
}

#[test]
fn a_key_is_there_for_its_time_and_gone_after_it() {
    let set = "1 0..5 SET k v PX 100 -> OK\n";
    for look in [
        "0..1 GET k -> nil",
        "6..7 GET k -> v",
        "98..100 GET k -> nil",
        "107..108 EXISTS k -> 1",
        "108..109 GET k -> nil",
    ] {
        accepted(&lease(&format!("{set} 2 {look}")));
    }
    rejected(&lease(&format!("{set} 2 98..99 GET k -> nil")), "gone before its time");
    rejected(&lease(&format!("{set} 2 98..99 PEXPIRE k 100 -> 0")), "gone before its time");
    rejected(&lease(&format!("{set} 2 108..109 GET k -> v")), "there, though its time was over");
}

#[test]
fn renewals_and_deletions() {
    let set = "1 0..5 SET k v PX 100 -> OK\n 1 50..60 PEXPIRE k 100 -> 1\n";
    accepted(&lease(&format!("{set} 2 150..151 GET k -> nil")));
    rejected(&lease(&format!("{set} 2 140..149 GET k -> nil")), "gone before its time");
    rejected(&lease(&format!("{set} 2 163..164 GET k -> v")), "there, though");
    let deleted = format!("{set} 1 70..80 DEL k -> 1\n");
    accepted(&lease(&format!("{deleted} 2 75..76 GET k -> nil\n 3 75..76 GET k -> v")));
    rejected(&lease(&format!("{deleted} 2 81..82 GET k -> v")), "there, though");
    // Of one of unknown outcome, both.
    let perhaps = "1 0..5 SET k v PX 100 -> OK\n 1 50..60 PEXPIRE k 100 -> ?\n";
    accepted(&lease(&format!("{perhaps} 2 105..106 GET k -> nil")));
    accepted(&lease(&format!("{perhaps} 2 155..156 GET k -> v")));
    rejected(&lease(&format!("{perhaps} 2 97..98 GET k -> nil")), "gone before its time");
}

#[test]
fn a_key_that_comes_back() {
    rejected(
        &lease("1 0..5 SET k v PX 100 -> OK\n 2 100..101 GET k -> nil\n 2 102..103 GET k -> v"),
        "it was gone, and came back",
    );
}

#[test]
fn without_a_leader_a_key_stays_as_long() {
    let set = "1 300..301 SET k v PX 300 -> OK\n";
    accepted(&lease(&format!("{set} 2 702..703 GET k -> v")));
    rejected(&lease(&format!("{set} 2 704..705 GET k -> v")), "there, though its time was over");
}

#[test]
fn what_is_no_lease_is_not_judged() {
    for lines in [
        "1 0..1 SET k v -> OK",
        "1 0..1 SET k v PX 5 -> OK\n 1 2..3 SET k v PX 5 -> OK",
        "1 0..5 SET k v PX 5 -> OK\n 1 2..3 PEXPIRE k 5 -> 1",
    ] {
        let verdict = lease(lines);
        assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict:?}");
    }
}

#[test]
fn what_was_there_when_time_jumped_may_end_early() {
    let allowance = Allowance { jumps: vec![(40_000_000, 50_000_000)], ..Allowance::default() };
    let lease = |lines: &str| leases::check(&history(lines).operations, &allowance);
    accepted(&lease("1 0..5 SET k v PX 100 -> OK\n 2 44..45 GET k -> nil"));
    accepted(&lease("1 49..51 SET k v PX 100 -> OK\n 2 60..61 GET k -> nil"));
    rejected(&lease("1 0..5 SET k v PX 100 -> OK\n 2 38..39 GET k -> nil"), "gone before its time");
    rejected(&lease("1 51..52 SET k v PX 100 -> OK\n 2 60..61 GET k -> nil"), "gone before its time");
    let lock = |lines: &str| locks::check(&history(lines).operations, &allowance);
    accepted(&lock("1 0..1 LOCK l a 100 -> 1\n 2 46..47 LOCK l b 100 -> 2"));
    rejected(&lock("1 0..1 LOCK l a 100 -> 1\n 2 38..39 LOCK l b 100 -> 2"), "two holders at once");
    rejected(&lock("1 51..52 LOCK l a 100 -> 1\n 2 80..81 LOCK l b 100 -> 2"), "two holders at once");
    accepted(&lock("1 0..1 LOCK l a 100 -> 1\n 1 50..51 RENEW l a 100 -> 0"));
    rejected(&lock("1 0..1 LOCK l a 100 -> 1\n 1 38..39 RENEW l a 100 -> 0"), "lost while it was held");
    // Those sent up to 100 ms after it are not counted.
    let lines = "1 0..1 LOCK l a 100 -> 1\n 1 38..39 RENEW l a 100 -> 0\n 1 149..150 LOCK l b 100 -> 2";
    assert_eq!(allowance.strict(&history(lines).operations), 2);
    assert_eq!(allowance.strict(&history(&lines.replace("149..150", "151..152")).operations), 3);
}
