"""Files that are generated and committed: who makes them, and whether the tree has what they make."""

from hacklib.generate.registry import GENERATORS, Generator, stale, write

__all__ = ["GENERATORS", "Generator", "stale", "write"]
