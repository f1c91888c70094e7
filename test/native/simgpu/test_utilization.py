"""NVML tells how busy a card and its processes were: in whole percents, and only of sampling periods that are over."""

import json
import subprocess
from typing import Any

from native.simgpu.node import Node, wait_until

MS = 1_000_000
UNSIGNED_INT = 1


def ask(client: subprocess.Popen[str]) -> dict[str, Any]:
    """What the client sees now."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("\n")
    client.stdin.flush()
    answer: dict[str, Any] = json.loads(client.stdout.readline())
    return answer


def test_two_processes_share_the_utilisation(node: Node) -> None:
    """Processes that want all of a card are at about half of it each, and the card is busy all the time."""
    with node.running_client("nvml_utilization") as client, node.working("saturate", str(MS)) as first:
        with node.working("saturate", str(3 * MS)) as second:
            both = {str(first.pid), str(second.pid)}

            def settled() -> bool:
                answer = ask(client)
                shares = answer["processes"]
                return (
                    set(shares) == both and all(40 <= share <= 60 for share in shares.values()) and answer["gpu"] > 90
                )

            wait_until(settled, what="two halves of a busy card")
        wait_until(lambda: ask(client)["processes"].get(str(first.pid), 0) >= 95, what="a process that has all")
        assert str(second.pid) not in ask(client)["processes"]


def test_an_idle_card_has_samples_but_no_process(node: Node) -> None:
    """Where nothing runs the card's samples are zeros, and no process has one."""
    with node.holding(1), node.running_client("nvml_utilization") as client:
        answer = ask(client)
    assert (answer["gpu"], answer["processes"], answer["kind"]) == (0, {}, UNSIGNED_INT)
    assert set(answer["samples"]) == {0}


def test_a_period_counts_once_it_is_over(node: Node) -> None:
    """A kernel of 50 ms is seen after its period's end as its share of a sixth of a second, in one period or split over two."""
    with node.running_client("nvml_utilization") as client:
        assert node.run([node.build / "workload", "finish", str(50 * MS), "1"]).status == 0
        wait_until(lambda: 28 <= sum(ask(client)["samples"]) <= 30, what="50 ms of 166.7")
