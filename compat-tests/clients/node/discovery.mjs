// ioredis and node-redis where they look for the leader themselves. Arguments: how, the master's name, a prefix for
// keys, nodes.

import assert from "node:assert/strict";
import { Redis, Cluster } from "ioredis";
import { createCluster, createSentinel } from "redis";
import { address, converse } from "./conversation.mjs";

const [how, master, prefix, ...names] = process.argv.slice(2);
const nodes = names.map(address);
const key = (name) => `${prefix}:${name}`;
// A connection that is lost is told here too; what it means for a command, the command says.
const quiet = (client) => client.on("error", () => {});

/** What is the same for all of them: `set`, `get`, `push` and `pipeline`. None tries again on its own. */
const ways = {
  async "ioredis-sentinel"() {
    const options = { sentinels: nodes, name: master, maxRetriesPerRequest: 0 };
    const leader = quiet(new Redis({ ...options, connectionName: prefix }));
    const follower = quiet(new Redis({ ...options, role: "slave" }));
    return ioredis(leader, follower);
  },

  async "ioredis-cluster"() {
    const redisOptions = { connectionName: prefix, maxRetriesPerRequest: 0 };
    const leader = quiet(new Cluster(nodes, { redisOptions, retryDelayOnFailover: 0 }));
    return ioredis(leader, quiet(new Cluster(nodes, { scaleReads: "slave" })));
  },

  async "node-redis-sentinel"() {
    const options = { name: master, sentinelRootNodes: nodes, nodeClientOptions: { name: prefix }, replicaPoolSize: 1 };
    const sentinel = createSentinel({ ...options, maxCommandRediscovers: 0, scanInterval: 2_000 });
    return nodeRedis(await quiet(sentinel).connect());
  },

  async "node-redis-cluster"() {
    const rootNodes = names.map((name) => ({ url: `redis://${name}` }));
    const options = { rootNodes, defaults: { name: prefix }, maxCommandRedirections: 0, useReplicas: true };
    return nodeRedis(await quiet(createCluster(options)).connect());
  },
};

function ioredis(leader, follower) {
  return {
    set: (key, value) => leader.set(key, value),
    get: (key) => follower.get(key),
    push: (key, value) => leader.rpush(key, value),
    async pipeline(commands) {
      const replies = await leader.pipeline(commands.map(([name, ...words]) => [name.toLowerCase(), ...words])).exec();
      return replies.map(([error, reply]) => error ?? reply);
    },
  };
}

function nodeRedis(client) {
  return {
    set: (key, value) => client.set(key, value),
    get: (key) => client.get(key),
    push: (key, value) => client.rPush(key, value),
    // Commands that are sent together are one piece; a transaction would go to one node in any case.
    pipeline: (commands) => Promise.all(commands.map(([name, ...words]) => client[name.toLowerCase()](...words))),
  };
}

const client = await ways[how]();
let attempted = 0;
let longest = 0;
let stopping = false;
let written;
const unknown = [];

/** Writes numbers without an end, each once: what came of one that failed is not known. */
async function writeNumbers() {
  let answered = Date.now();
  while (!stopping) {
    const number = attempted++;
    try {
      await client.push(key("numbers"), String(number));
    } catch (error) {
      unknown.push(number);
      console.error(`${number}: ${error}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
      continue;
    }
    longest = Math.max(longest, Date.now() - answered);
    answered = Date.now();
  }
}

await converse({
  async work() {
    assert.equal(await client.set(key("text"), "añb\r\n\0"), "OK");
    assert.equal(await client.get(key("text")), "añb\r\n\0");
    // Whoever does not lead has it too: a read is a read.
    for (let number = 0; number < 50; number += 1) {
      await client.set(key("text"), String(number));
      assert.equal(await client.get(key("text")), String(number));
    }
    const keys = Array.from({ length: 200 }, (_, number) => key(`pipeline:{${prefix}}:${number}`));
    const set = await client.pipeline(keys.map((key, number) => ["SET", key, `value-${number}`]));
    assert.deepEqual(set, keys.map(() => "OK"));
    const got = await client.pipeline(keys.map((key) => ["GET", key]));
    assert.deepEqual(got, keys.map((_, number) => `value-${number}`));
  },

  write() {
    written = writeNumbers();
  },

  async stop() {
    stopping = true;
    await written;
    return `${attempted} ${longest} ${unknown.join(",")}`;
  },
});
