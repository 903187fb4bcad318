//! What two strings have in common.

use bytes::Bytes;

use crate::commands::{Access, Args, Group, Keys, Read, Spec};
use crate::error::{ClientError, Result, text};
use crate::resp::Reply;
use crate::store::View;
use crate::types::lcs::{self, Run};
use crate::types::{keyspace, string};

/// The longest common subsequence of two strings.
pub struct Lcs {
    db: u8,
    keys: [Bytes; 2],
    answer: Answer,
}

/// What LCS answers.
enum Answer {
    Text,
    Length,
    /// Where the runs are that are at least so long, and how long each is.
    Runs {
        length_min: usize,
        with_lengths: bool,
    },
}

impl Read for Lcs {
    const SPEC: Spec = Spec {
        name: "LCS",
        syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
        summary: "Find longest common substring",
        complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
        since: "7.0.0",
        keys: Keys::pair(1, Access::Read),
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, keys) = (args.db, [args.bytes()?, args.bytes()?]);
        let (mut length, mut runs, mut length_min, mut with_lengths) = (false, false, 0, false);
        while !args.is_empty() {
            if args.take("IDX") {
                runs = true;
            } else if args.take("LEN") {
                length = true;
            } else if args.take("WITHMATCHLEN") {
                with_lengths = true;
            } else if args.len() > 1 && args.take("MINMATCHLEN") {
                length_min = usize::try_from(args.int()?.max(0)).unwrap_or(usize::MAX);
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        let answer = match (length, runs) {
            (true, true) => return Err(text::LCS_LENGTH_AND_INDEXES.into()),
            (true, false) => Answer::Length,
            (false, true) => Answer::Runs { length_min, with_lengths },
            (false, false) => Answer::Text,
        };
        Ok(Self { db, keys, answer })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let [a, b] = [self.value(view, 0)?, self.value(view, 1)?];
        if !lcs::is_feasible(a.len(), b.len()) {
            return Err(text::LCS_TOO_LARGE.into());
        }
        view.add_work(a.len() * b.len());
        Ok(match self.answer {
            Answer::Length => Reply::length(lcs::length(&a, &b)),
            Answer::Text => {
                let runs = lcs::runs(&a, &b);
                let parts: Vec<&[u8]> = runs.iter().rev().map(|run| &a[run.a..run.a + run.length]).collect();
                Reply::bulk(parts.concat())
            }
            Answer::Runs { length_min, with_lengths } => {
                let runs = lcs::runs(&a, &b);
                let length = runs.iter().map(|run| run.length).sum();
                let shown = runs.iter().filter(|run| run.length >= length_min);
                let shown = shown.map(|run| reply_of(run, with_lengths)).collect();
                Reply::Map(vec![
                    (Reply::text("matches"), Reply::Array(shown)),
                    (Reply::text("len"), Reply::length(length)),
                ])
            }
        })
    }
}

impl Lcs {
    fn value(&self, view: &View, which: usize) -> Result<Bytes> {
        let record = keyspace::get(view, self.db, &self.keys[which])?;
        let value = string::of(record.as_ref()).map_err(|_: ClientError| text::LCS_NEEDS_STRINGS)?;
        Ok(value.cloned().unwrap_or_default())
    }
}

fn reply_of(run: &Run, with_length: bool) -> Reply {
    let range =
        |start: usize| Reply::Array(vec![Reply::length(start), Reply::length(start + run.length - 1)]);
    let mut reply = vec![range(run.a), range(run.b)];
    if with_length {
        reply.push(Reply::length(run.length));
    }
    Reply::Array(reply)
}
