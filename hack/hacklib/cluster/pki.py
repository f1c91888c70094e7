"""Keys, certificates and tokens of one cluster, and the kubeconfigs made of them.

One authority signs the API server's certificate and the API server's own client certificate for kubelets.  Everybody
else is known by a random token: the Node authorizer asks for a name only.  Nothing here is used twice or outlives the
cluster.
"""

import base64
import datetime as dt
import ipaddress
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hacklib.cluster.spec import API_ADDRESS, ClusterSpec

__all__ = ["make"]

_VALID = dt.timedelta(days=30)
_GROUPS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
}
_API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
_API_ADDRESSES = (API_ADDRESS, "10.96.0.1", "127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class _Pair:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def write(self, folder: Path, name: str) -> None:
        _write_secret(folder / f"{name}.key", _key_pem(self.key))
        (folder / f"{name}.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))


def make(spec: ClusterSpec) -> None:
    """Fill `spec.pki` and write a kubeconfig for each user into `spec.folder`."""
    spec.pki.mkdir(mode=0o700, exist_ok=True)
    authority = _authority()
    authority.write(spec.pki, "ca")
    _api_server(authority).write(spec.pki, "apiserver")
    _kubelet_client(authority).write(spec.pki, "kubelet-client")
    _write_secret(spec.pki / "sa.key", _key_pem(ec.generate_private_key(ec.SECP256R1())))
    users = _GROUPS | {f"system:node:{spec.node(index).name}": "system:nodes" for index in range(1, spec.nodes + 1)}
    tokens = {user: secrets.token_hex(16) for user in users}
    lines = (f"{tokens[user]},{user},{user},{group}\n" for user, group in users.items())
    _write_secret(spec.pki / "tokens.csv", "".join(lines).encode())
    for user, token in tokens.items():
        _kubeconfig(spec, user=user, token=token)


def _write_secret(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _builder(
    subject: Iterable[tuple[x509.ObjectIdentifier, str]], *, issuer: x509.Name | None
) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    now = dt.datetime.now(tz=dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _VALID)
    )


def _authority() -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder([(NameOID.COMMON_NAME, "hami-dra test cluster")], issuer=None).public_key(key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _Pair(key=key, certificate=builder.sign(key, hashes.SHA256()))


def _api_server(authority: _Pair) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in _API_NAMES]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _API_ADDRESSES]
    builder = _builder([(NameOID.COMMON_NAME, "kube-apiserver")], issuer=authority.certificate.subject)
    builder = builder.public_key(key.public_key()).add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return _Pair(key=key, certificate=builder.sign(authority.key, hashes.SHA256()))


def _kubelet_client(authority: _Pair) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [(NameOID.ORGANIZATION_NAME, "system:masters"), (NameOID.COMMON_NAME, "kube-apiserver-kubelet-client")]
    builder = _builder(subject, issuer=authority.certificate.subject).public_key(key.public_key())
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return _Pair(key=key, certificate=builder.sign(authority.key, hashes.SHA256()))


def _kubeconfig(spec: ClusterSpec, *, user: str, token: str) -> None:
    authority = (spec.pki / "ca.crt").read_bytes()
    cluster = {
        "server": f"https://{API_ADDRESS}:443",
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": spec.name,
        "clusters": [{"name": spec.name, "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": spec.name, "context": {"cluster": spec.name, "user": user}}],
    }
    _write_secret(spec.folder / f"{user.rsplit(':', 1)[-1]}.kubeconfig", json.dumps(config).encode())
