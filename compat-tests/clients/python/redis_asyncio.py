"""redis.asyncio, as its users use it. Arguments: protocol, our node, another node, a prefix for keys."""

import asyncio
import sys
import threading
import time

import redis.asyncio as redis
from redis.backoff import NoBackoff
from redis.asyncio.retry import Retry
from redis.exceptions import NoScriptError, ResponseError, WatchError

from conversation import address, check, converse


async def raises(kind, answer):
    try:
        answer = await answer
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}, got {answer!r}")


class Coroutines:
    def __init__(self, protocol, home, other, prefix):
        self.options = {**address(home), "protocol": int(protocol), "decode_responses": True}
        self.client = redis.Redis(**self.options)
        self.other = redis.Redis(**{**self.options, **address(other)})
        self.prefix = prefix

    def key(self, name):
        return f"{self.prefix}:{name}"

    async def handshake(self):
        check(True, await self.client.ping())
        information = await self.client.client_info()
        check(str(self.options["protocol"]), information["resp"])
        check(True, await self.client.set(self.key("text"), "añb\r\n\0"))
        check("añb\r\n\0", await self.client.get(self.key("text")))
        check(None, await self.client.get(self.key("nothing")))

    async def pipeline(self):
        keys = [self.key(f"pipeline:{number}") for number in range(200)]
        pipeline = self.client.pipeline(transaction=False)
        for number, key in enumerate(keys):
            pipeline.set(key, f"value-{number}")
        pipeline.incr(keys[0])
        for key in keys:
            pipeline.get(key)
        replies = await pipeline.execute(raise_on_error=False)
        check([True] * len(keys), replies[: len(keys)])
        check(ResponseError, type(replies[len(keys)]))
        check([f"value-{number}" for number in range(len(keys))], replies[len(keys) + 1 :])

    async def transaction(self):
        key = self.key("transaction")
        await self.client.set(key, 1)
        async with self.client.pipeline() as pipeline:
            await pipeline.watch(key)
            value = int(await pipeline.get(key))
            await self.other.set(key, 10)
            pipeline.multi()
            pipeline.set(key, value + 1)
            await raises(WatchError, pipeline.execute())
        check("10", await self.client.get(key))

        async def increment(pipeline):
            value = int(await pipeline.get(key))
            pipeline.multi()
            pipeline.set(key, value + 1)
            pipeline.get(key)

        check([True, "11"], await self.client.transaction(increment, key))
        check("11", await self.other.get(key))

    async def pubsub(self):
        channel = self.key("news")
        async with self.client.pubsub() as subscriber:
            await subscriber.subscribe(channel)
            await subscriber.psubscribe(self.key("n*"))
            for kind in ["subscribe", "psubscribe"]:
                check(kind, (await subscriber.get_message(timeout=10))["type"])
            await self.other.publish(channel, "hello")
            messages = [await subscriber.get_message(timeout=10) for _ in range(2)]
            kinds = [(each["type"], each["data"]) for each in messages]
            check([("message", "hello"), ("pmessage", "hello")], kinds)

    async def script(self):
        counter = self.key("script")
        await raises(NoScriptError, self.client.evalsha("f" * 40, 0))
        add = self.client.register_script("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1]), false}")
        check([counter, 5, None], await add(keys=[counter], args=[5]))
        await self.client.script_flush()
        check([False], await self.other.script_exists(add.sha))
        check([counter, 6, None], await add(keys=[counter], args=[1]))
        check([True], await self.other.script_exists(add.sha))
        check("PONG", await self.client.eval("return redis.call('PING')", 0))

    async def reconnect(self):
        key = self.key("reconnect")
        check(1, await self.client.incr(key))
        async with redis.Redis(**self.options) as second:
            check(1, await second.client_kill_filter(_id=await self.client.client_id()))
        check(2, await self.client.incr(key))

    async def count(self):
        """Increments without an end. A library that may not try again hides nothing."""
        self.stopping = False
        self.acknowledged, self.longest = 0, 0.0
        options = {**self.options, "retry": Retry(NoBackoff(), 0)}
        self.tasks = [asyncio.create_task(self.increment(options, fresh)) for fresh in [False, False, True]]

    async def increment(self, options, fresh):
        client = redis.Redis(**options)
        while not self.stopping:
            if fresh:
                await client.aclose()
                client = redis.Redis(**options)
            began = time.monotonic()
            await client.incr(self.key("count"))
            self.acknowledged += 1
            self.longest = max(self.longest, time.monotonic() - began)
        await client.aclose()

    async def stop(self):
        self.stopping = True
        await asyncio.gather(*self.tasks)
        return f"{self.acknowledged} {self.longest * 1000:.0f}"


class Steps:
    """The coroutines as plain calls; the loop runs beside them."""

    def __init__(self, coroutines):
        self.coroutines = coroutines
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def __getattr__(self, name):
        return lambda: asyncio.run_coroutine_threadsafe(getattr(self.coroutines, name)(), self.loop).result()


converse(Steps(Coroutines(*sys.argv[1:])))
