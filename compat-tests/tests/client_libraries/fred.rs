//! fred, whose client is one connection that reconnects by its own rules.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use compat_tests::program::Driver;
use fred::clients::Client;
use fred::interfaces::{
    ClientLike, EventInterface, KeysInterface, LuaInterface, PubsubInterface, TransactionInterface,
};
use fred::types::config::{Config, ReconnectPolicy, ServerConfig};
use fred::types::scripts::Script;
use fred::types::{Builder, ClusterHash, CustomCommand, RespVersion, Value};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Setting;

const PATIENCE: Duration = Duration::from_secs(15);

pub struct Fred {
    runtime: Runtime,
    steps: Steps,
}

struct Steps {
    home: SocketAddr,
    client: Client,
    other: Client,
    protocol: u8,
    prefix: String,
    stopping: Arc<AtomicBool>,
    counts: Vec<JoinHandle<Result<(u64, Duration)>>>,
}

impl Fred {
    pub fn new(setting: &Setting) -> Result<Self> {
        let runtime = Runtime::new()?;
        let steps = runtime.block_on(async {
            let reconnect = ReconnectPolicy::new_constant(0, 50);
            anyhow::Ok(Steps {
                home: setting.home,
                client: connect(setting.home, setting.protocol, Some(reconnect.clone())).await?,
                other: connect(setting.other, setting.protocol, Some(reconnect)).await?,
                protocol: setting.protocol,
                prefix: setting.prefix.clone(),
                stopping: Arc::default(),
                counts: Vec::new(),
            })
        })?;
        Ok(Self { runtime, steps })
    }
}

impl Driver for Fred {
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
                "count" => {
                    steps.count();
                    Ok(String::new())
                }
                "stop" => steps.stop().await,
                _ => bail!("no step is called {step}"),
            }
            .with_context(|| format!("fred: {step}"))
        })
    }
}

async fn connect(node: SocketAddr, protocol: u8, reconnect: Option<ReconnectPolicy>) -> Result<Client> {
    let config = Config {
        server: ServerConfig::new_centralized(node.ip().to_string(), node.port()),
        version: if protocol == 3 { RespVersion::RESP3 } else { RespVersion::RESP2 },
        fail_fast: true,
        ..Config::default()
    };
    let mut builder = Builder::from_config(config);
    // Without a policy nothing is tried again: a lost connection is an error.
    if let Some(policy) = reconnect {
        builder.set_policy(policy);
    }
    let client = builder.build()?;
    client.init().await?;
    Ok(client)
}

/// A command that the library has no method for.
async fn call(client: &Client, name: &'static str, arguments: &[&str]) -> Result<Value, fred::error::Error> {
    let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
    client.custom(command, arguments.iter().map(|&argument| argument.to_owned()).collect()).await
}

impl Steps {
    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    async fn handshake(&mut self) -> Result<()> {
        let (key, text) = (self.key("text"), "añb\r\n\0");
        let pong: String = self.client.ping(None).await?;
        ensure!(pong == "PONG", "{pong}");
        let information = call(&self.client, "CLIENT INFO", &[]).await?.into_string().unwrap_or_default();
        ensure!(information.contains(&format!(" resp={}", self.protocol)), "{information}");
        let _: () = self.client.set(&key, text, None, None, false).await?;
        let value: String = self.client.get(&key).await?;
        ensure!(value == text, "{value}");
        let nothing: Option<String> = self.client.get(self.key("nothing")).await?;
        ensure!(nothing.is_none(), "{nothing:?}");
        Ok(())
    }

    async fn pipeline(&mut self) -> Result<()> {
        let keys: Vec<_> = (0..200).map(|number| self.key(&format!("pipeline:{number}"))).collect();
        let pipeline = self.client.pipeline();
        for key in &keys {
            let _: () = pipeline.set(key, format!("value of {key}"), None, None, false).await?;
        }
        let _: () = pipeline.incr(&keys[0]).await?;
        for key in &keys {
            let _: () = pipeline.get(key).await?;
        }
        let replies = pipeline.try_all::<Value>().await;
        ensure!(replies.len() == 401, "{} replies", replies.len());
        for (number, reply) in replies.into_iter().enumerate() {
            let expected = match number {
                0..200 => "OK".to_owned(),
                200 => {
                    let error = reply.err().map(|error| error.details().to_owned()).unwrap_or_default();
                    ensure!(error.contains("value is not an integer"), "{error}");
                    continue;
                }
                number => format!("value of {}", keys[number - 201]),
            };
            let reply = reply?.into_string();
            ensure!(reply.as_deref() == Some(&*expected), "{reply:?}");
        }
        Ok(())
    }

