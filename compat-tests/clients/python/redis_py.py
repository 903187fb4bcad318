"""redis-py, as its users use it. Arguments: protocol, our node, another node, a prefix for keys."""

import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from conversation import address, check, converse, raises


class Steps:
    def __init__(self, protocol, home, other, prefix):
        self.options = {**address(home), "protocol": int(protocol), "decode_responses": True}
        self.client = redis.Redis(**self.options)
        self.other = redis.Redis(**{**self.options, **address(other)})
        self.prefix = prefix

    def key(self, name):
        return f"{self.prefix}:{name}"

    def handshake(self):
        check(True, self.client.ping())
        information = self.client.client_info()
        check(str(self.options["protocol"]), information["resp"])
        check(True, self.client.set(self.key("text"), "añb\r\n\0"))
        check("añb\r\n\0", self.client.get(self.key("text")))
        check(None, self.client.get(self.key("nothing")))

    def pipeline(self):
        keys = [self.key(f"pipeline:{number}") for number in range(200)]
        pipeline = self.client.pipeline(transaction=False)
        for number, key in enumerate(keys):
            pipeline.set(key, f"value-{number}")
        pipeline.incr(keys[0])
        for key in keys:
            pipeline.get(key)
        replies = pipeline.execute(raise_on_error=False)
        check([True] * len(keys), replies[: len(keys)])
        check(redis.ResponseError, type(replies[len(keys)]))
        check([f"value-{number}" for number in range(len(keys))], replies[len(keys) + 1 :])

    def transaction(self):
        key = self.key("transaction")
        self.client.set(key, 1)
        with self.client.pipeline() as pipeline:
            pipeline.watch(key)
            value = int(pipeline.get(key))
            self.other.set(key, 10)
            pipeline.multi()
            pipeline.set(key, value + 1)
            raises(redis.WatchError, pipeline.execute)
        check("10", self.client.get(key))

        def increment(pipeline):
            value = int(pipeline.get(key))
            pipeline.multi()
            pipeline.set(key, value + 1)
            pipeline.get(key)

        check([True, "11"], self.client.transaction(increment, key))
        check("11", self.other.get(key))

    def pubsub(self):
        channel = self.key("news")
        subscriber = self.client.pubsub()
        subscriber.subscribe(channel)
        subscriber.psubscribe(self.key("n*"))
        for kind in ["subscribe", "psubscribe"]:
            check(kind, subscriber.get_message(timeout=10)["type"])
        self.other.publish(channel, "hello")
        messages = [subscriber.get_message(timeout=10) for _ in range(2)]
        check([("message", "hello"), ("pmessage", "hello")], [(each["type"], each["data"]) for each in messages])
        subscriber.unsubscribe()
        subscriber.punsubscribe()
        for kind in ["unsubscribe", "punsubscribe"]:
            check(kind, subscriber.get_message(timeout=10)["type"])
        subscriber.close()

    def script(self):
        counter, text = self.key("script"), self.key("script:text")
        raises(redis.exceptions.NoScriptError, self.client.evalsha, "f" * 40, 0)
        add = self.client.register_script("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1]), false}")
        check([counter, 5, None], add(keys=[counter], args=[5]))
        check([counter, 12, None], add(keys=[counter], args=[7], client=self.other))
        self.client.script_flush()
        check([False], self.other.script_exists(add.sha))
        check([counter, 13, None], add(keys=[counter], args=[1]))
        check([True], self.other.script_exists(add.sha))
        check("PONG", self.client.eval("return redis.call('PING')", 0))
        self.client.set(text, "text")
        failing = "redis.call('SET', KEYS[2], 'lost?') return redis.call('INCR', KEYS[1])"
        raises(redis.ResponseError, self.client.eval, failing, 2, text, self.key("script:other"))
        with self.client.pipeline() as pipeline:
            add(keys=[counter], args=[1], client=pipeline)
            pipeline.get(counter)
            check([[counter, 14, None], "14"], pipeline.execute())

    def reconnect(self):
        key = self.key("reconnect")
        check(1, self.client.incr(key))
        with redis.Redis(**self.options) as second:
            check(1, second.client_kill_filter(_id=self.client.client_id()))
        check(2, self.client.incr(key))

    def count(self):
        """Increments without an end. A library that may not try again hides nothing."""
        self.stopping = threading.Event()
        self.acknowledged, self.longest, self.failures = 0, 0.0, []
        self.lock = threading.Lock()
        options = {**self.options, "retry": Retry(NoBackoff(), 0)}
        self.threads = [threading.Thread(target=self.increment, args=(options, fresh)) for fresh in [False, False, True]]
        for thread in self.threads:
            thread.start()

    def increment(self, options, fresh):
        client = redis.Redis(**options)
        while not self.stopping.is_set():
            if fresh:
                client.close()
                client = redis.Redis(**options)
            began = time.monotonic()
            try:
                client.incr(self.key("count"))
            except Exception as error:
                self.failures.append(repr(error))
                return
            with self.lock:
                self.acknowledged += 1
                self.longest = max(self.longest, time.monotonic() - began)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        check([], self.failures)
        return f"{self.acknowledged} {self.longest * 1000:.0f}"


converse(Steps(*sys.argv[1:]))
