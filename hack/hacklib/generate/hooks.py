"""From native/guard/hooks/table.txt to docs/hooks.md: which driver functions the guard hooks, which not, and why."""

from pathlib import Path

from hacklib.native.coverage import hook_report

__all__ = ["generate"]


def generate(root: Path) -> dict[Path, str]:
    """The page.  Raises HackError when the table cannot be read."""
    return {Path("docs/hooks.md"): hook_report("page", root=root)}
