//! redis-rs with its connection manager, which is what reconnects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use compat_tests::program::Driver;
use futures_util::StreamExt;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{
    AsyncCommands, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError,
    Script, ServerErrorKind, Value, cmd, pipe,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::Setting;

/// Longer than an election; the library's own patience is half a second.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct RedisRs {
    runtime: Runtime,
    steps: Steps,
}

struct Steps {
    client: Client,
    connection: ConnectionManager,
    other: MultiplexedConnection,
    protocol: u8,
    prefix: String,
    stopping: Arc<AtomicBool>,
    counts: Vec<JoinHandle<Result<(u64, Duration)>>>,
}

impl RedisRs {
    pub fn new(setting: &Setting) -> Result<Self> {
        let runtime = Runtime::new()?;
        let protocol = if setting.protocol == 3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
        let client = |address: std::net::SocketAddr| {
            let info =
                ConnectionAddr::Tcp(address.ip().to_string(), address.port()).into_connection_info()?;
            let settings = info.redis_settings().clone().set_protocol(protocol);
            Client::open(info.set_redis_settings(settings))
        };
        let steps = runtime.block_on(async {
            let home = client(setting.home)?;
            anyhow::Ok(Steps {
                connection: home.get_connection_manager().await?,
                other: connect(&client(setting.other)?).await?,
                client: home,
                protocol: setting.protocol,
                prefix: setting.prefix.clone(),
                stopping: Arc::default(),
                counts: Vec::new(),
            })
        })?;
        Ok(Self { runtime, steps })
    }
}

impl Driver for RedisRs {
    fn take(&mut self, step: &str) -> Result<String> {
        let steps = &mut self.steps;
        let silent = |()| String::new();
        self.runtime.block_on(async {
            match step {
                "handshake" => steps.handshake().await.map(silent),
                "pipeline" => steps.pipeline().await.map(silent),
                "transaction" => steps.transaction().await.map(silent),
                "pubsub" => steps.pubsub().await.map(silent),
                "script" => steps.script().await.map(silent),
                "reconnect" => steps.reconnect().await.map(silent),
                "count" => steps.count().await.map(silent),
                "stop" => steps.stop().await,
                _ => bail!("no step is called {step}"),
            }
            .with_context(|| format!("redis-rs: {step}"))
        })
    }
}

async fn connect(client: &Client) -> Result<MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

impl Steps {
    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    async fn handshake(&mut self) -> Result<()> {
        let (key, text) = (self.key("text"), "añb\r\n\0");
        let pong: String = cmd("PING").query_async(&mut self.connection).await?;
        ensure!(pong == "PONG", "{pong}");
        let information: String = cmd("CLIENT").arg("INFO").query_async(&mut self.connection).await?;
        ensure!(information.contains(&format!(" resp={}", self.protocol)), "{information}");
        let _: () = self.connection.set(&key, text).await?;
        let value: String = self.connection.get(&key).await?;
        ensure!(value == text, "{value}");
        let nothing: Option<String> = self.connection.get(self.key("nothing")).await?;
        ensure!(nothing.is_none(), "{nothing:?}");
        Ok(())
    }

    async fn pipeline(&mut self) -> Result<()> {
        let keys: Vec<_> = (0..200).map(|number| self.key(&format!("pipeline:{number}"))).collect();
        let mut pipeline = pipe();
        for key in &keys {
            pipeline.set(key, format!("value of {key}")).ignore();
        }
        for key in &keys {
            pipeline.get(key);
        }
        let values: Vec<String> = pipeline.query_async(&mut self.connection).await?;
        let expected: Vec<_> = keys.iter().map(|key| format!("value of {key}")).collect();
        ensure!(values == expected, "{values:?}");
        let failed: Result<Vec<Value>, RedisError> =
            pipe().get(&keys[0]).incr(&keys[0], 1).get(&keys[0]).query_async(&mut self.connection).await;
        ensure!(failed.is_err_and(|error| error.to_string().contains("value is not an integer")));
        let value: String = self.connection.get(&keys[1]).await?;
        ensure!(value == expected[1], "replies after an error: {value}");
        Ok(())
    }

