"""Adapters to the libraries of hardware vendors, one package each; all of them answer with a `core.inventory.Inventory`."""

__all__: list[str] = []
