"""Every file of deploy/examples is applied as a user would, and does what its comment promises."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from e2e.support import EXAMPLES, GIB, NodeFiles, Tenant, eventually

from hacklib.deployment import Card, Site, wait_until
from hacklib.versions import Capability

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def _used(site: Site) -> list[Card]:
    """The cards that somebody uses."""
    return [card for node in (1, 2) for card in site.cards(node) if card.used_bytes]


def _sizes(lines: Sequence[str]) -> dict[str, str]:
    """`address: N MiB` lines as a mapping."""
    return dict(line.split(": ", 1) for line in lines if line.endswith(" MiB") and ":" in line)


def test_no_example_is_forgotten() -> None:
    """Whoever adds a file adds a test, here or where the cluster is one that it needs."""
    sources = (path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    tested = [number for source in sources for number in re.findall(r"^def test_example_(\d\d)_", source, re.MULTILINE)]
    assert sorted(path.name[:2] for path in EXAMPLES.glob("*.yaml")) == sorted(tested)


@pytest.mark.needs(Capability.SHARES)
def test_example_01_one_share(site: Site, tenant: Tenant) -> None:
    """CUDA and NVML see 16 GiB; what fits is given, what does not is refused; the card agrees."""
    tenant.example("01-one-share")
    lines = tenant.kubectl.wait_line("one-share", "10 GiB: CUDA_ERROR")
    assert lines == [
        "CUDA sees 16384 MiB",
        "NVML sees 16384 MiB",
        "10 GiB: CUDA_SUCCESS",
        "10 GiB: CUDA_ERROR_OUT_OF_MEMORY",
    ]
    (card,) = _used(site)
    assert 10 * GIB <= card.used_bytes < 16 * GIB
    assert len(card.processes) == 1


@pytest.mark.older
@pytest.mark.needs(Capability.SHARES)
def test_example_02_two_pods_on_one_card(site: Site, tenant: Tenant) -> None:
    """The greedy pod is refused beyond its share, while its neighbour on the same card goes on."""
    tenant.example("02-two-pods-one-card")
    greedy = tenant.kubectl.wait_line("greedy", "20 GiB")
    steady = tenant.kubectl.wait_line("steady", "round 1:")
    assert greedy[0] == steady[0] == "CUDA sees 16384 MiB"
    assert greedy[1] == steady[1]
    assert greedy[2] == "20 GiB: CUDA_ERROR_OUT_OF_MEMORY"
    rounds = len(steady) - 2
    after = tenant.kubectl.wait_line("steady", f"round {rounds + 2}:")
    assert {line.split(": ")[1] for line in after[2:]} == {"CUDA_SUCCESS"}
    (card,) = _used(site)
    assert {process.command for process in card.processes} == {"python3"}


@pytest.mark.needs(Capability.SHARES)
def test_example_03_two_containers_share_one_claim(site: Site, tenant: Tenant) -> None:
    """The second container gets what the first one left of their common quota."""
    tenant.example("03-two-containers-one-claim")
    second = tenant.kubectl.wait_line("two-containers", "4 GiB", "--container=second")
    first = tenant.kubectl.logs("two-containers", "--container=first")
    assert first == ["CUDA sees 16384 MiB", "10 GiB: CUDA_SUCCESS"]
    assert second == ["CUDA sees 16384 MiB", "10 GiB: CUDA_ERROR_OUT_OF_MEMORY", "4 GiB: CUDA_SUCCESS"]
    (card,) = _used(site)
    assert 14 * GIB <= card.used_bytes <= 16 * GIB


@pytest.mark.needs(Capability.SHARES)
def test_example_04_two_cards_with_different_limits(tenant: Tenant) -> None:
    """Each container sees the cards of its requests, by address, with the limit of each."""
    tenant.example("04-two-cards")
    tenant.kubectl.wait_running("two-cards")
    claim = tenant.claim_of("two-cards", name="gpus")
    device = {result["request"]: result["device"] for result in claim["status"]["allocation"]["devices"]["results"]}
    address = {
        request: re.sub(r"^gpu-(\w+)-(\w+)-(\w+)-(\w)$", r"\1:\2:\3.\4", name) for request, name in device.items()
    }
    assert address["large"] != address["small"]
    expected = {
        "large": {address["large"]: "24576 MiB"},
        "small": {address["small"]: "8192 MiB"},
        "both": {address["large"]: "24576 MiB", address["small"]: "8192 MiB"},
    }
    for container, sizes in expected.items():

        def shown(container: str = container, sizes: dict[str, str] = sizes) -> bool:
            return _sizes(tenant.kubectl.logs("two-cards", f"--container={container}")) == sizes

        eventually(
            shown, what=f"{container} sees {sizes}", detail=lambda: tenant.kubectl.logs("two-cards", "--all-containers")
        )


@pytest.mark.needs(Capability.SHARES)
def test_example_05_whole_card(site: Site, tenant: Tenant) -> None:
    """A request without sizes takes all of a card's memory."""
    tenant.example("05-whole-card")
    lines = tenant.kubectl.wait_line("whole-card", "CUDA sees")
    claim = tenant.claim_of("whole-card")
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    node = int(result["pool"].removeprefix("node-").removesuffix("/gpu"))
    card = next(card for card in site.cards(node) if card.device == result["device"])
    assert lines == [f"CUDA sees {card.memory_bytes >> 20} MiB"]


