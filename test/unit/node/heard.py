"""What listeners hear of claims."""

from hami_dra.core.errors import HamiDraError
from hami_dra.node.state import ClaimRef, Prepared

__all__ = ["Heard"]


class Heard:
    """A listener that remembers."""

    def __init__(self, kind: type[HamiDraError]) -> None:
        """Errors are to be of that kind."""
        self.news: list[tuple[str, str]] = []
        self._kind = kind

    def prepared(self, prepared: Prepared) -> None:
        """A claim is ready again."""
        assert prepared.claim is not None
        self.news.append((prepared.plan.name, "ready"))

    def failed(self, ref: ClaimRef, error: HamiDraError) -> None:
        """A claim is not ready any more."""
        assert isinstance(error, self._kind)
        self.news.append((ref.name, str(error)))

    def unprepared(self, ref: ClaimRef) -> None:
        """Nobody says so here."""
        raise AssertionError(ref)

    def take(self) -> list[tuple[str, str]]:
        """What is new."""
        news, self.news = self.news, []
        return news
