"""One share, many processes: never a byte too much, and everything back from whoever is gone."""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, Share, make_share, wait_until

LIMIT = 64 << 20
STUB_UUID = "GPU-11111111-1111-1111-1111-111111111111"

pytestmark = pytest.mark.native


@pytest.fixture
def share(node: Node, tmp_path: Path) -> Share:
    """A share of the only card."""
    return make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)


@pytest.fixture
def container(node: Node, programs: Programs, share: Share) -> Container:
    """A container with that share."""
    return Container(programs=programs, driver=node.environment, shares=[share.directory])


def test_four_processes_are_held_to_one_limit_together(container: Container, share: Share) -> None:
    """What one process holds, the others cannot have, and each sees what is left."""
    with ExitStack() as stack:
        clients = [stack.enter_context(container.client()).start() for _ in range(4)]
        for client in clients:
            assert client.allocate(LIMIT // 4) == 0
        for client in clients:
            assert client.allocate(1) == OUT_OF_MEMORY
            assert client.view() == (0, LIMIT, LIMIT)
        assert clients[0].ask("free 0") == ["0"]
        assert clients[3].allocate(LIMIT // 4) == 0
        assert share.used_bytes == LIMIT


def test_memory_of_a_killed_process_is_back_at_once(container: Container, share: Share) -> None:
    """After SIGKILL the next allocation of the whole limit succeeds, and the view says so before."""
    with container.client() as victim, container.client() as survivor:
        assert victim.start().allocate(LIMIT) == 0
        survivor.start()
        assert survivor.allocate(LIMIT) == OUT_OF_MEMORY
        victim.kill()
        assert survivor.view()[0] == LIMIT
        assert survivor.allocate(LIMIT) == 0
        assert share.used_bytes == LIMIT


def test_memory_of_a_process_that_just_ends_is_back(container: Container) -> None:
    """A process that ends without freeing anything leaves nothing charged."""
    with container.client() as first, container.client() as second:
        assert first.start().allocate(LIMIT) == 0
        first.quit()
        assert second.start().allocate(LIMIT) == 0


def test_processes_that_come_and_go_never_free_what_lives(container: Container) -> None:
    """Starting and ending processes in any order leaves a living process's charge where it is (a field bug of others)."""
    with container.client() as holder:
        assert holder.start().allocate(LIMIT // 2) == 0
        for _ in range(3):
            with container.client() as passing, container.client() as killed:
                assert passing.start().allocate(LIMIT // 2) == 0
                assert killed.start().allocate(1) == OUT_OF_MEMORY
                killed.kill()
                passing.quit()
        with container.client() as last:
            assert last.start().allocate(LIMIT // 2 + 1) == OUT_OF_MEMORY
            assert last.allocate(LIMIT // 2) == 0


def test_a_forked_child_owns_nothing_and_starts_afresh(
    stub_container: Callable[..., Container], tmp_path: Path
) -> None:
    """The child has a slot of its own; its end gives back its memory and leaves the parent's alone."""
    share = make_share(tmp_path, "s", uuid=STUB_UUID, memory_bytes=1000)
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.allocate(400) == 0
        assert client.ask("fork") == ["0"]
        assert client.allocate(601) == OUT_OF_MEMORY
        assert client.allocate(600) == 0
        assert client.view()[:2] == (0, 1000)
        client.tell("quit")
        assert client.view()[:2] == (600, 1000)
        assert client.allocate(600) == 0
        assert client.ask("free 0") == ["0"]
        assert client.ask("free 1") == ["0"]
        assert share.used_bytes == 0


def test_a_child_that_was_forked_before_the_first_allocation_is_limited_too(container: Container) -> None:
    """The driver refuses CUDA in a child of a process that used it, not in a child of one that only loaded it."""
    with container.client() as client:
        assert client.ask("open") == ["1"]
        assert client.ask("fork") == ["0"]
        assert client.ask("init 0") == ["0"]
        assert client.allocate(LIMIT + 1) == OUT_OF_MEMORY
        assert client.allocate(LIMIT) == 0
        client.tell("quit")
        assert client.ask("init 0") == ["0"]
        assert client.allocate(LIMIT) == 0


def test_a_program_that_closes_our_descriptor_keeps_its_charge(
    stub_container: Callable[..., Container], tmp_path: Path
) -> None:
    """Closing every descriptor drops the record lock of the slot; the process takes a new slot with what it holds."""
    share = make_share(tmp_path, "s", uuid=STUB_UUID, memory_bytes=1000)
    container = stub_container(shares=[share.directory])
    with container.client() as closer, container.client() as other:
        closer.start()
        assert closer.allocate(500) == 0
        assert closer.ask("close-all") == ["0"]
        assert closer.allocate(250) == 0
        other.start()
        assert other.allocate(251) == OUT_OF_MEMORY
        assert other.allocate(250) == 0
        assert closer.view()[0] == other.view()[0] == 0


def test_unknown_pointers_go_to_the_driver(container: Container, share: Share) -> None:
    """Nobody is refunded for a pointer that was never charged, and the driver's own answer comes back."""
    with container.client() as client:
        client.start()
        assert client.allocate(1000) == 0
        assert client.ask("free-raw 0x123456") == ["1"]
        assert client.ask("free-raw 0") == ["0"]
        assert share.used_bytes == 1000
        assert client.ask("free 0") == ["0"]
        assert client.ask("free 0") == ["1"]
        assert share.used_bytes == 0


def test_a_refusal_of_the_driver_costs_nothing(node: Node, programs: Programs, tmp_path: Path) -> None:
    """When the card itself is full, the driver's answer comes back and the charge is cancelled."""
    share = make_share(tmp_path, "wide", uuid=node.cards()[0].uuid, memory_bytes=1 << 50)
    with Container(programs=programs, driver=node.environment, shares=[share.directory]).client() as client:
        client.start()
        assert client.allocate(1 << 49) == OUT_OF_MEMORY
        assert share.used_bytes == 0
        assert share.peak_bytes == 1 << 49


def test_limits_may_change_while_programs_run(container: Container, node: Node, share: Share) -> None:
    """A lowered limit refuses new allocations and takes nothing away; a raised one is there for the next allocation."""
    uuid = node.cards()[0].uuid
    with container.client() as client:
        assert client.start().allocate(LIMIT) == 0
        share.set_limit(uuid=uuid, memory_bytes=LIMIT // 2, generation=2)
        assert client.allocate(1) == OUT_OF_MEMORY
        assert client.view() == (0, LIMIT // 2, LIMIT // 2)
        share.set_limit(uuid=uuid, memory_bytes=2 * LIMIT, generation=3)
        assert client.allocate(LIMIT) == 0
        assert client.view() == (0, 2 * LIMIT, 2 * LIMIT)


def test_sixteen_processes_and_kill_9_of_half_of_them(container: Container, node: Node, share: Share) -> None:
    """The card never held more than the limit, by the card's own books, and ends empty by both books."""
    processes = [
        subprocess.Popen(
            container.command(container.programs.hammer, str(seed), "0" if seed % 2 else "4000", str(LIMIT // 12)),
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(16)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes[1::2]:
            assert node.cards()[0].used_bytes <= LIMIT
            process.kill()
        while any(process.poll() is None for process in processes):
            assert node.cards()[0].used_bytes <= LIMIT
        assert [process.returncode for process in processes[0::2]] == [0] * 8
        assert share.peak_bytes <= LIMIT
        assert share.refused_total > 0
        wait_until(lambda: node.cards()[0].used_bytes == 0, what="every process is gone")
        with container.client() as last:
            assert last.start().allocate(LIMIT) == 0
            assert share.used_bytes == LIMIT
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_sixty_four_short_processes_at_once_all_finish(container: Container, share: Share) -> None:
    """Starting many processes together takes slots and locks without a hang (a field bug of others)."""
    processes = [
        subprocess.Popen(container.command(container.programs.hammer, str(seed), "20", "1000"), stdout=subprocess.PIPE)
        for seed in range(64)
    ]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert share.used_bytes == 0


def test_threads_of_one_process_share_its_slot(container: Container, node: Node, share: Share) -> None:
    """Eight threads allocate and free at once; nothing is lost and nothing is too much."""
    granted, refused = container.run(container.programs.hammer, "7", "4000", str(LIMIT // 8), "8").split()[-2:]
    assert int(granted) > 0
    assert int(refused) > 0
    assert node.cards()[0].peak_bytes <= LIMIT
    assert share.used_bytes == 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 1200)), max_size=40))
def test_the_books_agree_after_any_sequence(
    stub_container: Callable[..., Container],
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, int, int]],
) -> None:
    """For three processes that allocate, free and are killed in any order, the counter is the sum of what the living hold."""
    root = tmp_path_factory.mktemp("books")
    share = make_share(root, "s", uuid=STUB_UUID, memory_bytes=2000)
    with ExitStack() as stack:
        container = stub_container(shares=[share.directory])
        clients = [stack.enter_context(container.client()).start() for _ in range(3)]
        held: list[dict[int, int]] = [{}, {}, {}]
        for who, what, size in steps:
            if what == 0 and held[who]:
                index, _ = held[who].popitem()
                assert clients[who].ask(f"free {index}") == ["0"]
            elif what == 1 and size > 1100:
                clients[who].kill()
                clients[who] = stack.enter_context(container.client()).start()
                held[who] = {}
            else:
                result, piece, _ = clients[who].ask(f"alloc sync {size}")
                total = sum(sum(pieces.values()) for pieces in held)
                assert (result == "0") == (total + size <= 2000)
                if result == "0":
                    held[who][int(piece)] = size
        total = sum(sum(pieces.values()) for pieces in held)
        assert clients[0].view()[0] == 2000 - total
