// Contenders for one lock. Arguments: the library, a prefix for keys, all nodes. What they do and what is counted is
// what ../python/locks.py does and counts, and is explained there.

import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { Mutex } from "redis-semaphore";
import Redlock, { ResourceLockedError } from "redlock";
import { address, converse } from "./conversation.mjs";

const CONTENDERS = 20;
const TTL_MS = 8_000;
const JUDGED_MS = 5_000;
const NEIGHBOURS = 4;
const PATIENCE_MS = 2_000;
const RETRY_MS = 100;
const NOTE_SECONDS = 600;

const [library, prefix, ...nodes] = process.argv.slice(2);
const key = (name) => `${prefix}:${name}`;
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const counts = { sections: 0, lost: 0, interrupted: 0 };
const doubles = [];
const overstayed = new Set();
const failures = [];
let stopping = false;

class Interrupted extends Error {}
class NotOwned extends Error {}

/** Whether an error says that nobody knows what happened, or that there is no leader to do it. */
function isInterruption(error) {
  const lost = ["ECONNREFUSED", "ECONNRESET", "EPIPE"].includes(error.code) || error.name === "MaxRetriesPerRequestError";
  return lost || /^CLUSTERDOWN|^UNKNOWN|^Connection is closed|^Stream isn't writeable/.test(error.message);
}

/** Its masters are to be independent. Three nodes are one keyspace, so there is one master, whichever node it is. */
class NpmRedlock {
  constructor(client, name) {
    this.key = name;
    const retryDelay = { retryDelay: RETRY_MS, retryJitter: RETRY_MS / 2 };
    this.redlock = new Redlock([client], { ...retryDelay, retryCount: PATIENCE_MS / RETRY_MS });
    // Each attempt that did not get the lock is told here too.
    this.redlock.on("error", () => {});
  }

  async acquire() {
    try {
      this.lock = await this.redlock.acquire([this.key], TTL_MS);
      return true;
    } catch (error) {
      if (await this.wasLocked(error)) return false;
      throw error;
    }
  }

  async extend() {
    await this.owned(async () => (this.lock = await this.redlock.extend(this.lock, TTL_MS, { retryCount: 0 })));
  }

  async release() {
    await this.owned(() => this.redlock.release(this.lock, { retryCount: 0 }));
  }

  async owned(call) {
    try {
      await call();
    } catch (error) {
      // Nobody is asked about a lock that has ended by the library's own clock.
      const ended = error.attempts?.length === 0;
      throw ended || (await this.wasLocked(error)) ? new NotOwned() : error;
    }
  }

  /** Whether the last attempt was refused; else what it failed of is thrown. */
  async wasLocked(error) {
    const last = await error.attempts?.at(-1);
    if (!last) return false;
    const [reason] = last.votesAgainst.values();
    if (reason instanceof ResourceLockedError) return true;
    throw reason;
  }
}

/** It renews its lock by itself, every so often. */
class RedisSemaphore {
  constructor(client, name) {
    this.client = client;
    this.name = name;
    this.key = `mutex:${name}`;
  }

  async acquire() {
    this.lost = false;
    this.mutex = new Mutex(this.client, this.name, {
      lockTimeout: TTL_MS,
      acquireTimeout: PATIENCE_MS,
      retryInterval: RETRY_MS,
      onLockLost: () => (this.lost = true),
    });
    return this.mutex.tryAcquire();
  }

  async extend() {
    // Sooner than it would by itself.
    await this.mutex._processRefresh();
    if (this.lost) throw new NotOwned();
  }

  async release() {
    await this.mutex.release();
  }
}

/** A lock that keeps nobody out and is never given back: what this program finds out must find that out. */
class Nothing {
  constructor(client, name) {
    this.client = client;
    this.key = name;
  }

  async acquire() {
    await this.client.set(this.key, Math.random(), "NX");
    return true;
  }

  async extend() {}

