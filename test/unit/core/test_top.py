"""What `hami-dra top` shows."""

from hami_dra.core.top import NodeView, Sample, read_node, table

GIB = 1 << 30
SHARE = {"namespace": "ml", "pod": "train-0", "claim": "train-gpu", "request": "gpu", "device": "gpu-0", "share": "s1"}


def _sample(name: str, value: float, /, **labels: str) -> Sample:
    return Sample(name=f"hami_dra_{name}", labels=labels, value=value)


def _card(**values: float) -> list[Sample]:
    return [_sample(f"device_{name}", value, device="gpu-0") for name, value in values.items()]


def _share(**values: float) -> list[Sample]:
    return [_sample(f"share_{name}", value, **SHARE) for name, value in values.items()]


def _look(*samples: Sample, at_s: float = 0.0) -> NodeView:
    return read_node("node-1", samples, at_s=at_s)


def test_a_card_shows_what_is_used_and_promised() -> None:
    """With a bar of tenths."""
    view = _look(
        *_card(memory_bytes=80 * GIB, memory_used_bytes=40 * GIB, memory_allocated_bytes=60 * GIB),
        *_card(cores_allocated_percent=70, shares=3, healthy=1),
    )
    assert table([], [view]) == [
        "node-1: 1 card, 0 shares",
        "  CARD   MEMORY USED                    PROMISED  CORES  SHARES  HEALTH",
        "  gpu-0  █████░░░░░   40.0 of 80.0 GiB  60.0 GiB  70 %   3       healthy",
    ]


def test_a_share_shows_what_it_computed_between_two_looks() -> None:
    """Of what it was promised, and for how much of the time it was held back."""
    figures = {"memory_bytes": 10.0 * GIB, "memory_used_bytes": 1.0 * GIB, "cores_percent": 30.0, "processes": 2.0}
    before = _look(*_share(**figures, gpu_seconds_total=5.0, throttled_seconds_total=1.0), at_s=10.0)
    now = _look(*_share(**figures, gpu_seconds_total=5.6, throttled_seconds_total=2.0), at_s=12.0)
    assert table([before], [now])[1:] == [
        "  SHARE           CARD   MEMORY USED                   COMPUTE                   HELD BACK  PROCESSES",
        "  ml/train-0 gpu  gpu-0  █░░░░░░░░░   1.0 of 10.0 GiB  ██████████  30 % of 30 %  50 %       2",
    ]


def test_nothing_is_said_that_is_not_known() -> None:
    """A first look has no rates, a counter that began anew has none, a plugin of another release may lack figures."""
    first = _look(*_share(gpu_seconds_total=5.0), at_s=1.0)
    again = _look(*_share(gpu_seconds_total=1.0), at_s=2.0)
    for before in ([], [first]):
        row = table(before, [again])[-1]
        assert row.count("%") == 0
        assert " - " in row
    assert "-" in table([], [_look(*_card(shares=1))])[-1]


def test_shares_without_a_pod_go_by_their_claim() -> None:
    """As long as nobody knows which pod uses it."""
    samples = [_sample("share_memory_bytes", GIB, **(SHARE | {"pod": ""}))]
    assert "ml/train-gpu gpu" in table([], [_look(*samples)])[-1]


def test_faults_and_offenders_are_named() -> None:
    """Beside their figures; what is over is not."""
    view = _look(
        *_card(healthy=0),
        _sample("device_fault", 1, device="gpu-0", key="gpu.hami.io/xid", value="79"),
        _sample("device_fault", 0, device="gpu-0", key="gpu.hami.io/ecc", value="1"),
        *_share(memory_bytes=GIB),
        _sample("share_above_limit", 1, **SHARE, limit="memory"),
        _sample("share_above_limit", 0, **SHARE, limit="cores"),
    )
    lines = table([], [view])
    assert lines[2].endswith("not healthy, gpu.hami.io/xid=79")
    assert lines[-1].endswith("above its memory")


def test_nodes_come_in_order_and_the_silent_say_why() -> None:
    """Metrics of the plugin itself are not shown."""
    silent = NodeView(node="node-2", at_s=0.0, problem="its node plugin does not answer")
    odd = _look(
        Sample(name="process_cpu_seconds_total", labels={}, value=1), _sample("share_memory_bytes", 1, claim="c")
    )
    assert table([], [silent, odd]) == [
        "node-1: 0 cards, 0 shares",
        "",
        "node-2: its node plugin does not answer",
    ]
    assert table([], []) == ["no node plugin was found"]
