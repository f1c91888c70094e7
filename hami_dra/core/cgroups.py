"""Which pod a process belongs to, read from its cgroup.

Kubelet names a pod's cgroup after the pod's UID, in either of two spellings (`pod<uid>` for cgroupfs, `pod<uid with underscores>`
for systemd), at whatever depth; the runtime's part below differs and does not matter.  Seen from the host the path is complete,
whatever namespaces and mounts the process made for itself, and nobody but the host's root moves a process to another pod's.
Source: proc_pid_cgroup(5), kubelet's cgroup manager.
"""

import re

__all__ = ["pod_uid"]

_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})(?:\.slice)?(?:/|$)")


def pod_uid(cgroup: str) -> str | None:
    """UID of the pod whose cgroup this is; None outside of pods.

    The outermost one counts: what a process may create lies below.

    Args:
        cgroup: content of `/proc/<pid>/cgroup`.
    """
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        for name in path.split("/"):
            if (match := _POD.search(name)) is not None:
                return match[1].replace("_", "-")
    return None