@pytest.mark.needs(Capability.SHARES)
def test_example_06_gpu_config(tenant: Tenant) -> None:
    """The claim's status says what its configuration means."""
    tenant.example("06-gpu-config")
    assert tenant.kubectl.wait_line("burst-share", "CUDA sees") == ["CUDA sees 16384 MiB"]
    assert tenant.wait_condition("burst-share", "Resolved")["status"] == "True"
    claim = tenant.claim_of("burst-share")
    limits = claim["status"]["devices"][0]["data"]["limits"]
    assert limits == {"memory": "16Gi", "cores": 30, "isolation": "Guard", "qos": "BurstShare", "priority": "High"}


@pytest.mark.needs(Capability.SHARES, Capability.ALTERNATIVES)
def test_example_07_first_available(tenant: Tenant) -> None:
    """No card here has 160 GiB, so the smaller alternative is taken, and enforced."""
    tenant.example("07-first-available")
    assert tenant.kubectl.wait_line("first-available", "CUDA sees") == ["CUDA sees 24576 MiB"]
    (result,) = tenant.claim_of("first-available")["status"]["allocation"]["devices"]["results"]
    assert result["request"] == "gpu/small"


@pytest.mark.needs(Capability.SHARES)
def test_example_08_four_processes_one_limit(site: Site, tenant: Tenant) -> None:
    """Four processes that take all they can get hold 16 GiB together, and never held more."""
    tenant.example("08-four-processes")
    lines = tenant.kubectl.wait_line("four-processes", "together")
    assert lines[-1] == "together 16 GiB"
    assert all(line.endswith("then CUDA_ERROR_OUT_OF_MEMORY") for line in lines[:4])
    (card,) = _used(site)
    assert card.used_bytes <= 16 * GIB
    assert len(card.processes) == 4


@pytest.mark.needs(Capability.SHARES)
def test_example_09_too_big_stays_pending(tenant: Tenant) -> None:
    """A share that no card can hold is not allocated, and the scheduler says so."""
    tenant.example("09-too-big")
    wait_until(lambda: tenant.events_of("too-big", reason="FailedScheduling"), what="FailedScheduling")
    assert tenant.kubectl.get("pod", "too-big")["status"]["phase"] == "Pending"
    assert "allocation" not in tenant.claim_of("too-big").get("status", {})


def test_example_10_bad_config_is_refused_in_words(tenant: Tenant) -> None:
    """The claim says which field is wrong, as an Event and as a condition; nothing is prepared for it."""
    tenant.example("10-bad-config")
    events = wait_until(lambda: tenant.events_of("bad-config", reason="InvalidConfig"), what="Event InvalidConfig")
    assert "priorty: unknown field" in events[-1]["message"]
    resolved = tenant.wait_condition("bad-config", "Resolved")
    assert (resolved["status"], resolved["reason"]) == ("False", "InvalidConfig")
    assert "priorty" in resolved["message"]
    wait_until(
        lambda: tenant.kubectl.events(about=lambda event: "FailedPrepare" in event["reason"]), what="FailedPrepare"
    )
    node = int(tenant.kubectl.get("pod", "bad-config")["spec"]["nodeName"].removeprefix("node-"))
    assert (
        tenant.claim_of("bad-config")["metadata"]["uid"] not in NodeFiles(tenant.site, node=node).prepared().everything
    )


@pytest.mark.needs(Capability.SHARES)
def test_example_11_oversubscription(tenant: Tenant) -> None:
    """What does not fit into the share becomes managed memory, as far as the claim allows; the status says how far."""
    tenant.example("11-oversubscription")
    assert tenant.kubectl.wait_line("oversubscription", "4 GiB: CUDA_ERROR") == [
        "10 GiB: CUDA_SUCCESS",
        "8 GiB: CUDA_SUCCESS",
        "4 GiB: CUDA_SUCCESS",
        "4 GiB: CUDA_ERROR_OUT_OF_MEMORY",
    ]
    assert tenant.wait_condition("oversubscription", "Resolved")["status"] == "True"
    limits = tenant.claim_of("oversubscription")["status"]["devices"][0]["data"]["limits"]
    assert (limits["memory"], limits["oversubscription"]) == ("16Gi", "8Gi")
