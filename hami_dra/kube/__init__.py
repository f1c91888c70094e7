"""The API server, as the services see it: objects in, objects out, one error tree.

Modules are imported by name; `client` alone knows the official client and TLS.
"""

__all__: list[str] = []
