"""Adapters to the node itself: files, the CDI directory, the ledger, locks.

Every error of the operating system becomes a `NodeStateError` here, with the path and what to do in its message.
"""

__all__: list[str] = []
