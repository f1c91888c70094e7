"""In which container a share is used, as metrics name it."""

from hami_dra.core.ids import ClaimUid, ShareKey
from hami_dra.node.containers import Containers
from hami_dra.testing.clock import FakeClock

SHARE = (ClaimUid("uid-1"), ShareKey("gpu-s1"))


class Node:
    """Who uses the share now, and how often somebody looked."""

    def __init__(self) -> None:
        self.now: dict[tuple[ClaimUid, ShareKey], set[str]] = {}
        self.looks = 0
        self.clock = FakeClock()
        self.containers = Containers(self.look, clock=self.clock)

    def look(self) -> dict[tuple[ClaimUid, ShareKey], set[str]]:
        """As the test says."""
        self.looks += 1
        return dict(self.now)

    def name(self, *containers: str) -> str:
        """What the share's container is called a while after these use it."""
        self.now = {SHARE: set(containers)} if containers else {}
        self.clock.advance(10.0)
        return self.containers.name(*SHARE)


def test_one_container_is_named_and_several_are_not() -> None:
    """The figures of a share are of all who ever used it: an init container that has ended counts."""
    node = Node()
    assert node.name() == ""
    assert node.name("init") == "init"
    assert node.name() == "init"
    assert node.name("main") == ""
    assert node.name("main") == ""


def test_processes_are_not_looked_at_for_each_share() -> None:
    """Once for all shares, and not again within ten seconds."""
    node = Node()
    assert node.name("main") == "main"
    for number in range(5):
        assert node.containers.name(ClaimUid(f"uid-{number}"), ShareKey("x")) == ""
    assert node.looks == 1


def test_shares_that_nobody_asks_about_are_forgotten() -> None:
    """A share that is gone from the metrics is not remembered for ever."""
    node = Node()
    assert node.name("main") == "main"
    for _ in range(2):
        node.now = {}
        node.clock.advance(10.0)
        node.containers.name(ClaimUid("another"), ShareKey("x"))
    assert node.name() == ""
