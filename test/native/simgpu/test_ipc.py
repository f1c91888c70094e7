"""Memory that processes share is truly shared, counts once, and lives as long as the last of them that holds it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from native.simgpu.node import MIB, Node, wait_until

from hacklib.native import Preset

ROUTES = ["ipc", "vmm", "external", "pool"]


@pytest.mark.parametrize("route", ROUTES)
def test_two_processes_share_memory(node: Node, route: str) -> None:
    """Each sees what the other writes; the card holds it once, until both have let go or died."""
    done = node.share(route)
    assert (done.status, done.err) == (0, "")
    assert node.used() == 0


@pytest.mark.parametrize("preset", ["asan", "tsan"])
def test_sharing_is_clean_under_sanitizers(
    make_node: Callable[..., Node], sanitized: Callable[[Preset], Path], preset: Preset
) -> None:
    """No report from AddressSanitizer, UBSan or TSan."""
    node = make_node("--model", "A100", build=sanitized(preset))
    assert [(node.share(route).status, node.share(route).err) for route in ROUTES] == [(0, "")] * len(ROUTES)


def test_shared_memory_passes_from_its_owner_to_who_is_left(node: Node) -> None:
    """NVML and simctl put it down to the exporter while that lives, then to the process that opened it."""
    command = [str(node.build / "share"), "hand-over"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=node.environment()
    ) as pair:
        assert pair.stdin is not None
        assert pair.stdout is not None
        exporter, importer = map(int, pair.stdout.readline().split())
        (card, _) = node.cards()
        assert card["used_bytes"] == 4 * MIB
        assert {process["pid"]: process["used_bytes"] for process in card["processes"]} == {
            exporter: 4 * MIB,
            importer: 0,
        }
        pair.stdin.write("kill\n")
        pair.stdin.flush()
        wait_until(lambda: len(node.cards()[0]["processes"]) == 1, what="the exporter gone")
        (card, _) = node.cards()
        assert card["used_bytes"] == 4 * MIB
        assert [(process["pid"], process["used_bytes"]) for process in card["processes"]] == [(importer, 4 * MIB)]
        pair.communicate("end\n")
    assert pair.returncode == 0
    assert node.used() == 0
