"""redis-py where it looks for the leader itself. Arguments: how, the master's name, a prefix for keys, nodes."""

import sys
import threading
import time

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from conversation import address, check, converse


def sentinel(master, name, nodes):
    """The leader, and any follower, as Sentinel's clients find them."""
    nodes = [(node["host"], node["port"]) for node in nodes]
    found = Sentinel(nodes, socket_timeout=5, decode_responses=True)
    options = {"client_name": name, "retry": Retry(NoBackoff(), 0)}
    return found.master_for(master, **options), found.slave_for(master)


def cluster(_master, name, nodes):
    """The node of the slot, and one that may be asked in its place, as a cluster's clients find them."""
    options = {"startup_nodes": [ClusterNode(**node) for node in nodes], "decode_responses": True}
    writer = RedisCluster(**options, client_name=name, retry=Retry(NoBackoff(), 0))
    return writer, RedisCluster(**options, load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN_REPLICAS)


class Steps:
    def __init__(self, how, master, prefix, *nodes):
        find = {"sentinel": sentinel, "cluster": cluster}[how]
        self.writer, self.reader = find(master, prefix, [address(node) for node in nodes])
        self.prefix = prefix

    def key(self, name):
        return f"{self.prefix}:{name}"

    def work(self):
        check(True, self.writer.set(self.key("text"), "añb\r\n\0"))
        check("añb\r\n\0", self.writer.get(self.key("text")))
        # Whoever does not lead has it too: a read is a read.
        for number in range(50):
            self.writer.set(self.key("text"), number)
            check(str(number), self.reader.get(self.key("text")))
        keys = [self.key(f"pipeline:{number}") for number in range(200)]
        pipeline = self.writer.pipeline()
        for number, key in enumerate(keys):
            pipeline.set(key, f"value-{number}")
        check([True] * len(keys), pipeline.execute())
        for key in keys:
            pipeline.get(key)
        check([f"value-{number}" for number in range(len(keys))], pipeline.execute())

    def write(self):
        """Writes numbers without an end, each once: what came of one that failed is not known."""
        self.attempted, self.unknown, self.longest = 0, [], 0.0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.write_numbers)
        self.thread.start()

    def write_numbers(self):
        answered = time.monotonic()
        while not self.stopping.is_set():
            number, self.attempted = self.attempted, self.attempted + 1
            try:
                self.writer.rpush(self.key("numbers"), number)
            except Exception as error:
                self.unknown.append(number)
                print(f"{number}: {error!r}", file=sys.stderr)
                self.stopping.wait(0.02)
                continue
            self.longest = max(self.longest, time.monotonic() - answered)
            answered = time.monotonic()

    def stop(self):
        self.stopping.set()
        self.thread.join()
        return f"{self.attempted} {self.longest * 1000:.0f} {','.join(map(str, self.unknown))}"


converse(Steps(*sys.argv[1:]))
