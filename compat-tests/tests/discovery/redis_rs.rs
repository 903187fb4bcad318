//! redis-rs, whose Sentinel's client is asked for a connection again when the one it gave is lost. It wants ROLE to say
//! that it talks to a Sentinel.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{AsyncConnectionConfig, cmd};

use crate::numbers::{Finding, Steps};

/// Longer than an election.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct RedisRs {
    client: SentinelClient,
    connection: Option<MultiplexedConnection>,
}

/// The leader, and any follower, as Sentinel's clients find them.
pub fn sentinel(name: &'static str, master: &str, sentinels: &[SocketAddr]) -> Result<Steps<RedisRs>> {
    let sentinels: Vec<_> = sentinels.iter().map(|sentinel| format!("redis://{sentinel}/")).collect();
    let find = |kind| {
        let client = SentinelClient::build(sentinels.clone(), master.to_owned(), None, kind)?;
        anyhow::Ok(RedisRs { client, connection: None })
    };
    Steps::new(name, async { Ok((find(SentinelServerType::Master)?, find(SentinelServerType::Replica)?)) })
}

impl Finding for RedisRs {
    async fn call(&mut self, words: &[&str]) -> Result<Option<String>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
                self.client.get_async_connection_with_config(&config).await?
            }
        };
        let mut command = cmd(words[0]);
        let reply = command.arg(&words[1..]).query_async::<redis::Value>(&mut connection).await?;
        // One that answered is kept.
        self.connection = Some(connection);
        Ok(redis::from_redis_value(reply).ok())
    }
}
