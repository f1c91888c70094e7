"""Label selectors as Kubernetes has them."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.api.nodeconfig import LabelSelector, Operator, Requirement
from hami_dra.core.label_selector import selects

_WORDS = st.sampled_from(["a", "b", "c"])
_LABELS = st.dictionaries(_WORDS, _WORDS)


def requirement(key: str, operator: Operator, *values: str) -> Requirement:
    """One condition."""
    return Requirement.model_validate({"key": key, "operator": operator, "values": values})


def selector(*requirements: Requirement, **labels: str) -> LabelSelector:
    """A selector."""
    return LabelSelector.model_validate({"matchLabels": labels, "matchExpressions": requirements})


@pytest.mark.parametrize(
    ("operator", "values", "labels", "selected"),
    [
        (Operator.IN, ["x", "y"], {"k": "y"}, True),
        (Operator.IN, ["x", "y"], {"k": "z"}, False),
        (Operator.IN, ["x"], {}, False),
        (Operator.IN, [""], {}, False),
        (Operator.IN, [""], {"k": ""}, True),
        (Operator.NOT_IN, ["x"], {"k": "x"}, False),
        (Operator.NOT_IN, ["x"], {"k": "y"}, True),
        (Operator.NOT_IN, ["x"], {}, True),
        (Operator.EXISTS, [], {"k": ""}, True),
        (Operator.EXISTS, [], {}, False),
        (Operator.DOES_NOT_EXIST, [], {}, True),
        (Operator.DOES_NOT_EXIST, [], {"k": "x"}, False),
    ],
)
def test_operators_are_those_of_kubernetes(
    operator: Operator, values: list[str], labels: Mapping[str, str], *, selected: bool
) -> None:
    """A label that is not there is in nothing, and hence not in anything either."""
    assert selects(selector(requirement("k", operator, *values)), labels) is selected


@given(_LABELS)
def test_an_empty_selector_selects_everything(labels: dict[str, str]) -> None:
    """As in Kubernetes."""
    assert selects(selector(), labels)


@given(labels=_LABELS, wanted=_LABELS)
def test_all_labels_must_match(labels: dict[str, str], wanted: dict[str, str]) -> None:
    """`matchLabels` is a subset of the labels, and the same as a list of `In` with one value each."""
    expressions = [requirement(key, Operator.IN, value) for key, value in wanted.items()]
    assert selects(selector(**wanted), labels) is (wanted.items() <= labels.items())
    assert selects(selector(*expressions), labels) is selects(selector(**wanted), labels)


@given(labels=_LABELS, key=_WORDS, values=st.lists(_WORDS, min_size=1))
def test_the_negations_are_negations(labels: dict[str, str], key: str, values: list[str]) -> None:
    """`NotIn` is what `In` is not, `DoesNotExist` what `Exists` is not."""
    for one, other, given_values in (
        (Operator.IN, Operator.NOT_IN, values),
        (Operator.EXISTS, Operator.DOES_NOT_EXIST, []),
    ):
        assert selects(selector(requirement(key, one, *given_values)), labels) is not selects(
            selector(requirement(key, other, *given_values)), labels
        )
