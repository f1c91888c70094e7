"""docs/health.md says of XIDs what the table says."""

import re

from hacklib.paths import REPOSITORY
from hami_dra.vendors.nvidia.xids import TABLE

_ROW = re.compile(r"\| (\d+) \| (.+) \| `(\w+)` \| (\w+) \|")


def test_the_page_has_the_table_of_the_code() -> None:
    """The same XIDs, words, effects and ends; none more, none less."""
    page = (REPOSITORY / "docs" / "health.md").read_text(encoding="utf-8")
    rows = {int(row[1]): (row[2], row[3], row[4]) for row in map(_ROW.fullmatch, page.splitlines()) if row}
    assert rows == {code: (what, effect.value, ends.value) for code, (what, (effect, ends, _)) in TABLE.items()}
