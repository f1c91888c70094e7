"""Strict decoding of GpuConfig."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra._lib import strictjson
from hami_dra.api.opaque import ConfigError, Isolation, Priority, Qos, decode

HEAD = {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig"}


def test_an_empty_configuration_sets_nothing() -> None:
    """Absent is None, so that class and claim can be merged."""
    found = decode(HEAD)
    assert (found.isolation, found.qos, found.priority) == (None, None, None)


@given(
    isolation=st.none() | st.sampled_from(Isolation),
    qos=st.none() | st.sampled_from(Qos),
    priority=st.none() | st.sampled_from(Priority),
)
def test_every_valid_configuration_is_read(
    isolation: Isolation | None, qos: Qos | None, priority: Priority | None
) -> None:
    """What was said is what is known."""
    fields = {"isolation": isolation, "qos": qos, "priority": priority}
    found = decode(HEAD | {name: str(value) for name, value in fields.items() if value is not None})
    assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "parameters: found .*expected an object"),
        (None, "parameters: found nothing"),
        ({}, "apiVersion: found nothing, expected gpu.hami.io/v1alpha1"),
        (HEAD | {"apiVersion": "gpu.hami.io/v9"}, "apiVersion: found .*v9"),
        ({"apiVersion": HEAD["apiVersion"]}, "kind: found nothing, expected GpuConfig"),
        (HEAD | {"memory": "1Gi"}, "memory: unknown field; gpu.hami.io/v1alpha1 has .*isolation, qos, priority"),
        (HEAD | {"qos": "Gold"}, "qos: found \"Gold\".*'BurstShare'"),
        (HEAD | {"qos": 1}, "qos: found 1"),
        (HEAD | {"priority": "x" * 100}, "priority: found .*…"),
        (HEAD | {"qos": "Gold", "x": 1}, "qos: .*; x: unknown field"),
    ],
)
def test_errors_say_what_and_where(parameters: object, message: str) -> None:
    """Each names the field, what was found and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        decode(parameters)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"apiVersion":"gpu.hami.io/v1alpha1","kind":"GpuConfig","qos":"BurstShare","qos":"FixedShare"}', "^qos: "),
        ('{"apiVersion":"a","x":[{"y":{"z":1,"z":2}}]}', r"^x\.0\.y\.z: "),
    ],
)
def test_duplicate_keys_are_errors(text: str | bytes, where: str) -> None:
    """The API server keeps opaque parameters as they were sent, so both spellings arrive here."""
    with pytest.raises(ConfigError, match=where + "the key appears twice"):
        decode(strictjson.loads(text))
