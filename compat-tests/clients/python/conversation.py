"""How a program here talks with the test that runs it: a step's name comes in, one line about it goes out."""

import sys
import traceback


def converse(steps):
    """Takes the steps that the test names, until it names no more."""
    for line in sys.stdin:
        name = line.strip()
        try:
            answer = getattr(steps, name)()
            print(f"ok {answer or ''}".strip(), flush=True)
        except Exception as error:
            traceback.print_exc()
            print(f"failed {error!r}", flush=True)


def address(text):
    """What the libraries want to know of a `host:port`."""
    host, port = text.rsplit(":", 1)
    return {"host": host, "port": int(port)}


def check(expected, got):
    """Says what differs."""
    if got != expected:
        raise AssertionError(f"expected {expected!r}, got {got!r}")


def raises(kind, call, *arguments):
    """The error, which must come, and be of this kind."""
    try:
        answer = call(*arguments)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {answer!r}")
