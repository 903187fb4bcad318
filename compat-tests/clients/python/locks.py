"""Contenders for one lock. Arguments: the library, a prefix for keys, all nodes.

Each contender's lock library uses one node, whether that is alive or not, and may not try again by itself: an outcome
that it cannot know must be seen as such. What happens under the lock is noted with plain commands through another
node, by fencing token. A token is drawn under the lock, so that nobody may be inside with an earlier or a later one:

    INCR fence -> token; SET enter:token; no earlier token entered without exit; ... ; no later token entered; SET exit:token

Each of these may be said twice, or arrive late, without harm: so they are said again until a node answers.
"""

import logging
import random
import sys
import threading
import time
import traceback
from collections import Counter

import pottery
import redis
import redis_lock
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, ConnectionError, LockNotOwnedError, RedisError, TimeoutError
from redis.retry import Retry

from conversation import address, check, converse

CONTENDERS = 20
# Longer than an election and all that a section does; short, because a lock whose holder was cut off while it acquired
# stands until then.
TTL_SECONDS = 8
# A section that took longer may have outlived its lock, and proves nothing.
JUDGED_SECONDS = 5
# How many tokens before and after one's own are looked at.
NEIGHBOURS = 4
# How long a contender waits for the lock before it looks whether it should stop.
PATIENCE_SECONDS = 2
# What is noted goes away long after it was looked at.
NOTE_SECONDS = 600


class Interrupted(Exception):
    """The connection broke, or there was no leader: nobody knows what happened."""


class NotOwned(Exception):
    """The library says that the lock is not, or is no longer, ours."""


class RedisPyLock:
    def __init__(self, client, name):
        self.key = name
        self.lock = client.lock(name, timeout=TTL_SECONDS)

    def acquire(self):
        return self.lock.acquire(blocking_timeout=PATIENCE_SECONDS)

    def extend(self):
        self.lock.extend(TTL_SECONDS, replace_ttl=True)

    def release(self):
        # The library forgets its token before it knows the outcome, so that a second attempt would not be one.
        token = self.lock.local.token
        try:
            self.lock.release()
        except Exception:
            self.lock.local.token = token
            raise


class PotteryRedlock:
    """Its masters are to be independent. Three nodes are one keyspace, so there is one master, whichever node it is."""

    def __init__(self, client, name):
        self.lock = pottery.Redlock(
            key=name, masters={client}, auto_release_time=TTL_SECONDS, raise_on_redis_errors=True
        )
        self.key = self.lock.key

    def acquire(self):
        return self.lock.acquire(timeout=PATIENCE_SECONDS)

    def extend(self):
        self.lock.extend()

    def release(self):
        self.lock.release()


class PythonRedisLock:
    """Waits with BLPOP for what the release pushes. An object is for one section, as with the library's own `with`: it
    knows its lock by one id, and refuses to acquire what an interrupted attempt has acquired."""

    def __init__(self, client, name):
        self.client = client
        self.name = name
        self.key = f"lock:{name}"

    def acquire(self):
        self.lock = redis_lock.Lock(self.client, self.name, expire=TTL_SECONDS)
        return self.lock.acquire(timeout=PATIENCE_SECONDS)

    def extend(self):
        self.lock.extend()

    def release(self):
        self.lock.release()


class Nothing:
    """A lock that keeps nobody out and is never given back: what this program finds out must find that out."""

    def __init__(self, client, name):
        self.client = client
        self.key = name

    def acquire(self):
        self.client.set(self.key, random.random(), nx=True)
        return True

    def extend(self):
        pass

    def release(self):
        pass


LIBRARIES = {
    "redis-py": RedisPyLock,
    "pottery": PotteryRedlock,
    "python-redis-lock": PythonRedisLock,
    "nothing": Nothing,
}
NOT_OWNED = (LockNotOwnedError, pottery.ReleaseUnlockedLock, pottery.ExtendUnlockedLock, redis_lock.NotAcquired)


def is_interruption(error):
    """Whether it says that nobody knows what happened, or that there is no leader to do it."""
    kinds = (ConnectionError, TimeoutError, ClusterDownError, pottery.QuorumIsImpossible)
    return isinstance(error, kinds) or str(error).startswith("UNKNOWN")


