"""`hami-dra top` from the command line to the screen."""

import io

import pytest
from prometheus_client import CollectorRegistry, Gauge

from hami_dra._lib.threads import Group
from hami_dra.app.http import serve_http
from hami_dra.app.top import TopOptions, pages_of_url, show_top
from hami_dra.cli import main
from hami_dra.core.errors import ApiUnavailable
from hami_dra.kube.scrape import Page

ONCE = TopOptions(interval_s=0.1, once=True)


def test_a_node_is_looked_at_through_its_own_page(capsys: pytest.CaptureFixture[str]) -> None:
    """Served as the node plugin serves it."""
    registry = CollectorRegistry()
    Gauge("hami_dra_device_shares", "Shares of a card.", ["device"], registry=registry).labels("gpu-0").set(3)
    group = Group("test")
    port = serve_http(group, port=0, registry=registry, ready=lambda: True)
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        assert main(["top", "--url", url, "--once", "--interval", "0.1"]) == 0
    finally:
        group.stop()
        group.join(5.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{url}: 1 card, 0 shares"
    assert lines[2].split() == ["gpu-0", "░░░░░░░░░░", "-", "-", "-", "3", "-"]


def test_a_page_that_is_none_is_said_of_its_node_alone() -> None:
    """The others are shown."""
    out = io.StringIO()
    pages = [Page(node="node-1", text="hami_dra_device_shares{device= 3"), Page(node="node-2", problem="it is gone")]
    assert show_top(lambda: pages, ONCE, out=out) == 0
    first, _, second = out.getvalue().splitlines()
    assert first.startswith("node-1: its metrics cannot be read: ")
    assert second == "node-2: it is gone"


def test_it_draws_until_it_is_interrupted() -> None:
    """With status 0: that is how one leaves it."""
    looks = 0

    def pages() -> list[Page]:
        nonlocal looks
        looks += 1
        if looks == 4:
            raise KeyboardInterrupt
        return [Page(node="node-1", text="")]

    out = io.StringIO()
    assert show_top(pages, TopOptions(interval_s=0.1, once=False), out=out) == 0
    assert out.getvalue() == "node-1: 0 cards, 0 shares\n" * 2


def test_nobody_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With the address, and what is no address is refused."""
    with pytest.raises(ApiUnavailable, match=r"http://127\.0\.0\.1:1/metrics does not answer"):
        pages_of_url("http://127.0.0.1:1/metrics")()
    assert main(["top", "--url", "ftp://x", "--once"]) == 1
    assert "'ftp://x' is not an address such as http://127.0.0.1:8080/metrics" in capsys.readouterr().err


@pytest.mark.parametrize("interval", ["0", "1e9", "x"])
def test_an_interval_is_some_seconds(interval: str) -> None:
    """Neither a busy loop nor for ever."""
    with pytest.raises(SystemExit):
        main(["top", "--interval", interval])
