"""From the committed records to docs/versions.md."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from hacklib.versions.capabilities import PROBES
from hacklib.versions.configurations import CONFIGURATIONS, NEWEST
from hacklib.versions.record import LEFT_OUT, PASSED, Record

__all__ = ["PROMISES", "versions_page"]

_HEAD = """\
# Versions of Kubernetes
<!-- made by hack/generate from test/e2e/versions.json, which hack/versions writes -->
The e2e suite runs on every Kubernetes below, on real clusters with simulated GPUs, and this page is made by these runs: what each
API server keeps is found out by writing it, and each test passes or says why it does not apply. `make versions` runs it all and
writes this page; `hack/versions --on 1.35 test_mig.py` does it for one configuration and one module.

`+gates` has the gates of DRA open that are open in {newest} by default, in all components:
{gates}.
"""
_CAPABILITIES = """
## What Kubernetes offers
Found out by writing it to the API server of each. A field behind a closed gate is dropped without a word: hami-dra looks for that
itself, and takes the richest way that is left.
"""
_LAYOUTS = """
## What hami-dra makes of it
"""
_TESTS = """
## The suite
Tests passed, and tests that do not apply (`-`). What is not run has not been since it was written.
"""
_NOTHING = "-"
_OFFERED = {False: "yes", True: "no"}
PROMISES: Mapping[str, Mapping[str, str]] = {
    "a card that is lost": {
        "test_health.py::test_a_card_that_falls_off_the_bus_loses_its_pods_and_gets_new_ones_when_it_is_back": (
            "tainted, its pods evicted"
        ),
        "test_fixed_shares.py::test_a_card_that_is_lost_is_withdrawn": "withdrawn",
    },
    "a pod learns that its card fails": {
        "test_health.py::test_a_card_with_a_broken_row_keeps_its_pods_and_gets_no_more_until_it_is_reset": "in its status",
    },
    "a pod's status says how its device is": {"test_shares.py::test_the_pod_says_how_its_device_is": "yes"},
    "an administrator's cordon": {
        "test_cordon.py::test_a_cordoned_card_is_emptied_gets_nothing_and_is_used_again_afterwards": "yes, its gate open",
    },
    "the claim says what the node did": {"test_shares.py::test_the_claim_says_what_the_node_did": "yes"},
    "an alternative is taken and enforced": {"test_examples.py::test_example_07_first_available": "yes"},
    "a monitor sees the card and takes nothing": {
        "test_shares.py::test_a_monitor_sees_the_card_and_takes_nothing_of_it": "yes",
    },
}
"""What the table says of a configuration, by the test that passed there; the first that did."""
_REASONS = """
## What does not apply, and why
"""


def versions_page(records: Mapping[str, Record], *, modules: Sequence[str]) -> str:
    """The page; `modules` are those of the suite, run or not."""
    gates = sorted({gate for found in CONFIGURATIONS.values() for gate in found.feature_gates})
    opened = ", ".join(f"`{gate}`" for gate in gates)
    parts = [
        _HEAD.format(newest=CONFIGURATIONS[NEWEST].release, gates=opened),
        _CAPABILITIES,
        *_table(["", *_titles(records)], _capability_rows(records)),
        _LAYOUTS,
        *_table(["", *_titles(records)], _layout_rows(records)),
        _TESTS,
        *_table(["module", *_titles(records)], _module_rows(records, modules)),
        _REASONS,
        *_reasons(records),
    ]
    return "".join(parts)


def _titles(records: Mapping[str, Record]) -> list[str]:
    return [name.replace(CONFIGURATIONS[name].kubernetes, record.release, 1) for name, record in records.items()]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |\n"


def _capability_rows(records: Mapping[str, Record]) -> Iterator[list[str]]:
    for capability, found in PROBES.items():
        gate = f" (`{found.gate}`)"
        name = capability.name.lower()
        cells = [_OFFERED[bool(record.missing[name])] if name in record.missing else "?" for record in records.values()]
        yield [f"{capability}{gate}", *cells]


def _layout_rows(records: Mapping[str, Record]) -> Iterator[list[str]]:
    for mode in sorted({mode for record in records.values() for mode in record.layouts}):
        yield [f"mode `{mode}`", *(record.layouts.get(mode, _NOTHING) for record in records.values())]
    for title, shown in PROMISES.items():
        yield [title, *(_shown(record, shown) for record in records.values())]


def _shown(record: Record, shown: Mapping[str, str]) -> str:
    """The words of the first test that passed."""
    return next((words for test, words in shown.items() if record.tests.get(test) == PASSED), _NOTHING)


def _module_rows(records: Mapping[str, Record], modules: Sequence[str]) -> Iterator[list[str]]:
    known = {test for record in records.values() for test in record.tests}
    for module in modules:
        tests = {test for test in known if test.partition("::")[0] == module}
        yield [f"`{module}`", *(_counted(record, tests) for record in records.values())]
    yield ["all", *(_counted(record, known) for record in records.values())]


def _counted(record: Record, tests: Collection[str]) -> str:
    outcomes = [record.tests[test] for test in tests if test in record.tests]
    if not outcomes:
        return "not run"
    unknown = len(tests) - len(outcomes)
    passed = sum(outcome == PASSED for outcome in outcomes)
    left_out = sum(outcome.startswith(LEFT_OUT) for outcome in outcomes)
    failed = len(outcomes) - passed - left_out
    words = [str(passed), *([f"{left_out} -"] if left_out else []), *([f"**{failed} failed**"] if failed else [])]
    return ", ".join([*words, *([f"{unknown} not run"] if unknown else [])])


def _reasons(records: Mapping[str, Record]) -> Iterator[str]:
    reasons: dict[str, dict[str, list[str]]] = {}
    for name, record in records.items():
        for test, outcome in record.tests.items():
            if outcome.startswith(LEFT_OUT):
                reasons.setdefault(outcome.removeprefix(LEFT_OUT), {}).setdefault(test, []).append(name)
    for reason, tests in sorted(reasons.items()):
        yield f"- **{reason}**\n"
        for where in sorted({tuple(names) for names in tests.values()}):
            found = [f"`{test.partition('::')[2]}`" for test, names in sorted(tests.items()) if tuple(names) == where]
            yield f"  - on {', '.join(where)}: {', '.join(found)}\n"
