"""Keeps the node's inventory current.

A driver may come minutes after this process (an operator still installs it), and cards come and go; discovery is therefore
repeated for ever, soon after a failure and now and then after a success.  A failure never takes back what is known: only a
successful look that does not see a card makes it vanish.  What to do about a change is left to the listeners.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from hami_dra._lib.backoff import Backoff
from hami_dra._lib.threads import Group
from hami_dra.core.errors import DriverError
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Gpu, Inventory

__all__ = ["Discovery"]

_log = logging.getLogger(__name__)


class Discovery:
    """The newest inventory, and the loop that looks for a newer one."""

    def __init__(
        self,
        *,
        discover: Callable[[], Inventory],
        group: Group,
        interval_s: float = 60.0,
        listeners: Sequence[Callable[[], None]] = (),
    ) -> None:
        """Nothing is known before the first look.

        Args:
            discover: asks the hardware; raises DriverError where that does not work (yet).
            group: whose stop ends `run`.
            interval_s: between two looks that worked.
            listeners: called in turn after each look that worked, whether something changed or not.
        """
        self._discover = discover
        self._group = group
        self._interval_s = interval_s
        self._listeners = list(listeners)
        self._backoff = Backoff(base_s=1.0, cap_s=30.0)
        self._lock = threading.Lock()
        self._inventory: Inventory | None = None
        self._ever: dict[DeviceName, Gpu] = {}
        """Each device as it was last seen."""
        self._wake = group.event()
        self._error = "no look at the hardware has ended yet"

    def listen(self, listener: Callable[[], None]) -> None:
        """Add a listener; before `run`."""
        self._listeners.append(listener)

    @property
    def latest(self) -> Inventory | None:
        """The newest inventory, or None before the first look that worked."""
        return self._inventory

    def current(self) -> Inventory:
        """The newest inventory.

        Raises:
            DriverError: no look has worked yet; says why.
        """
        inventory = self._inventory
        if inventory is None:
            raise DriverError(f"the GPUs of this node are not known yet: {self._error}")
        return inventory

    def was_here(self, name: DeviceName) -> bool:
        """Whether any look has seen the device: one that is not in the inventory is lost, not unknown."""
        return name in self._ever

    @property
    def ever(self) -> Mapping[DeviceName, Gpu]:
        """The devices that any look has seen, each as it was seen last."""
        with self._lock:
            return dict(self._ever)

    def including(self, names: Collection[DeviceName]) -> Inventory | None:
        """The newest inventory and, as they were last seen, these devices, whether it has them or not."""
        with self._lock:
            inventory = self._inventory
            if inventory is None:
                return None
            here = {gpu.name for gpu in inventory.gpus}
            more = [gpu for name, gpu in self._ever.items() if name in names and name not in here]
        if not more:
            return inventory
        return replace(inventory, gpus=tuple(sorted((*inventory.gpus, *more), key=lambda gpu: gpu.pci_address)))

    def wake(self) -> None:
        """Look soon: something may have changed."""
        self._wake.set()

    @property
    def failure(self) -> str:
        """Why the last look did not work; empty when it did."""
        return self._error

    def look(self) -> bool:
        """Look once and tell the listeners; says whether it worked, for every vendor."""
        try:
            inventory = self._discover()
        except DriverError as error:
            self._note_failure(str(error))
            return False
        self._take(inventory)
        for listener in self._listeners:
            listener()
        return not inventory.failures

    def run(self) -> None:
        """Look again and again until the group stops."""
        while not self._group.stopping:
            self._wake.clear()
            if self.look():
                self._backoff.reset()
                self._wake.wait(self._interval_s)
            else:
                self._wake.wait(self._backoff.next_s(at_least_s=0.5))

    def _take(self, inventory: Inventory) -> None:
        with self._lock:
            before = self._inventory
            self._inventory = inventory
            self._ever |= {gpu.name: gpu for gpu in inventory.gpus}
            self._error = ""
        if before == inventory:
            return
        gone = [] if before is None else [gpu.name for gpu in before.gpus if inventory.gpu(gpu.name) is None]
        if gone:
            _log.warning("GPUs have vanished", extra={"devices": gone})
        _log.info("GPUs of this node", extra={"devices": [gpu.name for gpu in inventory.gpus]})

    def _note_failure(self, message: str) -> None:
        if message != self._error:  # the same failure every few seconds is said once
            self._error = message
            _log.warning("discovery failed, it is tried again: %s", message)
