"""Whatever is written, deleted, labelled and restarted: in force is the last good configuration since the last deletion."""

from dataclasses import dataclass
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from hami_dra._lib.threads import Group
from hami_dra.core.node_config import Remembered
from hami_dra.core.settings import CardSettings
from hami_dra.kube.events import EventRecorder
from hami_dra.node.config_metrics import ConfigMetrics
from hami_dra.node.configuration import NodeConfiguration
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.gpus import gpu, inventory

HEAD = "apiVersion: gpu.hami.io/v1alpha1\nkind: NodeConfig\nentries:\n"
BASE = CardSettings(slots=1000)


@dataclass(frozen=True)
class Good:
    """A configuration: so many slots on nodes of that pool."""

    slots: int
    pool: str

    @property
    def text(self) -> str:
        """As it is written."""
        return f"{HEAD}- nodeSelector: {{matchLabels: {{pool: {self.pool}}}}}\n  slots: {self.slots}\n"


@dataclass(frozen=True)
class Label:
    """The node joins a pool."""

    pool: str


Step = Good | Label | Literal["wrong", "delete", "restart"]
_POOLS = st.sampled_from(["a", "b"])
_STEPS = st.lists(
    st.builds(Good, slots=st.integers(1, 9), pool=_POOLS)
    | st.builds(Label, pool=_POOLS)
    | st.sampled_from(["wrong", "delete", "restart"]),
    max_size=20,
)


class Disk:
    """What outlives a process."""

    def __init__(self) -> None:
        self.kept: Remembered | None = None

    def load(self) -> Remembered | None:
        """What there is."""
        return self.kept

    def save(self, remembered: Remembered) -> None:
        """Keep it."""
        self.kept = remembered

    def forget(self) -> None:
        """Keep nothing."""
        self.kept = None


class Node:
    """One process after another, told of a ConfigMap and of labels as its reflectors would tell it."""

    def __init__(self) -> None:
        self._disk = Disk()
        self._text: str | None = None
        self._labels: dict[str, str] = {}
        self.start()

    def start(self) -> None:
        """A new process, told of what is there."""
        self._configuration = NodeConfiguration(
            key="k",
            base=BASE,
            memory=self._disk,
            events=EventRecorder(FakeApiServer(), component="test"),
            metrics=ConfigMetrics(CollectorRegistry()),
        )
        self._configuration.label(self._labels)
        if self._text is not None:
            self.write(self._text)
        with Group("start") as group:
            synced = group.event()
            synced.set()
            self._configuration.run(group, config_maps=synced, nodes=synced)

    def write(self, text: str | None) -> None:
        """Apply the ConfigMap, or delete it."""
        before, self._text = self._text, text
        if text is not None:
            self._configuration.take({"metadata": {}, "data": {"k": text}})
        elif before is not None:
            self._configuration.lose()

    def label(self, pool: str) -> None:
        """Label the node."""
        self._labels = {"pool": pool}
        self._configuration.label(self._labels)

    @property
    def slots(self) -> int:
        """Of its card."""
        card = self._configuration.settings(inventory()).settings_for(gpu())
        assert card is not None
        return card.slots


@given(_STEPS)
def test_the_last_good_configuration_is_in_force(steps: list[Step]) -> None:
    """Restarts change nothing, wrong ones change nothing, a deletion ends it; labels are those of now."""
    node = Node()
    good: Good | None = None
    pool = ""
    for step in steps:
        match step:
            case Good():
                good = step
                node.write(step.text)
            case Label():
                pool = step.pool
                node.label(pool)
            case "wrong":
                node.write(HEAD + "- slots: many\n")
            case "delete":
                good = None
                node.write(None)
            case "restart":
                node.start()
        assert node.slots == (good.slots if good is not None and good.pool == pool else BASE.slots)
