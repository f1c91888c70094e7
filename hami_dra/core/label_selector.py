"""Kubernetes' LabelSelector against the labels of an object.

Pure, and to the letter of apimachinery's `labels.Requirement.Matches`: all conditions must hold, `NotIn` holds where the label is
not there, and a selector without conditions selects everything.
"""

from collections.abc import Mapping

from hami_dra.api.nodeconfig import LabelSelector, Operator, Requirement

__all__ = ["selects"]


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is selected."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    holds = {
        Operator.EXISTS: value is not None,
        Operator.DOES_NOT_EXIST: value is None,
        Operator.IN: value in requirement.values,
        Operator.NOT_IN: value not in requirement.values,
    }
    return holds[requirement.operator]
