"""A simulated card under guards, for tests of who gets how much of it.

Fluid time in steps of 5 ms: tenants that want to compute and whose bucket has tokens take equal turns; a guard charges what it
believes its kernels took (`bias` times the truth), follows a new grant after a while, and saves up at most 100 ms at its rate.
The driver's figures are whole percent over a sixth of a second, as NVML gives them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from hami_dra.api.opaque import Priority, Qos
from hami_dra.core.arbiter import CardState, Look, Truth, decide

__all__ = ["SimulatedCard", "Tenant"]

_STEP_S = 0.005
_SAMPLE_S = 1 / 6
_SAVED_S = 0.1


@dataclass(slots=True, kw_only=True)
class Tenant:
    """One share, the programs in it, and its guard."""

    key: str
    cores: int = 0
    qos: Qos = Qos.FIXED_SHARE
    priority: Priority = Priority.NORMAL
    demand: Callable[[float], float] = lambda _now: 1.0
    """Fraction of the card that its programs would use at a time; 0: they want nothing."""
    bias: float = 1.0
    """What the guard charges for a second of the card."""
    kernel_s: float = 0.0
    """Length of one kernel: it is charged at once and cannot be interrupted; 0: short ones."""
    visible: bool = True
    """Whether the driver's figures can be attributed to it."""
    granted: int = 0
    used_s: list[float] = field(default_factory=list)
    """GPU time in each step."""
    _running_s: float = 0.0
    _bucket_s: float = 0.0
    _charged_s: float = 0.0
    _throttled: bool = False
    _wanted: bool = False

    def refill(self, seconds: float) -> None:
        """Pour in what that time is worth."""
        rate = self.rate
        if rate is not None:
            self._bucket_s = min(self._bucket_s + rate * seconds, _SAVED_S * rate)

    @property
    def rate(self) -> float | None:
        """What the guard holds it to; None: nothing."""
        if self.granted:
            return self.granted / 1000
        return self.cores / 100 if self.cores else None

    def wants(self, now: float) -> float:
        """What it would use in this step, after its guard has had a word."""
        demand = self.demand(now)
        if self._running_s > 0:
            return 1.0
        self._wanted = self._wanted or demand > 0
        if demand <= 0:
            return 0.0
        if self.rate is not None and self._bucket_s <= 0:
            self._throttled = True
            return 0.0
        if self.kernel_s:
            self._running_s = self.kernel_s
            self._charge(self.kernel_s * self.bias)
            return 1.0
        return demand

    def run(self, seconds: float) -> None:
        """Use the card for that long."""
        self.used_s.append(seconds)
        if self.kernel_s:
            self._running_s = max(0.0, self._running_s - seconds)
        else:
            self._charge(seconds * self.bias)

    def look(self) -> Look:
        """What its usage file says since the last look."""
        look = Look(
            key=self.key,
            cores_percent=self.cores,
            qos=self.qos,
            priority=self.priority,
            wanted=self._wanted,
            throttled=self._throttled,
            charged_ns=round(self._charged_s * 1e9),
        )
        self._charged_s, self._throttled, self._wanted = 0.0, False, False
        return look

    def _charge(self, seconds: float) -> None:
        if self.rate is None:
            return  # a guard without a limit measures nothing
        self._bucket_s -= seconds
        self._charged_s += seconds


class SimulatedCard:
    """A card, its tenants, and the arbiter that works for them."""

    def __init__(self, *tenants: Tenant, period_s: float = 0.1, follow_s: float = 0.05, truth: bool = True) -> None:
        """`period_s` between rounds; guards follow after `follow_s`; without `truth` the driver has no figures."""
        self.tenants = {tenant.key: tenant for tenant in tenants}
        self.now = 0.0
        self.state = CardState()
        self._period, self._follow = round(period_s / _STEP_S), round(follow_s / _STEP_S)
        self._truth = truth
        self._steps = 0
        self._sampled = 0
        self._pending: list[tuple[int, dict[str, int]]] = []

    def run(self, seconds: float) -> None:
        """Let time go by."""
        for _ in range(round(seconds / _STEP_S)):
            self._step()

    def used(self, key: str, *, last_s: float) -> float:
        """Fraction of the card that a share had lately."""
        steps = round(last_s / _STEP_S)
        return sum(self.tenants[key].used_s[-steps:]) / last_s

    def _step(self) -> None:
        for at, grants in self._pending:
            if at == self._steps:
                for key, granted in grants.items():
                    self.tenants[key].granted = granted
        wants = {}
        for tenant in self.tenants.values():
            tenant.refill(_STEP_S)
            wants[tenant.key] = tenant.wants(self.now)
        for key, seconds in _turns(wants).items():
            self.tenants[key].run(seconds)
        self._steps += 1
        self.now = self._steps * _STEP_S
        if self._steps % self._period == 0:
            self._round()

    def _round(self) -> None:
        looks = [tenant.look() for tenant in self.tenants.values()]
        self.state, grants = decide(self.state, looks, elapsed_s=self._period * _STEP_S, truth=self._figures())
        self._pending = [(self._steps + self._follow, grants), *self._pending[:3]]

    def _figures(self) -> Truth | None:
        """The driver's figures since the last round, if another sixth of a second is over."""
        samples = int(self.now / _SAMPLE_S)
        if not self._truth or samples == self._sampled:
            return None
        first, last = (round(sample * _SAMPLE_S / _STEP_S) for sample in (self._sampled, samples))
        over_s = (samples - self._sampled) * _SAMPLE_S
        self._sampled = samples
        busy = {t.key: round(100 * sum(t.used_s[first:last]) / over_s) / 100 for t in self.tenants.values()}
        return Truth(over_s=over_s, busy={key: value for key, value in busy.items() if self.tenants[key].visible})


def _turns(wants: dict[str, float]) -> dict[str, float]:
    """Equal turns: what one does not want is the others'."""
    given = dict.fromkeys(wants, 0.0)
    free, left = 1.0, [key for key, want in wants.items() if want > 0]
    while left:
        turn = free / len(left)
        done = [key for key in left if wants[key] <= turn] or left
        for key in done:
            given[key] = min(wants[key], turn)
            free -= given[key]
        left = [key for key in left if key not in done]
    return {key: value * _STEP_S for key, value in given.items()}
