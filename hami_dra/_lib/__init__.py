"""Small things that could be packages of their own: standard library only, and nothing of the house."""

__all__: list[str] = []
