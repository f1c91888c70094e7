"""Plans of the ledger's rows, parsed once.

A burst of pods has the whole ledger read for each of them, and nearly all rows are those of a moment ago.
"""

from collections.abc import Iterable

from hami_dra.core.plan import ClaimPlan
from hami_dra.core.record import from_json

__all__ = ["PlanCache"]


class PlanCache:
    """Remembers the plans of the last reading.  Not for several threads at once."""

    def __init__(self) -> None:
        self._plans: dict[str, tuple[str, ClaimPlan]] = {}

    def read(self, rows: Iterable[tuple[str, str]]) -> list[ClaimPlan]:
        """The plans of all rows, given as UID and record, in their order.

        Raises:
            LedgerCorrupt: a record cannot be read.
        """
        known, self._plans = self._plans, {}
        for uid, record in rows:
            cached = known.get(uid)
            self._plans[uid] = cached if cached and cached[0] == record else (record, from_json(record))
        return [plan for _, plan in self._plans.values()]
