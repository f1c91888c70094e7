"""Whose process it is that the driver tells of.

The cgroup says which pod, whatever the process hid of its mounts and environment, and the claims of that pod are known from
their `reservedFor`; where a pod has several shares of one card, the mounts say which.  A process without a pod, or of a pod that
uses no claim, is attributed by its mounts alone, and otherwise to nobody.
"""

from collections.abc import Collection, Mapping

from hami_dra.core.figures import Figures
from hami_dra.core.ids import GpuUuid
from hami_dra.core.plan import ClaimPlan
from hami_dra.node.consumers import Consumer, Consumers
from hami_dra.node.ports import Attribution, Processes

__all__ = ["Attributor"]


class Attributor:
    """The driver's figures, and whose they are.  Not for several threads at once."""

    def __init__(self, attribution: Attribution, *, processes: Processes, consumers: Consumers) -> None:
        """Ask these.

        Args:
            attribution: the driver's figures, and shares of processes by their mounts.
            processes: pods of processes by their cgroups, and an end to them.
            consumers: which pods use which claim.
        """
        self._attribution = attribution
        self._processes = processes
        self._consumers = consumers

    def memory(self, uuid: GpuUuid, *, partition: GpuUuid | None) -> Mapping[int, int] | None:
        """As a `Meter`."""
        return self._attribution.meter.memory(uuid, partition=partition)

    def figures(self, uuid: GpuUuid, *, since_us: int) -> Figures | None:
        """As a `Meter`."""
        return self._attribution.meter.figures(uuid, since_us=since_us)

    def owner(self, pid: int, shares: Mapping[str, ClaimPlan]) -> str | None:
        """Which of these shares (`<claim>/<share>`) a process is of; None for none of them."""
        mounted = {f"{uid}/{key}" for uid, key in self._attribution.owner(pid)}.intersection(shares)
        pod = self._processes.pod_uid(pid)
        in_pod = {
            share
            for share, plan in shares.items()
            if pod is not None and any(user.uid == pod for user in self._consumers.pods(plan.uid))
        }
        return min(mounted & in_pod or in_pod or mounted, default=None)

    def kill(self, pid: int, *, share: str, shares: Mapping[str, ClaimPlan]) -> bool:
        """End a process of that share; says whether it was one still.

        Raises:
            NodeStateError: not permitted.
        """
        return self._processes.kill(pid, still=lambda number: self.owner(number, shares) == share)

    def pods(self, plan: ClaimPlan) -> tuple[Consumer, ...]:
        """The pods that use a claim, as far as they are known."""
        return self._consumers.pods(plan.uid)

    def learn(self, plans: Collection[ClaimPlan], *, unknown: bool) -> None:
        """Find out more about who uses these claims: one request to the API server at most.

        Args:
            plans: all claims that there are.
            unknown: whether a process was found that nobody knows: a pod may have begun to use a claim after it was prepared.
        """
        self._consumers.forget_others(plan.uid for plan in plans)
        for plan in plans:
            if (unknown or not self._consumers.pods(plan.uid)) and self._consumers.refresh(plan):
                return
