"""The chapters.  Each acts as a user would, with the manifests of deploy/examples, and looks from outside.

Nothing here is staged: what CUDA and NVML show comes from programs in the pods, who holds how much comes from the simulated
driver's own accounting on the node, and the rest from kubectl.
"""

from collections.abc import Callable, Sequence

from hacklib.demo.telling import Telling
from hacklib.deployment import Card, Kubectl, KubeObject, Site, wait_until
from hacklib.paths import REPOSITORY
from hacklib.ui import HackError

__all__ = ["CHAPTERS"]

_EXAMPLES = REPOSITORY / "deploy" / "examples"
_GIB = 1 << 30
_LOOK = """
import pynvml
from cuda.bindings import driver as cuda
cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
free, total = cuda.cuMemGetInfo()[1:]
pynvml.nvmlInit()
memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0))
print(total, memory.total, memory.used)
"""


def slices(site: Site, tell: Telling) -> None:
    """What the nodes offer."""
    tell.chapter("Two nodes, one simulated A100 each: what the node plugins publish (kubectl get resourceslices)")
    found = sorted(site.slices(), key=lambda item: str(item["spec"]["nodeName"]))
    devices = [(item["spec"]["nodeName"], device) for item in found for device in item["spec"]["devices"]]
    for node, device in devices:
        capacity = ", ".join(f"{name} {value['value']}" for name, value in sorted(device["capacity"].items()))
        product = device["attributes"]["productName"]["string"]
        tell.show(f"{node}  {device['name']}  {product}  {capacity}")
    tell.holds(
        "each node publishes one GPU that many claims can share",
        seen=f"{len(devices)} devices in {len(found)} slices",
        ok=[node for node, _ in devices] == ["node-1", "node-2"]
        and all(device.get("allowMultipleAllocations") for _, device in devices),
    )


def two_pods(site: Site, tell: Telling) -> None:
    """Two shares of one card, and the limit of one."""
    tell.chapter("Two pods, each with memory: 16Gi and cores: 30, on one card (02-two-pods-one-card.yaml)")
    site.kubectl.apply(_EXAMPLES / "02-two-pods-one-card.yaml")
    for pod in ("steady", "greedy"):
        site.kubectl.wait_running(pod)
    cards = {pod: _allocated(site.kubectl, pod) for pod in ("steady", "greedy")}
    tell.holds(
        "both pods share one card",
        seen=f"{cards['steady']['pool']} {cards['steady']['device']}",
        ok=(cards["steady"]["pool"], cards["steady"]["device"]) == (cards["greedy"]["pool"], cards["greedy"]["device"]),
    )
    for pod in ("steady", "greedy"):
        cuda, nvml, _ = (int(word) for word in site.kubectl.python(pod, _LOOK).split())
        tell.holds(
            f"{pod} sees 16 GiB through CUDA and through NVML",
            seen=f"CUDA {cuda >> 30} GiB, NVML {nvml >> 30} GiB; the card has 80",
            ok=cuda == nvml == 16 * _GIB,
        )
    before = len(site.kubectl.logs("steady"))
    refused = site.kubectl.wait_line("greedy", "20 GiB: ")[-1]
    tell.show([f"greedy  | {refused}"])
    tell.holds(
        "an allocation beyond the share is refused", seen=refused, ok=refused.endswith("CUDA_ERROR_OUT_OF_MEMORY")
    )
    rounds = wait_until(
        lambda: after if len(after := site.kubectl.logs("steady")) > before + 1 else None,
        what="steady going on",
    )
    tell.show(f"steady  | {line}" for line in rounds[-2:])
    tell.holds(
        "the neighbour goes on meanwhile", seen=rounds[-1], ok=all("CUDA_SUCCESS" in line for line in rounds[before:])
    )


def four_processes(site: Site, tell: Telling) -> None:
    """One limit for all processes of a share."""
    tell.chapter("Four processes of one pod, held to 16 GiB together (08-four-processes.yaml)")
    site.kubectl.apply(_EXAMPLES / "08-four-processes.yaml")
    site.kubectl.wait_running("four-processes")
    lines = site.kubectl.wait_line("four-processes", "together ")
    tell.show(lines)
    tell.holds("four processes get 16 GiB together, not each", seen=lines[-1], ok=lines[-1] == "together 16 GiB")
    held = max(
        sum(process.used_bytes for process in card.processes)
        for card in _cards(site)
        if len(card.processes) >= 4  # noqa: PLR2004 - the four of this pod
    )
    tell.show(f"the simulated driver's own accounting on that card: {held / _GIB:.0f} GiB held by all processes")


