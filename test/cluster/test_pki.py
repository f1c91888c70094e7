"""Certificates, tokens and kubeconfigs of a cluster."""

import base64
import csv
import json
import stat
from pathlib import Path

import pytest
from cluster.support import make_spec
from cryptography import x509

from hacklib.cluster import pki
from hacklib.cluster.spec import API_ADDRESS, ClusterSpec


@pytest.fixture
def spec(tmp_path: Path) -> ClusterSpec:
    """A cluster of two nodes with its keys made."""
    made = make_spec(tmp_path)
    pki.make(made)
    return made


def certificate(spec: ClusterSpec, name: str) -> x509.Certificate:
    """A certificate of the cluster by its file's name."""
    return x509.load_pem_x509_certificate((spec.pki / f"{name}.crt").read_bytes())


def test_the_authority_signed_what_it_should(spec: ClusterSpec) -> None:
    """API server and kubelet client are signed by the cluster's authority, and it by itself."""
    authority = certificate(spec, "ca")
    for name in ("ca", "apiserver", "kubelet-client"):
        certificate(spec, name).verify_directly_issued_by(authority)


def test_clients_in_and_outside_of_pods_reach_a_name_on_the_certificate(spec: ClusterSpec) -> None:
    """The certificate names the address of the network, the address of the service, and the service's names."""
    extension = certificate(spec, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    addresses = {str(address) for address in extension.value.get_values_for_type(x509.IPAddress)}
    assert {API_ADDRESS, "10.96.0.1", "127.0.0.1"} <= addresses
    assert "kubernetes.default.svc" in extension.value.get_values_for_type(x509.DNSName)


def test_each_kubeconfig_holds_the_token_of_its_user(spec: ClusterSpec) -> None:
    """Tokens are random and different, and the authority is inside, so that the file can be used anywhere."""
    with (spec.pki / "tokens.csv").open(encoding="utf-8") as file:
        tokens = {user: token for token, user, *_ in csv.reader(file)}
    assert len(set(tokens.values())) == len(tokens) == 6
    config = json.loads((spec.folder / "node-2.kubeconfig").read_text(encoding="utf-8"))
    assert config["users"][0]["user"]["token"] == tokens["system:node:node-2"]
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
    assert authority == (spec.pki / "ca.crt").read_bytes()


def test_secrets_are_for_their_owner_only(spec: ClusterSpec) -> None:
    """Keys, tokens and kubeconfigs cannot be read by other users of the machine."""
    secrets = [*spec.pki.glob("*.key"), spec.pki / "tokens.csv", *spec.folder.glob("*.kubeconfig")]
    assert len(secrets) == 11
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
