"""From the records of the e2e suite to docs/versions.md."""

from pathlib import Path

from hacklib.versions.page import versions_page
from hacklib.versions.record import load

__all__ = ["generate"]


def generate(root: Path) -> dict[Path, str]:
    """The page; nothing before the first run."""
    records = load(root)
    return {Path("docs/versions.md"): versions_page(records)} if records else {}
