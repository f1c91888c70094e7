"""docs/troubleshooting.md has a section for each check, in the order of the report."""

import re

from hacklib.paths import REPOSITORY
from hami_dra.core.doctor import CHECKS
from hami_dra.core.doctor.rights import doctor_rights

PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_each_check_is_explained() -> None:
    """Whoever sees its name finds it there, and nothing is explained that is not checked."""
    assert re.findall(r"^### (\S+)$", PAGE, re.MULTILINE) == list(CHECKS)


def test_the_rights_that_it_takes_are_listed() -> None:
    """All resources by their names."""
    section = PAGE.partition("## What it needs")[2].partition("\n## ")[0]
    assert [right for right in doctor_rights("x") if right.resource not in section] == []
