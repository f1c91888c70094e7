"""From the records of the e2e suite, and the modules that it has now, to docs/versions.md."""

from pathlib import Path

from hacklib.versions.page import versions_page
from hacklib.versions.record import RECORDS, load

__all__ = ["generate"]


def generate(root: Path) -> dict[Path, str]:
    """The page; nothing before the first run."""
    records = load(root)
    modules = sorted(path.name for path in (root / RECORDS).parent.glob("test_*.py"))
    return {Path("docs/versions.md"): versions_page(records, modules=modules)} if records else {}
