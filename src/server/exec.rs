//! WATCH and EXEC: what of a transaction goes through the log, and what runs here.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::dispatch::{Dispatcher, Item, Sink, reached};
use crate::commands::{self, Lane};
use crate::error::ClientError;
use crate::machine::entry::{Call, Guard, Proposed};
use crate::resp::Reply;
use crate::session::Transaction;
use crate::store::Called;
use crate::types::keyspace;

impl Dispatcher {
    /// WATCH: remembers the keys' revisions, as they are behind a barrier.
    pub(super) async fn watch(&mut self, keys: &[Bytes]) -> Reply {
        let db = self.session.db();
        let barrier = match self.node.barrier(&self.reads).await {
            Ok(barrier) => barrier,
            Err(error) => return error.into(),
        };
        let revisions = self.node.read(barrier, |view| {
            keys.iter()
                .map(|key| keyspace::watched(view, db, key))
                .collect::<std::result::Result<Vec<_>, _>>()
                .map(|revisions| (revisions, self.node.source_here()))
        });
        match revisions.await {
            Err(error) => error.into(),
            Ok(Ok((revisions, source))) => {
                self.source = source;
                for (key, revision) in keys.iter().zip(revisions) {
                    self.session.watch(key, revision);
                }
                Reply::Ok
            }
            Ok(Err(error)) => self.failed(error.into()),
        }
    }

    /// EXEC: what touches the state runs as one, through the log or, if it only reads, behind a barrier.
    /// What is about this connection or node runs here, once that has succeeded; nothing of it touches the
    /// state, so its place among the others does not show.
    /// `None` when the connection is gone.
    pub(super) async fn exec(&mut self, out: &mut BytesMut, sink: &mut impl Sink) -> Option<Reply> {
        let keeps_copies = self.session.keeps_copies();
        let Transaction { commands, watched } = self.session.take_transaction();
        let guards = watched
            .into_iter()
            .map(|watch| Guard { db: watch.db, key: watch.key, revision: watch.revision })
            .collect::<Vec<_>>();
        let mut items = Vec::with_capacity(commands.len());
        for queued in commands {
            match commands::resolve(&queued.argv) {
                Ok(resolved) => items.push(Item { resolved, argv: queued.argv, db: queued.db, keeps_copies }),
                Err(error) => return Some(error.into()),
            }
        }
        let lane = |item: &Item| item.resolved.command.lane;
        let calls = items
            .iter()
            .filter(|item| matches!(lane(item), Lane::Write(_) | Lane::Read(_)))
            .map(|item| Call { db: item.db, argv: item.argv.clone() })
            .collect::<Vec<_>>();
        let replies = if items.iter().any(|item| matches!(lane(item), Lane::Write(_))) {
            let held = self.hold(&items);
            let replies = self.exec_logged(Proposed::Transaction { guards, calls }).await;
            self.release(&held);
            replies
        } else {
            self.exec_reading(&guards, &items).await
        };
        let (logged, called) = match replies {
            Ok((Reply::Array(replies), called)) => (replies, called),
            Ok((other, _)) => return Some(other),
            Err(error) => return Some(error.into()),
        };
        self.session.set_executing(true);
        let mut logged = logged.into_iter();
        let mut replies = Vec::with_capacity(items.len());
        for item in &items {
            replies.push(match lane(item) {
                Lane::Write(_) | Lane::Read(_) => logged.next().unwrap_or(Reply::Nil),
                Lane::Session(execute) => execute(&mut item.args(), &mut self.session)
                    .unwrap_or_else(|failure| self.failed(failure)),
                Lane::Node(execute) => {
                    let answer = execute(&mut item.args(), &mut self.session, &*self.node);
                    self.answer(answer, out, sink).await?
                }
            });
        }
        self.session.set_executing(false);
        if !self.keep_back(called.slept, out, sink).await {
            return None;
        }
        // EXEC itself says little: what it ran is listed, all with the time of the whole.
        let took = self.took();
        for item in &items {
            self.show(item.resolved.command, &item.argv, item.db);
            self.note_slow(item.resolved.command, &item.said(), took);
        }
        self.tell(&called);
        Some(Reply::Array(replies))
    }

    async fn exec_logged(
        &mut self,
        transaction: Proposed<Bytes>,
    ) -> std::result::Result<(Reply, Called), ClientError> {
        let answers = self.propose(|group| group.push(&transaction)).await?;
        let reply = answers.replies().first().cloned().unwrap_or(Reply::Nil);
        let called = answers.called(0).cloned().unwrap_or_default();
        Ok((with_receivers(reply, answers.receivers()), called))
    }

    async fn exec_reading(
        &mut self,
        guards: &[Guard<Bytes>],
        items: &[Item],
    ) -> std::result::Result<(Reply, Called), ClientError> {
        let barrier = self.node.barrier(&self.reads).await?;
        let node = Arc::clone(&self.node);
        let read = node.read(barrier, |view| {
            let source = self.node.source_here();
            for guard in guards {
                match keyspace::watched(view, guard.db, &guard.key) {
                    Ok(revision) if revision == guard.revision => {}
                    Ok(_) => return (Reply::NilArray, Called::default(), source),
                    Err(error) => return (self.failed(error.into()), Called::default(), source),
                }
            }
            let reads = items.iter().filter(|item| matches!(item.resolved.command.lane, Lane::Read(_)));
            let replies = Reply::Array(reads.map(|item| self.read_one(item, view)).collect());
            (replies, view.take_called().unwrap_or_default(), source)
        });
        let (reply, called, source) = read.await?;
        self.source = source;
        Ok((reply, called))
    }
}

/// A transaction's reply, with the messages it published counted.
fn with_receivers(reply: Reply, receivers: &[i64]) -> Reply {
    match reply {
        Reply::Receivers(place) => Reply::Int(reached(receivers, place)),
        Reply::Array(replies) => {
            Reply::Array(replies.into_iter().map(|reply| with_receivers(reply, receivers)).collect())
        }
        other => other,
    }
}
