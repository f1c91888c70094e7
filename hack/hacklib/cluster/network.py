"""The network of a cluster: one bridge, one link a node, routes between pods.  There is no way out of it.

The functions run inside the namespaces they set up.  Addresses are those of `hacklib.cluster.spec`.
"""

import subprocess
from pathlib import Path

from hacklib.cluster.spec import API_ADDRESS, Node
from hacklib.ui import HackError

__all__ = ["attach_node", "has_link", "make_bridge", "make_node_link"]

_BRIDGE = "hami0"


def make_bridge() -> None:
    """In the cluster's namespace: the bridge that has the API server's address."""
    _ip("link", "set", "lo", "up")
    _ip("link", "add", _BRIDGE, "type", "bridge")
    _ip("addr", "add", f"{API_ADDRESS}/24", "dev", _BRIDGE)
    _ip("link", "set", _BRIDGE, "up")
    _forward()


def attach_node(node: Node, *, pid: int) -> None:
    """In the cluster's namespace: a link from the bridge to the network of process `pid`, and a route to its pods."""
    host_end = f"node{node.index}"
    # The end of a node's former life goes with its network, and that may take the kernel a moment.
    subprocess.run(["ip", "link", "delete", host_end], capture_output=True, check=False)
    _ip("link", "add", host_end, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _ip("link", "set", host_end, "master", _BRIDGE, "up")
    _ip("route", "replace", node.pod_network, "via", node.address)


def has_link() -> bool:
    """In a node's namespace: whether `attach_node` was done."""
    return Path("/proc/self/net/dev").read_text(encoding="utf-8").find("eth0:") >= 0


def make_node_link(node: Node) -> None:
    """In a node's namespace: its address and the way to the others."""
    _ip("link", "set", "lo", "up")
    _ip("addr", "add", f"{node.address}/24", "dev", "eth0")
    _ip("link", "set", "eth0", "up")
    _ip("route", "add", "default", "via", API_ADDRESS)
    _forward()


def _forward() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="utf-8")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HackError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
