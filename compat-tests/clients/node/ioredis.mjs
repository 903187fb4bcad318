// ioredis, as its users use it. Arguments: protocol, our node, another node, a prefix for keys.

import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { Count, address, converse, waitFor } from "./conversation.mjs";

const [protocol, home, other, prefix] = process.argv.slice(2);
const options = { ...address(home), protocol: Number(protocol) };
const client = new Redis(options);
const elsewhere = new Redis({ ...options, ...address(other) });
const key = (name) => `${prefix}:${name}`;
// Connections that are lost on purpose are told here too.
client.on("error", () => {});
elsewhere.on("error", () => {});

let count;

await converse({
  async handshake() {
    assert.equal(await client.ping(), "PONG");
    assert.match(await client.client("INFO"), new RegExp(` resp=${protocol}`));
    assert.equal(await client.set(key("text"), "añb\r\n\0"), "OK");
    assert.equal(await client.get(key("text")), "añb\r\n\0");
    assert.equal(await client.get(key("nothing")), null);
  },

  async pipeline() {
    const keys = Array.from({ length: 200 }, (_, number) => key(`pipeline:${number}`));
    const pipeline = client.pipeline();
    keys.forEach((key, number) => pipeline.set(key, `value-${number}`));
    pipeline.incr(keys[0]);
    keys.forEach((key) => pipeline.get(key));
    const replies = await pipeline.exec();
    assert.deepEqual(replies.slice(0, keys.length), keys.map(() => [null, "OK"]));
    assert.match(replies[keys.length][0].message, /^ERR value is not an integer/);
    assert.deepEqual(replies.slice(keys.length + 1), keys.map((_, number) => [null, `value-${number}`]));
  },

  async transaction() {
    const own = key("transaction");
    await client.set(own, 1);
    await client.watch(own);
    await elsewhere.set(own, 10);
    assert.equal(await client.multi().set(own, 2).exec(), null);
    assert.equal(await client.get(own), "10");
    await client.watch(own);
    assert.deepEqual(await client.multi().incr(own).get(own).exec(), [[null, 11], [null, "11"]]);
    assert.equal(await elsewhere.get(own), "11");
  },

  async pubsub() {
    const subscriber = client.duplicate();
    const messages = [];
    subscriber.on("message", (channel, message) => messages.push([channel, message]));
    subscriber.on("pmessage", (pattern, channel, message) => messages.push([pattern, channel, message]));
    assert.equal(await subscriber.subscribe(key("news")), 1);
    assert.equal(await subscriber.psubscribe(key("n*")), 2);
    await elsewhere.publish(key("news"), "hello");
    await waitFor("two messages", () => messages.length === 2);
    assert.deepEqual(messages, [[key("news"), "hello"], [key("n*"), key("news"), "hello"]]);
    assert.equal(await subscriber.unsubscribe(key("news")), 1);
    subscriber.disconnect();
  },

  async script() {
    const counter = key("script");
    await assert.rejects(client.evalsha("f".repeat(40), 0), /^ReplyError: NOSCRIPT No matching script/);
    const lua = "return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1]), false}";
    client.defineCommand("add", { numberOfKeys: 1, lua });
    assert.deepEqual(await client.add(counter, 5), [counter, 5, null]);
    assert.deepEqual(await client.add(counter, 7), [counter, 12, null]);
    await elsewhere.script("FLUSH");
    assert.deepEqual(await client.add(counter, 1), [counter, 13, null]);
    assert.equal(await client.eval("return redis.call('PING')", 0), "PONG");
    const sha = await client.script("LOAD", "return ARGV[1]");
    assert.equal(await elsewhere.evalsha(sha, 0, "everywhere"), "everywhere");
  },

  async reconnect() {
    assert.equal(await client.incr(key("reconnect")), 1);
    assert.equal(await elsewhere.ping(), "PONG");
    const second = new Redis(options);
    assert.equal(await second.client("KILL", "ID", await client.client("ID")), 1);
    assert.equal(await client.incr(key("reconnect")), 2);
    second.disconnect();
  },

  count() {
    count = new Count(async () => {
      const client = new Redis({
        ...options,
        retryStrategy: null,
        maxRetriesPerRequest: 0,
        autoResendUnfulfilledCommands: false,
        lazyConnect: true,
      });
      client.on("error", () => {});
      await client.connect();
      return { increment: () => client.incr(key("count")), close: () => client.quit() };
    });
  },

  stop: () => count.stop(),
});
