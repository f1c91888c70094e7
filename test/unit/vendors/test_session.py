"""The session with NVML: shared by threads, closed by one of them."""

import threading

from unit.vendors.test_discover import FakeNvml

from hami_dra.core.errors import DriverError
from hami_dra.testing.eventually import eventually
from hami_dra.vendors.nvidia.session import Session


def test_a_session_is_opened_once_and_closed_once() -> None:
    """Everybody uses the same one; after its end the next who needs one opens another, and nobody joins what is not open."""
    nvml = FakeNvml([])
    session = Session(lambda: nvml)
    session.close()
    with session.joined() as joined:
        assert joined is None
    with session.opened() as first, session.opened() as second, session.joined() as third:
        assert first is second is third is nvml
    session.close()
    assert nvml.closed == 1
    with session.joined() as joined:
        assert joined is None


def test_nobody_is_cut_off_in_a_call() -> None:
    """A close waits for who is inside, and whoever comes meanwhile gets the next session."""
    nvml = FakeNvml([])
    session = Session(lambda: nvml)
    with session.opened():
        closing = threading.Thread(target=session.close)
        closing.start()
        eventually(lambda: session._closing)
        with session.joined() as joined:
            assert joined is None
        assert nvml.closed == 0
    closing.join(10)
    assert nvml.closed == 1
    with session.opened() as again:
        assert again is nvml


def test_a_session_that_ends_badly_has_ended() -> None:
    """An error of NVML's shutdown keeps nobody from opening another."""

    class Broken(FakeNvml):
        def close(self) -> None:
            raise DriverError("cannot stop NVML")

    session = Session(lambda: Broken([]))
    with session.opened():
        pass
    session.close()
    with session.joined() as joined:
        assert joined is None
