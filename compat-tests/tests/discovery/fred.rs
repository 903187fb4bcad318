//! fred, which asks the Sentinels by itself whenever it has lost its connection.

use std::net::SocketAddr;

use anyhow::Result;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::{Config, ReconnectPolicy, Server, ServerConfig};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};

use crate::numbers::{Finding, Steps};

pub struct Fred {
    client: Client,
}

/// The leader, as Sentinel's clients find it. The library has no way to a follower, so a node is asked as such.
pub fn sentinel(name: &'static str, master: &str, nodes: &[SocketAddr]) -> Result<Steps<Fred>> {
    let server = |node: &SocketAddr| Server::new(node.ip().to_string(), node.port());
    let sentinels =
        ServerConfig::Sentinel { hosts: nodes.iter().map(server).collect(), service_name: master.to_owned() };
    Steps::new(name, async move {
        let node = ServerConfig::new_centralized(nodes[0].ip().to_string(), nodes[0].port());
        Ok((connect(sentinels).await?, connect(node).await?))
    })
}

async fn connect(server: ServerConfig) -> Result<Fred> {
    let mut builder = Builder::from_config(Config { server, ..Config::default() });
    builder.set_policy(ReconnectPolicy::new_constant(0, 50));
    // What was sent and not answered may have been done, and is not sent again.
    builder.with_connection_config(|config| config.max_command_attempts = 1);
    let client = builder.build()?;
    client.init().await?;
    Ok(Fred { client })
}

impl Finding for Fred {
    async fn call(&mut self, words: &[&str]) -> Result<Option<String>> {
        let command = CustomCommand::new(words[0], ClusterHash::FirstKey, false);
        let arguments = words[1..].iter().map(|&word| word.to_owned()).collect();
        let reply: Value = self.client.custom(command, arguments).await?;
        Ok(reply.as_string())
    }
}
