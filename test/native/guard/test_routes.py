"""Every way to a driver function leads through the guard, and only to what the guard stands for."""

from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, make_share

POOL_UNIT = 2 << 20
"""What pools of the simulated card reserve memory in."""
ROUTES = ("dlsym", "deepbind", "default", "next", "address", "address_v2")
KINDS = ("sync", "managed", "pitched", "async", "async_ptsz", "pool", "pool_ptsz", "old", "create", "array")
STUB_UUID = "GPU-11111111-1111-1111-1111-111111111111"
LIMIT = 1 << 20

pytestmark = pytest.mark.native
MakeContainer = Callable[..., Container]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ROUTES)
def test_an_allocation_above_the_limit_is_refused_by_every_route(
    route: str, kind: str, stub_container: MakeContainer, tmp_path: Path
) -> None:
    """Too much is CUDA_ERROR_OUT_OF_MEMORY without a call of the driver, what fits is given, and its free gives it back."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, memory_bytes=LIMIT)
    with stub_container(shares=[share.directory]).client(route) as client:
        client.start()
        assert client.ask(f"alloc {kind} {LIMIT + 1}") == ["2", "-1", "errno-kept"]
        assert client.ask("held 0") == ["0"]
        assert client.ask(f"alloc {kind} {LIMIT}") == ["0", "0", "errno-kept"]
        assert share.used_bytes == LIMIT == int(client.ask("held 0")[0])
        assert client.allocate(1, kind=kind) == OUT_OF_MEMORY
        assert client.ask("free 0") == ["0"]
        assert share.used_bytes == 0 == int(client.ask("held 0")[0])
        assert client.allocate(LIMIT, kind=kind) == 0


@pytest.mark.parametrize("route", [*ROUTES, "linked"])
def test_a_simulated_card_is_limited_by_every_route(route: str, node: Node, programs: Programs, tmp_path: Path) -> None:
    """Programs bound by the linker, by dlopen and by both ABIs of cuGetProcAddress are refused alike."""
    limit = 4 * POOL_UNIT
    card = node.cards()[0]
    share = make_share(tmp_path, "share", uuid=card.uuid, memory_bytes=limit)
    container = Container(programs=programs, driver=node.environment, shares=[share.directory])
    with container.client(route) as client:
        client.start()
        for kind in ("sync", "managed", "pitched", "async", "async_ptsz", "pool", "pool_ptsz"):
            assert client.allocate(limit + 512, kind=kind) == OUT_OF_MEMORY
        assert client.allocate(limit // 2) == 0
        assert client.allocate(limit // 2, kind="async") == 0
        assert client.allocate(1) == OUT_OF_MEMORY
        assert share.used_bytes == limit == node.cards()[0].used_bytes


@pytest.mark.parametrize("route", ["address", "address_v2"])
def test_a_driver_that_answers_with_unexported_addresses_is_hooked_by_name(
    route: str, stub_container: MakeContainer, tmp_path: Path
) -> None:
    """Where cuGetProcAddress returns an address that the library does not export, name and version decide."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, memory_bytes=LIMIT)
    container = stub_container(shares=[share.directory], environment={"STUB_PRIVATE": "1"})
    with container.client(route) as client:
        client.start()
        assert client.allocate(LIMIT + 1) == OUT_OF_MEMORY


def test_names_that_the_guard_exports_do_not_exist_without_a_driver(stub_container: MakeContainer) -> None:
    """A program that probes for CUDA by dlsym(RTLD_DEFAULT) finds none where there is none."""
    with stub_container().client("default") as client:
        assert client.ask("has cuMemAlloc_v2") == ["0"]
        assert client.ask("has nvmlDeviceGetMemoryInfo") == ["0"]
        assert client.ask("has malloc") == ["1"]


@pytest.mark.parametrize("route", ROUTES)
def test_names_without_a_hook_reach_the_driver(route: str, stub_container: MakeContainer) -> None:
    """What the guard does not know is looked up as if it were not there; what nobody has is not found."""
    with stub_container().client(route) as client:
        client.start()
        assert client.ask("has cuInit") == ["1"]
        assert client.ask("has cuNoSuchThing") == ["0"]


@pytest.mark.parametrize("route", ROUTES)
def test_without_shares_nothing_is_limited(route: str, stub_container: MakeContainer) -> None:
    """A container without a share directory has the whole card, as if there were no guard."""
    with stub_container().client(route) as client:
        client.start()
        assert client.allocate(1 << 29) == 0
        assert client.view() == ((1 << 30) - (1 << 29), 1 << 30, 1 << 30)


def test_a_drivers_own_calls_are_charged_once(stub_container: MakeContainer, tmp_path: Path) -> None:
    """The stub's cuMemAlloc calls its cuMemAlloc_v2 through the exported name, hence through the guard a second time."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, memory_bytes=LIMIT)
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.allocate(1000, kind="old") == 0
        assert share.used_bytes == 1000


def test_physical_memory_is_charged_until_its_last_mapping_goes(stub_container: MakeContainer, tmp_path: Path) -> None:
    """Releasing a handle that is mapped gives nothing back: create, map, release must not escape the limit."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, memory_bytes=LIMIT)
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.allocate(LIMIT, kind="create") == 0
        assert client.ask("map 0 0") == ["0"]
        assert client.ask(f"map 0 {1 << 20}") == ["0"]
        assert client.ask("free 0") == ["0"]
        assert client.allocate(1) == OUT_OF_MEMORY
        assert client.ask(f"unmap 0 {1 << 20}") == ["0"]
        assert share.used_bytes == LIMIT
        assert client.ask(f"unmap {1 << 20} {1 << 20}") == ["0"]
        assert share.used_bytes == 0 == int(client.ask("held 0")[0])


@pytest.mark.parametrize("kind", ["sync", "async", "pool", "array"])
@pytest.mark.parametrize("end", ["reset", "release"])
def test_the_end_of_the_primary_context_gives_its_memory_back(
    end: str, kind: str, stub_container: MakeContainer, tmp_path: Path
) -> None:
    """Both cuDevicePrimaryCtxReset and the last release free what was allocated in the context, and its charge."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, memory_bytes=LIMIT)
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.allocate(LIMIT, kind=kind) == 0
        assert client.ask(end) == ["0"]
        assert share.used_bytes == 0 == int(client.ask("held 0")[0])
