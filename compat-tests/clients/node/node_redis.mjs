// node-redis, as its users use it. Arguments: protocol, our node, another node, a prefix for keys.

import assert from "node:assert/strict";
import { WatchError, createClient, defineScript } from "redis";
import { Count, address, converse, waitFor } from "./conversation.mjs";

const [protocol, home, other, prefix] = process.argv.slice(2);
const key = (name) => `${prefix}:${name}`;

const scripts = {
  add: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: "return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1]), false}",
    parseCommand(parser, key, amount) {
      parser.pushKey(key);
      parser.push(String(amount));
    },
    transformReply: (reply) => reply,
  }),
};

async function connect(node, reconnectStrategy) {
  const { host, port } = address(node);
  const strategy = reconnectStrategy === undefined ? {} : { reconnectStrategy };
  const client = createClient({ socket: { host, port, ...strategy }, RESP: Number(protocol), scripts });
  // A connection that is lost on purpose is told here too.
  client.on("error", () => {});
  return client.connect();
}

const client = await connect(home);
const elsewhere = await connect(other);
let count;

await converse({
  async handshake() {
    assert.equal(await client.ping(), "PONG");
    assert.match(await client.sendCommand(["CLIENT", "INFO"]), new RegExp(` resp=${protocol}`));
    assert.equal(await client.set(key("text"), "añb\r\n\0"), "OK");
    assert.equal(await client.get(key("text")), "añb\r\n\0");
    assert.equal(await client.get(key("nothing")), null);
  },

  async pipeline() {
    const keys = Array.from({ length: 200 }, (_, number) => key(`pipeline:${number}`));
    // What is asked for in one turn of the event loop goes out in one piece.
    const replies = await Promise.allSettled([
      ...keys.map((key, number) => client.set(key, `value-${number}`)),
      client.incr(keys[0]),
      ...keys.map((key) => client.get(key)),
    ]);
    const values = replies.map((reply) => reply.value);
    assert.deepEqual(values.slice(0, keys.length), keys.map(() => "OK"));
    assert.match(replies[keys.length].reason.message, /^ERR value is not an integer/);
    assert.deepEqual(values.slice(keys.length + 1), keys.map((_, number) => `value-${number}`));
  },

  async transaction() {
    const own = key("transaction");
    await client.set(own, "1");
    await client.watch(own);
    await elsewhere.set(own, "10");
    await assert.rejects(client.multi().set(own, "2").exec(), WatchError);
    assert.equal(await client.get(own), "10");
    await client.watch(own);
    assert.deepEqual(await client.multi().incr(own).get(own).exec(), [11, "11"]);
    assert.equal(await elsewhere.get(own), "11");
  },

  async pubsub() {
    const subscriber = await client.duplicate().connect();
    const messages = [];
    await subscriber.subscribe(key("news"), (message, channel) => messages.push([channel, message]));
    await subscriber.pSubscribe(key("n*"), (message, channel) => messages.push(["pattern", channel, message]));
    await elsewhere.publish(key("news"), "hello");
    await waitFor("two messages", () => messages.length === 2);
    assert.deepEqual(messages, [[key("news"), "hello"], ["pattern", key("news"), "hello"]]);
    await subscriber.unsubscribe(key("news"));
    await subscriber.close();
  },

  async script() {
    const counter = key("script");
    await assert.rejects(client.evalSha("f".repeat(40)), /NOSCRIPT No matching script/);
    assert.deepEqual(await client.add(counter, 5), [counter, 5, null]);
    assert.deepEqual(await elsewhere.add(counter, 7), [counter, 12, null]);
    await elsewhere.scriptFlush();
    assert.deepEqual(await client.add(counter, 1), [counter, 13, null]);
    assert.equal(await client.eval("return redis.call('PING')"), "PONG");
    const sha = await client.scriptLoad("return ARGV[1]");
    assert.equal(await elsewhere.evalSha(sha, { arguments: ["everywhere"] }), "everywhere");
  },

  async reconnect() {
    assert.equal(await client.incr(key("reconnect")), 1);
    const second = await connect(home);
    const reconnected = new Promise((resolve) => client.once("ready", resolve));
    assert.equal(await second.clientKill({ filter: "ID", id: await client.clientId() }), 1);
    await reconnected;
    assert.equal(await client.incr(key("reconnect")), 2);
    await second.close();
  },

  count() {
    count = new Count(async () => {
      const client = await connect(home, false);
      return { increment: () => client.incr(key("count")), close: () => client.close() };
    });
  },

  stop: () => count.stop(),
});