def too_big(site: Site, tell: Telling) -> None:
    """What no card can hold is not started."""
    tell.chapter("A claim that no card can hold (09-too-big.yaml)")
    site.kubectl.apply(_EXAMPLES / "09-too-big.yaml")
    event = _event(site.kubectl, reason="FailedScheduling", name="too-big")
    tell.show(event["message"])
    phase = site.kubectl.get("pod", "too-big")["status"]["phase"]
    tell.holds("a claim too big for any card stays Pending", seen=phase, ok=phase == "Pending")


def killed(site: Site, tell: Telling) -> None:
    """Memory comes back with the death of its holder."""
    tell.chapter("A pod killed: its memory is free again")
    node, before = _holder(site, minimum=16 * _GIB)
    tell.show(f"node-{node}: {before / _GIB:.0f} GiB of its card are held")
    site.kubectl.delete("pod", "four-processes", now=True)
    after = wait_until(
        lambda: (
            str(used) if (used := sum(card.used_bytes for card in site.cards(node))) <= before - 16 * _GIB else None
        ),
        what="the killed pod's memory coming back",
    )
    tell.holds(
        "a killed pod's memory is free again",
        seen=f"from {before / _GIB:.0f} to {int(after) / _GIB:.0f} GiB",
        ok=int(after) <= before - 16 * _GIB,
    )


def bad_config(site: Site, tell: Telling) -> None:
    """What cannot work is refused in words."""
    tell.chapter("A GpuConfig with a typing error (10-bad-config.yaml)")
    site.kubectl.apply(_EXAMPLES / "10-bad-config.yaml")
    event = _event(site.kubectl, reason="InvalidConfig", kind="ResourceClaim")
    tell.show(f"{event['type']}  {event['reason']}  {event['message']}")
    tell.holds(
        "a bad GpuConfig is refused with a readable Event",
        seen="the Event names the claim, the entry and the field",
        ok="priorty: unknown field" in event["message"],
    )
    claim = _claim(site.kubectl, "bad-config")
    conditions = claim["status"]["devices"][0]["conditions"]
    resolved = next(held for held in conditions if held["type"] == "Resolved")
    tell.holds(
        "the claim's status says so too",
        seen=f"Resolved={resolved['status']} {resolved['reason']}",
        ok=(resolved["status"], resolved["reason"]) == ("False", "InvalidConfig"),
    )


def meaning(site: Site, tell: Telling) -> None:
    """A claim explains itself."""
    tell.chapter("What a claim means, read from its status (kubectl get resourceclaim -o yaml)")
    claim = wait_until(lambda: _ready(_claim(site.kubectl, "steady")), what="the claim of steady saying Ready")
    (entry,) = claim["status"]["devices"]
    tell.show(f"{name}: {value}" for name, value in entry["data"]["limits"].items())
    states = {held["type"]: held["status"] for held in entry["conditions"]}
    tell.holds(
        "the claim of steady is Resolved by the controller and Ready on its node",
        seen=", ".join(f"{name}={value}" for name, value in sorted(states.items())),
        ok=states == {"Ready": "True", "Resolved": "True"},
    )


CHAPTERS: Sequence[Callable[[Site, Telling], None]] = (
    slices, two_pods, meaning, four_processes, too_big, killed, bad_config,
)  # fmt: skip


def _claim(kubectl: Kubectl, pod: str) -> KubeObject:
    status = kubectl.get("pod", pod)["status"]
    name = status["resourceClaimStatuses"][0]["resourceClaimName"]
    return kubectl.get("resourceclaim", name)


def _allocated(kubectl: Kubectl, pod: str) -> KubeObject:
    result: KubeObject = _claim(kubectl, pod)["status"]["allocation"]["devices"]["results"][0]
    return result


def _ready(claim: KubeObject) -> KubeObject | None:
    conditions = [held for entry in claim["status"].get("devices", []) for held in entry.get("conditions", [])]
    return claim if {held["type"] for held in conditions} >= {"Ready", "Resolved"} else None


def _event(kubectl: Kubectl, *, reason: str, name: str | None = None, kind: str | None = None) -> KubeObject:
    def about(event: KubeObject) -> bool:
        involved = event["involvedObject"]
        return event["reason"] == reason and name in {None, involved["name"]} and kind in {None, involved["kind"]}

    return wait_until(lambda: next(iter(kubectl.events(about=about)), None), what=f"an Event {reason}")


def _cards(site: Site) -> list[Card]:
    return [card for node in (1, 2) for card in site.cards(node)]


def _holder(site: Site, *, minimum: int) -> tuple[int, int]:
    """The node whose cards hold most, and how much."""
    held = {node: sum(card.used_bytes for card in site.cards(node)) for node in (1, 2)}
    node = max(held, key=lambda index: held[index])
    if held[node] < minimum:
        raise HackError(f"no card holds {minimum} bytes: {held}")
    return node, held[node]
