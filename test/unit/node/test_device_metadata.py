"""Device metadata files on the node: they come and go with the share files, whatever happens in between."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from node_rig import EFFECTS, Crash, Rig

from hami_dra.api.k8s import ResourceClaim
from hami_dra.testing.gpus import allocated_claim, share_result


def asking() -> ResourceClaim:
    """A claim whose containers want to read what they were given."""
    parameters = {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig", "deviceMetadata": True}
    made: Any = allocated_claim("train", share_result())
    opaque = {"driver": "gpu.hami.io", "parameters": parameters}
    made["status"]["allocation"]["devices"]["config"] = [{"source": "FromClaim", "opaque": opaque}]
    return cast("ResourceClaim", made)


def file_of(rig: Rig) -> Path:
    """The file of the one request."""
    return rig.claims_dir / "train-uid" / "metadata-gpu.json"


def mounted(rig: Rig) -> list[str]:
    """Host paths of metadata files in the claim's spec."""
    (device,) = json.loads(rig.cdi_file("train-uid").read_text())["devices"]
    paths = [mount["hostPath"] for mount in device["containerEdits"]["mounts"]]
    return [path for path in paths if "metadata" in path]


def test_the_file_is_there_before_the_spec_names_it_and_goes_with_the_claim(rig: Rig) -> None:
    """Readable by any user, made again where it lacks, gone after unprepare."""
    train = rig.claims.add(asking())
    rig.prepare(train)
    written = file_of(rig).read_text()
    assert json.loads(written)["requests"][0]["devices"][0]["name"] == "gpu-0000-17-00-0"
    assert file_of(rig).stat().st_mode & 0o777 == 0o644
    assert mounted(rig) == ["/var/lib/hami-dra/claims/train-uid/metadata-gpu.json"]
    file_of(rig).unlink()
    rig.prepare(train)
    assert file_of(rig).read_text() == written
    rig.state.unprepare(train.uid)
    assert not file_of(rig).parent.exists()


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("when", ["", " done"])
def test_a_crash_at_any_effect_leaves_no_file_without_a_claim(rig: Rig, effect: str, when: str) -> None:
    """The next start undoes what was begun; the next prepare makes all of it."""
    train = rig.claims.add(asking())
    rig.crash_at(f"{effect}{when}")
    with pytest.raises(Crash):
        rig.prepare(train)
    rig.start()
    facts = rig.facts()
    assert file_of(rig).exists() is (facts.ledger == {"train-uid": "Completed"})
    rig.prepare(train)
    assert file_of(rig).exists()
    assert mounted(rig)


def test_after_a_reboot_everything_is_made_anew(rig: Rig) -> None:
    """The file too."""
    train = rig.claims.add(asking())
    rig.prepare(train)
    rig.reboot()
    assert not file_of(rig).exists()
    rig.prepare(train)
    assert file_of(rig).exists()
