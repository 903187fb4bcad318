// How a program here talks with the test that runs it: a step's name comes in, one line about it goes out.

import { createInterface } from "node:readline";

/** Takes the steps that the test names, until it names no more. */
export async function converse(steps) {
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      console.log(`ok ${(await steps[line.trim()]()) ?? ""}`.trim());
    } catch (error) {
      console.error(error);
      console.log(`failed ${String(error).replaceAll("\n", " ")}`);
    }
  }
  process.exit(0);
}

/** What the libraries want to know of a `host:port`. */
export function address(text) {
  const [, host, port] = text.match(/^(.*):(\d+)$/);
  return { host, port: Number(port) };
}

/** Waits until `look` finds something. */
export async function waitFor(what, look) {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; ) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`waited in vain for ${what}`);
}

/**
 * Increments without an end in three loops, the last of which connects anew for each. What `connect` returns can
 * `increment` and `close`, and must not try again on its own: that would hide a failure.
 */
export class Count {
  acknowledged = 0;
  longest = 0;
  #stopping = false;

  constructor(connect) {
    const loops = [false, false, true].map((fresh) => this.#run(connect, fresh));
    this.ended = Promise.all(loops);
    // Told when the count is stopped; until then it is nobody's.
    this.ended.catch(() => {});
  }

  async #run(connect, fresh) {
    let client = await connect();
    while (!this.#stopping) {
      if (fresh) {
        await client.close();
        client = await connect();
      }
      const began = Date.now();
      await client.increment();
      this.acknowledged += 1;
      this.longest = Math.max(this.longest, Date.now() - began);
    }
    await client.close();
  }

  /** The increments that were acknowledged and the longest wait for one, in milliseconds. */
  async stop() {
    this.#stopping = true;
    await this.ended;
    return `${this.acknowledged} ${this.longest}`;
  }
}