class Contender(threading.Thread):
    def __init__(self, steps, number):
        super().__init__(daemon=True)
        nodes = steps.nodes[number % len(steps.nodes) :] + steps.nodes[: number % len(steps.nodes)]
        clients = [redis.Redis(**address(node), retry=Retry(NoBackoff(), 0)) for node in nodes]
        self.plain = clients[1:] + clients[:1]
        self.lock = LIBRARIES[steps.library](clients[0], steps.key("lock"))
        self.steps = steps

    def run(self):
        try:
            while not self.steps.stopping.is_set():
                try:
                    acquired = self.call(self.lock.acquire)
                except Interrupted:
                    continue
                if acquired:
                    self.section()
        except Exception as error:
            traceback.print_exc()
            self.steps.failures.append(repr(error))

    def call(self, method):
        """Calls the library, and sorts what goes wrong."""
        try:
            return method()
        except NOT_OWNED as error:
            raise NotOwned from error
        except Exception as error:
            if not is_interruption(error):
                raise
            self.steps.add("interrupted")
            time.sleep(0.05)
            raise Interrupted from error

    def say(self, *words):
        """A plain command, said until a node answers."""
        while True:
            try:
                return self.plain[0].execute_command(*words)
            except RedisError as error:
                if not is_interruption(error):
                    raise
                self.plain.append(self.plain.pop(0))
                time.sleep(0.02)

    def section(self):
        began = time.monotonic()
        steps = self.steps
        token = self.say("INCR", steps.key("fence"))
        self.say("SET", steps.key(f"enter:{token}"), 1, "EX", NOTE_SECONDS)
        for other in range(max(1, token - NEIGHBOURS), token):
            if self.say("MGET", steps.key(f"enter:{other}"), steps.key(f"exit:{other}")) == [b"1", None]:
                steps.doubles.append((other, token))
        held = self.say("GET", self.lock.key)
        owned = True
        try:
            if token % 5 == 0:
                self.call(self.lock.extend)
        except Interrupted:
            pass
        except NotOwned:
            owned = False
        time.sleep(random.random() / 100)
        for other in range(token + 1, token + 1 + NEIGHBOURS):
            if self.say("GET", steps.key(f"enter:{other}")):
                steps.doubles.append((token, other))
        self.say("SET", steps.key(f"exit:{token}"), 1, "EX", NOTE_SECONDS)
        owned = self.release() and owned
        if time.monotonic() - began > JUDGED_SECONDS:
            steps.overstayed.add(token)
        elif not owned or self.say("GET", self.lock.key) == held:
            steps.add("lost")
        steps.add("sections")

    def release(self):
        """Gives the lock back, however often it must be said. Whether it was ours to give."""
        interrupted = False
        while True:
            try:
                self.call(self.lock.release)
                return True
            except Interrupted:
                interrupted = True
            except NotOwned:
                # An interrupted attempt may have been the one that did it.
                return interrupted


class Steps:
    def __init__(self, library, prefix, *nodes):
        self.library, self.prefix, self.nodes = library, prefix, list(nodes)
        self.stopping = threading.Event()
        self.failures, self.doubles, self.overstayed = [], [], set()
        self.counts = Counter()
        self.lock = threading.Lock()

    def key(self, name):
        return f"{self.prefix}:{name}"

    def add(self, what):
        with self.lock:
            self.counts[what] += 1

    def start(self):
        self.contenders = [Contender(self, number) for number in range(CONTENDERS)]
        for contender in self.contenders:
            contender.start()

    def stop(self):
        self.stopping.set()
        for contender in self.contenders:
            contender.join()
        check([], self.failures)
        doubles = {pair for pair in self.doubles if not self.overstayed.intersection(pair)}
        figures = [self.counts["sections"], len(doubles), self.counts["lost"]]
        return " ".join(map(str, figures + [len(self.overstayed), self.counts["interrupted"]]))


logging.getLogger("pottery").disabled = True
logging.getLogger("redis_lock").disabled = True
converse(Steps(*sys.argv[1:]))