    async fn transaction(&mut self) -> Result<()> {
        let key = self.key("transaction");
        let _: () = self.client.set(&key, 1, None, None, false).await?;
        self.client.watch(&key).await?;
        let _: () = self.other.set(&key, 10, None, None, false).await?;
        let transaction = self.client.multi();
        let _: () = transaction.set(&key, 2, None, None, false).await?;
        let aborted: Value = transaction.exec(true).await?;
        ensure!(aborted.is_null(), "{aborted:?}");
        let value: String = self.client.get(&key).await?;
        ensure!(value == "10", "{value}");

        self.client.watch(&key).await?;
        let transaction = self.client.multi();
        let _: () = transaction.incr(&key).await?;
        let _: () = transaction.get(&key).await?;
        let replies: (i64, String) = transaction.exec(true).await?;
        ensure!(replies == (11, "11".to_owned()), "{replies:?}");
        let value: i64 = self.other.get(&key).await?;
        ensure!(value == 11, "{value}");
        Ok(())
    }

    async fn pubsub(&mut self) -> Result<()> {
        let (channel, pattern) = (self.key("news"), self.key("n*"));
        let subscriber = connect(self.home, self.protocol, None).await?;
        let mut messages = subscriber.message_rx();
        subscriber.subscribe(&channel).await?;
        subscriber.psubscribe(&pattern).await?;
        // To subscribe is to have written the command; that it was answered is not waited for.
        while self.client.pubsub_numpat::<i64>().await? == 0 {}
        let _: () = self.other.publish(&channel, "hello").await?;
        for _ in 0..2 {
            let message = timeout(PATIENCE, messages.recv()).await??;
            let text = message.value.into_string();
            ensure!(text.as_deref() == Some("hello") && *message.channel == *channel, "{text:?}");
        }
        subscriber.unsubscribe(&channel).await?;
        subscriber.punsubscribe(&pattern).await?;
        Ok(subscriber.quit().await?)
    }

    async fn script(&mut self) -> Result<()> {
        let key = self.key("script");
        let unknown: Result<Value, _> =
            self.client.evalsha("f".repeat(40), Vec::<String>::new(), Vec::<String>::new()).await;
        let error = unknown.err().map(|error| error.details().to_owned()).unwrap_or_default();
        ensure!(error.contains("NOSCRIPT No matching script"), "{error}");
        let add = Script::from_lua("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1]), false}");
        for (amount, expected) in [(5, 5), (7, 12), (1, 13)] {
            let reply: (String, i64, Option<bool>) =
                add.evalsha_with_reload(&self.client, vec![key.as_str()], vec![amount]).await?;
            ensure!(reply == (key.clone(), expected, None), "{reply:?}");
            let known: (bool,) = self.other.script_exists(add.sha1()).await?;
            ensure!(known.0, "a script is known on all nodes");
            self.other.script_flush(false).await?;
        }
        Ok(())
    }

    async fn reconnect(&mut self) -> Result<()> {
        let key = self.key("reconnect");
        let value: i64 = self.client.incr(&key).await?;
        ensure!(value == 1, "{value}");
        let id: String = call(&self.client, "CLIENT ID", &[]).await?.convert()?;
        let mut reconnected = self.client.reconnect_rx();
        call(&connect(self.home, self.protocol, None).await?, "CLIENT KILL", &["ID", &id]).await?;
        timeout(PATIENCE, reconnected.recv()).await??;
        let value: i64 = self.client.incr(&key).await?;
        ensure!(value == 2, "{value}");
        Ok(())
    }

    fn count(&mut self) {
        for fresh in [false, false, true] {
            let (home, protocol, key) = (self.home, self.protocol, self.key("count"));
            let stopping = Arc::clone(&self.stopping);
            self.counts.push(tokio::spawn(async move {
                let mut client = connect(home, protocol, None).await?;
                let (mut acknowledged, mut longest) = (0, Duration::ZERO);
                while !stopping.load(Ordering::Relaxed) {
                    if fresh {
                        client.quit().await?;
                        client = connect(home, protocol, None).await?;
                    }
                    let began = Instant::now();
                    let _: i64 = client.incr(&key).await?;
                    acknowledged += 1;
                    longest = longest.max(began.elapsed());
                }
                Ok((acknowledged, longest))
            }));
        }
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
