"""Other worlds that programs live in: an old C library, musl, another architecture; unpacked below the cache for tests."""

from hacklib.worlds.catalogue import emulated_arm64, musl, old_glibc
from hacklib.worlds.debs import Suite, unpacked

__all__ = ["Suite", "emulated_arm64", "musl", "old_glibc", "unpacked"]