  async release() {}
}

const LIBRARIES = { redlock: NpmRedlock, "redis-semaphore": RedisSemaphore, nothing: Nothing };

/** A client that does not try again by itself, but for connecting. */
function connect(node) {
  const client = new Redis({
    ...address(node),
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => 50,
  });
  client.on("error", () => {});
  return client;
}

class Contender {
  constructor(number) {
    const home = number % nodes.length;
    const clients = [...nodes.slice(home), ...nodes.slice(0, home)].map(connect);
    this.lock = new LIBRARIES[library](clients[0], key("lock"));
    this.plain = [...clients.slice(1), clients[0]];
    this.clients = clients;
  }

  async run() {
    try {
      while (!stopping) {
        const acquired = await this.call(() => this.lock.acquire()).catch(allow(Interrupted));
        if (acquired) await this.section();
      }
    } catch (error) {
      console.error(error);
      failures.push(String(error));
    }
    this.clients.forEach((client) => client.disconnect());
  }

  /** Calls the library, and sorts what goes wrong. */
  async call(method) {
    try {
      return await method();
    } catch (error) {
      if (!isInterruption(error)) throw error;
      counts.interrupted += 1;
      await sleep(50);
      throw new Interrupted();
    }
  }

  /** A plain command, said until a node answers. */
  async say(...words) {
    for (;;) {
      try {
        return await this.plain[0].call(...words);
      } catch (error) {
        if (!isInterruption(error)) throw error;
        this.plain.push(this.plain.shift());
        await sleep(20);
      }
    }
  }

  async section() {
    const began = performance.now();
    const token = await this.say("INCR", key("fence"));
    await this.say("SET", key(`enter:${token}`), 1, "EX", NOTE_SECONDS);
    for (let other = Math.max(1, token - NEIGHBOURS); other < token; other += 1) {
      const [entered, left] = await this.say("MGET", key(`enter:${other}`), key(`exit:${other}`));
      if (entered && !left) doubles.push([other, token]);
    }
    const held = await this.say("GET", this.lock.key);
    let owned = true;
    if (token % 5 === 0) {
      await this.call(() => this.lock.extend()).catch((error) => {
        if (error instanceof NotOwned) owned = false;
        else allow(Interrupted)(error);
      });
    }
    await sleep(Math.random() * 10);
    for (let other = token + 1; other <= token + NEIGHBOURS; other += 1) {
      if (await this.say("GET", key(`enter:${other}`))) doubles.push([token, other]);
    }
    await this.say("SET", key(`exit:${token}`), 1, "EX", NOTE_SECONDS);
    owned = (await this.release()) && owned;
    if (performance.now() - began > JUDGED_MS) overstayed.add(token);
    else if (!owned || (await this.say("GET", this.lock.key)) === held) counts.lost += 1;
    counts.sections += 1;
  }

  /** Gives the lock back, however often it must be said. Whether it was ours to give. */
  async release() {
    for (let interrupted = false; ; interrupted = true) {
      try {
        await this.call(() => this.lock.release());
        return true;
      } catch (error) {
        // An interrupted attempt may have been the one that did it.
        if (error instanceof NotOwned) return interrupted;
        allow(Interrupted)(error);
      }
    }
  }
}

/** What to do about an error of this kind: nothing. */
function allow(kind) {
  return (error) => {
    if (!(error instanceof kind)) throw error;
  };
}

let running;

await converse({
  start() {
    running = Array.from({ length: CONTENDERS }, (_, number) => new Contender(number).run());
  },

  async stop() {
    stopping = true;
    await Promise.all(running);
    assert.deepEqual(failures, []);
    const judged = doubles.filter((pair) => !pair.some((token) => overstayed.has(token)));
    const pairs = new Set(judged.map(String));
    return [counts.sections, pairs.size, counts.lost, overstayed.size, counts.interrupted].join(" ");
  },
});
