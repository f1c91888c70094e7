"""Fakes that ship with the package: whoever extends the driver can test against them.

Each is held to the real thing by a contract test (test/contract).
"""

__all__: list[str] = []
