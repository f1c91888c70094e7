"""The hardware suite: what of it travels, and running it where there is a GPU."""

from hacklib.gpu.bundle import make_bundle

__all__ = ["make_bundle"]
