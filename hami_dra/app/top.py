"""`hami-dra top`: what the shares of the cluster use, drawn anew every few seconds."""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from hami_dra.core.errors import ApiUnavailable
from hami_dra.core.top import NodeView, Sample, read_node, table
from hami_dra.kube.scrape import Page, node_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from hami_dra.kube.transport import Transport

__all__ = ["TopOptions", "pages_of_cluster", "pages_of_url", "show_top"]

_TIMEOUT_S = 5.0
_CLEAR = "\x1b[H\x1b[2J"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOptions:
    """What the command line says."""

    interval_s: float
    once: bool


def pages_of_cluster(transport: Transport, *, namespace: str, port: int) -> Callable[[], list[Page]]:
    """Asks every node plugin of the namespace, through the API server."""
    return lambda: node_pages(transport, namespace=namespace, port=port)


def pages_of_url(url: str) -> Callable[[], list[Page]]:
    """Asks one metrics page, as on the node itself.

    Raises:
        ValueError: not an address over HTTP.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:8080/metrics")

    def pages() -> list[Page]:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - checked above
                return [Page(node=url, text=answer.read().decode("utf-8", errors="replace"))]
        except (urllib.error.URLError, OSError) as error:
            raise ApiUnavailable(f"{url} does not answer: {error}") from error

    return pages


def show_top(pages: Callable[[], list[Page]], options: TopOptions, *, out: TextIO | None = None) -> int:
    """Draw until interrupted, or once after two looks; the exit status.

    Raises:
        KubeError: nobody could be asked.
    """
    out = out or sys.stdout
    before = _look(pages)
    try:
        while True:
            time.sleep(options.interval_s)
            now = _look(pages)
            _draw(before, now, out, clear=not options.once and out.isatty())
            if options.once:
                return 0
            before = now
    except KeyboardInterrupt:
        return 0


def _draw(before: Sequence[NodeView], now: Sequence[NodeView], out: TextIO, *, clear: bool) -> None:
    text = "\n".join(table(before, now))
    out.write((_CLEAR if clear else "") + text + "\n")
    out.flush()


def _look(pages: Callable[[], list[Page]]) -> list[NodeView]:
    return [_view(page) for page in pages()]


def _view(page: Page) -> NodeView:
    at_s = time.monotonic()
    if page.problem:
        return NodeView(node=page.node, at_s=at_s, problem=page.problem)
    try:
        return read_node(page.node, _samples(page.text), at_s=at_s)
    except ValueError as error:
        return NodeView(node=page.node, at_s=at_s, problem=f"its metrics cannot be read: {error}")


def _samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield Sample(name=sample.name, labels=sample.labels, value=sample.value)
