"""The plan of a fault campaign: reproducible, within its bounds, and of every kind."""

from collections import Counter

from faults.plan import Claim, Fault, Verb, rounds


def test_a_seed_is_a_campaign() -> None:
    """The same seed gives the same operations and faults, another one others."""
    first, again, other = (list(rounds(seed, operations=300, pods=40, batch=20)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_campaign_has_what_was_asked_for() -> None:
    """The count of operations is exact, pods never exceed the limit, and each fault comes as often as any other."""
    planned = list(rounds(1, operations=1407, pods=40, batch=20))
    assert sum(planned_round.operations for planned_round in planned) == 1407
    assert max(len(planned_round.wanted) for planned_round in planned) <= 40
    counts = Counter(planned_round.fault for planned_round in planned)
    assert set(counts) == set(Fault)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_operations_make_sense_after_each_other() -> None:
    """Only what is there is used or ended, no name is used twice, and nothing is asked of an API server that is away."""
    alive: set[str] = set()
    claims: set[str] = set()
    names: set[str] = set()
    for planned in rounds(3, operations=2000, pods=40, batch=25):
        assert not (planned.fault.silences_api and planned.during)
        for operation in (*planned.before, *planned.during):
            if operation.verb in {Verb.RUN, Verb.CLAIM}:
                assert not {operation.pod or operation.named} & names
                names.add(operation.pod or operation.named)
            match operation.verb:
                case Verb.RUN:
                    assert operation.named in (claims if operation.claim is Claim.NAMED else {""})
                    alive.add(operation.pod)
                case Verb.END | Verb.DROP | Verb.EVICT:
                    alive.remove(operation.pod)
                case Verb.BOUNCE:
                    assert operation.pod in alive
                case Verb.CLAIM:
                    claims.add(operation.named)
                case Verb.UNCLAIM:
                    claims.remove(operation.named)
        assert planned.wanted == alive


def test_a_short_campaign_orphans_nobody() -> None:
    """Where kubelet's minute is too long to wait for, no pod is dropped while its node cannot hear of it."""
    for planned in rounds(5, operations=2000, pods=40, batch=25, orphans=False):
        if planned.fault in {Fault.KUBELET, Fault.REBOOT}:
            assert all(operation.verb is not Verb.DROP for operation in (*planned.before, *planned.during))
