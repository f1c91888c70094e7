"""The kernel's caps on pods, without a kernel."""

from collections.abc import Mapping

from hami_dra.core.ids import PodUid

__all__ = ["FakePods"]


class FakePods:
    """Pods that have a cgroup, unless they are named in `without`."""

    def __init__(self) -> None:
        self.without: set[str] = set()
        self.caps: dict[str, dict[str, int]] = {}

    def cap(self, pod: PodUid, caps: Mapping[str, int | None]) -> bool:
        """Keep the caps of a pod, as the kernel does: one that is lifted is none."""
        if pod in self.without:
            return False
        merged = {**self.caps.get(pod, {}), **caps}
        self.caps[pod] = {region: cap for region, cap in merged.items() if cap is not None}
        return True