    /// On a connection of its own: what is watched belongs to a connection.
    async fn transaction(&mut self) -> Result<()> {
        let key = self.key("transaction");
        let mut connection = connect(&self.client).await?;
        let _: () = connection.set(&key, 1).await?;
        let mut attempts = 0;
        let other = &self.other;
        let (value, text): (i64, String) =
            redis::aio::transaction_async(connection, &[&key], |mut connection, mut pipeline| {
                attempts += 1;
                let (mut other, key, interfere) = (other.clone(), key.clone(), attempts == 1);
                async move {
                    let value: i64 = connection.get(&key).await?;
                    if interfere {
                        let _: () = other.set(&key, 10).await?;
                    }
                    pipeline.set(&key, value + 1).ignore().incr(&key, 0).get(&key);
                    pipeline.query_async(&mut connection).await
                }
            })
            .await?;
        ensure!((attempts, value, text.as_str()) == (2, 11, "11"), "{attempts} attempts, {value}, {text}");
        let value: i64 = self.other.get(&key).await?;
        ensure!(value == 11, "{value}");
        Ok(())
    }

    async fn pubsub(&mut self) -> Result<()> {
        let (channel, pattern) = (self.key("news"), self.key("n*"));
        let mut subscriber = self.client.get_async_pubsub().await?;
        subscriber.subscribe(&channel).await?;
        subscriber.psubscribe(&pattern).await?;
        let _: i64 = self.other.publish(&channel, "hello").await?;
        let (sink, mut messages) = subscriber.split();
        for expected in [None, Some(pattern)] {
            let message = tokio::time::timeout(PATIENCE, messages.next()).await?.context("a message")?;
            ensure!(message.get_payload::<String>()? == "hello" && message.get_channel_name() == channel);
            let pattern: Option<String> = message.get_pattern()?;
            ensure!(pattern == expected, "{pattern:?}");
        }
        drop(sink);
        Ok(())
    }

    async fn script(&mut self) -> Result<()> {
        let key = self.key("script");
        let unknown: Result<Value, RedisError> =
            cmd("EVALSHA").arg("f".repeat(40)).arg(0).query_async(&mut self.connection).await;
        let kind = unknown.err().map(|error| error.kind());
        ensure!(kind == Some(ErrorKind::Server(ServerErrorKind::NoScript)), "{kind:?}");
        let add = Script::new("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1]), false}");
        for (amount, expected) in [(5, 5), (7, 12), (1, 13)] {
            let reply: (String, i64, Option<bool>) =
                add.key(&key).arg(amount).invoke_async(&mut self.connection).await?;
            ensure!(reply == (key.clone(), expected, None), "{reply:?}");
            let known: (bool,) =
                cmd("SCRIPT").arg("EXISTS").arg(add.get_hash()).query_async(&mut self.other).await?;
            ensure!(known.0, "a script is known on all nodes");
            let _: () = cmd("SCRIPT").arg("FLUSH").query_async(&mut self.other).await?;
        }
        Ok(())
    }

    async fn reconnect(&mut self) -> Result<()> {
        let key = self.key("reconnect");
        let value: i64 = self.connection.incr(&key, 1).await?;
        ensure!(value == 1, "{value}");
        let id: i64 = cmd("CLIENT").arg("ID").query_async(&mut self.connection).await?;
        let mut second = connect(&self.client).await?;
        let _: i64 = cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut second).await?;
        // The manager reports the loss to whoever meets it, and reconnects.
        let value = loop {
            match self.connection.incr::<_, _, i64>(&key, 1).await {
                Ok(value) => break value,
                Err(error) => ensure!(error.is_connection_dropped() || error.is_io_error(), "{error}"),
            }
        };
        ensure!(value == 2, "{value}");
        Ok(())
    }

    async fn count(&mut self) -> Result<()> {
        for fresh in [false, false, true] {
            let (client, key, stopping) =
                (self.client.clone(), self.key("count"), Arc::clone(&self.stopping));
            self.counts.push(tokio::spawn(async move {
                let mut connection = connect(&client).await?;
                let (mut acknowledged, mut longest) = (0, Duration::ZERO);
                while !stopping.load(Ordering::Relaxed) {
                    if fresh {
                        connection = connect(&client).await?;
                    }
                    let began = Instant::now();
                    let _: i64 = connection.incr(&key, 1).await?;
                    acknowledged += 1;
                    longest = longest.max(began.elapsed());
                }
                Ok((acknowledged, longest))
            }));
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<String> {
        self.stopping.store(true, Ordering::Relaxed);
        let (mut acknowledged, mut longest) = (0, Duration::ZERO);
        for count in self.counts.drain(..) {
            let (more, took) = count.await??;
            acknowledged += more;
            longest = longest.max(took);
        }
        Ok(format!("{acknowledged} {}", longest.as_millis()))
    }
}
