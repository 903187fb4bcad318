"""A plugin of pytest: leaves out the tests that the file SKIP names, one a line, and writes what became of
each test into the file that REPORT names.

A line is `outcome<tab>node id<tab>what was said`, with backslashes for what would end it.
"""

import os

_outcomes = {}


def pytest_collection_modifyitems(config, items):
    with open(os.environ["SKIP"], encoding="utf-8") as file:
        listed = set(file.read().splitlines())
    left_out = [item for item in items if item.nodeid in listed]
    items[:] = [item for item in items if item.nodeid not in listed]
    for item in left_out:
        _outcomes[item.nodeid] = "listed", ""
    config.hook.pytest_deselected(items=left_out)


def pytest_runtest_logreport(report):
    # Setting up, the test itself and cleaning up each report; the worst of them counts.
    rank = ("passed", "skipped", "failed")
    outcome, said = _outcomes.get(report.nodeid, ("passed", ""))
    if rank.index(report.outcome) > rank.index(outcome):
        crash = getattr(report.longrepr, "reprcrash", None)
        outcome, said = report.outcome, crash.message if crash else str(report.longrepr or "")
    _outcomes[report.nodeid] = outcome, said


def pytest_sessionfinish(session):
    with open(os.environ["REPORT"], "w", encoding="utf-8") as file:
        for node, (outcome, said) in _outcomes.items():
            said = said.encode("unicode_escape").decode("ascii")
            file.write(f"{outcome}\t{node}\t{said}\n")
