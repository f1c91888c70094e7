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
    assert (found.isolation, found.qos, found.priority, found.memory) == (None, None, None, None)


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
        (
            HEAD | {"memroy": "1Gi"},
            "memroy: unknown field; gpu.hami.io/v1alpha1 has .*isolation, qos, priority, memory",
        ),
        (HEAD | {"memory": "1Gi"}, 'memory: found "1Gi"; expected an object'),
        (HEAD | {"memory": {"limit": "1Gi"}}, "memory.limit: unknown field; .* has oversubscription"),
        (HEAD | {"memory": {"oversubscription": "lots"}}, "memory.oversubscription: .*'lots' is not a quantity"),
        (HEAD | {"memory": {"oversubscription": True}}, "memory.oversubscription: found true; expected a quantity"),
        (HEAD | {"memory": {"oversubscription": 1.5}}, "memory.oversubscription: found 1.5; expected a quantity"),
        (HEAD | {"memory": {"oversubscription": "-1Gi"}}, "memory.oversubscription: .*greater than or equal to 0"),
        (HEAD | {"memory": {"oversubscription": "9999P"}}, "memory.oversubscription: .*less than or equal to"),
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


@given(bytes_=st.integers(0, 2**63 - 1), unit=st.sampled_from([("", 1), ("Ki", 2**10), ("Gi", 2**30), ("M", 10**6)]))
def test_every_quantity_of_oversubscription_is_read(bytes_: int, unit: tuple[str, int]) -> None:
    """In any unit, and as a bare number as Kubernetes allows; exact to the byte."""
    suffix, size = unit
    spelled: object = f"{bytes_ // size}{suffix}" if suffix else bytes_
    found = decode(HEAD | {"memory": {"oversubscription": spelled}}).memory
    assert found is not None
    assert found.oversubscription == bytes_ // size * size


@pytest.mark.parametrize("memory", [None, {}, {"oversubscription": None}])
def test_memory_that_says_nothing_sets_nothing(memory: object) -> None:
    """An empty object overrides no class."""
    found = decode(HEAD | {"memory": memory}).memory
    assert found is None or found.oversubscription is None


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
