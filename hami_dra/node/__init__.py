"""The node plugin's services: what kubelet asks for, what the node publishes, how well it is.

They know Protocols (`node.ports`), never adapters; `hami_dra.app.node` puts them together.
"""

__all__: list[str] = []
