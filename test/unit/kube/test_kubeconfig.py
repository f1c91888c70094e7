"""Kubeconfig files, through the official client."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from unit.kube.https_server import Authority, Handler, https_server

from hami_dra.core.errors import KubeError
from hami_dra.kube.client import ClusterTransport, kubeconfig


def ok(handler: Handler) -> None:
    """An empty object."""
    handler.send_json(200, {})


def write(path: Path, *, cluster: object, user: object) -> Path:
    """A kubeconfig with a context for the cluster and a broken one."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "good",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
                "contexts": [
                    {"name": "good", "context": {"cluster": "c", "user": "u"}},
                    {"name": "bad", "context": {"cluster": "nowhere", "user": "u"}},
                ],
            }
        ),
        encoding="utf-8",
    )
    return path


def test_a_token_and_a_ca_file(tmp_path: Path) -> None:
    """The simplest kubeconfig."""
    authority = Authority.make(tmp_path / "ca")
    with https_server(authority, ok) as server:
        cluster = {"server": server.url, "certificate-authority": str(authority.ca_file)}
        path = write(tmp_path / "config", cluster=cluster, user={"token": "abc"})
        ClusterTransport(kubeconfig(path)).request("GET", "/x")
        assert server.seen[0].headers["Authorization"] == "Bearer abc"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_client_certificates_and_an_unverified_server(tmp_path: Path) -> None:
    """As administrators' files have them."""
    authority = Authority.make(tmp_path / "ca")
    certificate, key = authority.issue("admin")
    with https_server(authority, ok, name="elsewhere") as server:
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        cluster = {"server": server.url, "insecure-skip-tls-verify": True}
        ClusterTransport(kubeconfig(write(tmp_path / "config", cluster=cluster, user=user))).request("GET", "/x")
        assert server.seen[0].client_certificate
        named = {**cluster, "insecure-skip-tls-verify": False, "certificate-authority": str(authority.ca_file)}
        named["tls-server-name"] = "elsewhere"
        ClusterTransport(kubeconfig(write(tmp_path / "config", cluster=named, user=user))).request("GET", "/x")


def test_an_exec_plugin_is_asked_again_when_its_token_has_expired(tmp_path: Path) -> None:
    """Cloud providers' short-lived tokens."""
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        f"n=$(cat {tmp_path}/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > {tmp_path}/n\n"
        'printf \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":'
        '{"token":"t%d","expirationTimestamp":"2020-01-01T00:00:00Z"}}\' $n\n',
        encoding="utf-8",
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    authority = Authority.make(tmp_path / "ca")
    with https_server(authority, ok) as server:
        exec_config = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
        cluster = {"server": server.url, "certificate-authority": str(authority.ca_file)}
        path = write(tmp_path / "config", cluster=cluster, user={"exec": exec_config})
        transport = ClusterTransport(kubeconfig(path))
        for _ in range(2):
            transport.request("GET", "/x")
        tokens = [seen.headers["Authorization"] for seen in server.seen]
    assert tokens[0] != tokens[1]
    assert all(token.startswith("Bearer t") for token in tokens)


@pytest.mark.parametrize("text", ["", "{}", "no: yaml: here", "[1]"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    """Empty, incomplete, malformed."""
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KubeError, match=f"kubeconfig {path}"):
        kubeconfig(path)


def test_missing_files_and_contexts_are_named(tmp_path: Path) -> None:
    """What the user typed wrong is in the message."""
    with pytest.raises(KubeError, match="absent"):
        kubeconfig(tmp_path / "absent")
    path = write(tmp_path / "config", cluster={"server": "https://x"}, user={"token": "abc"})
    with pytest.raises(KubeError, match="nowhere"):
        kubeconfig(path, context="bad")
    with pytest.raises(KubeError, match="unheard-of"):
        kubeconfig(path, context="unheard-of")


def test_the_official_client_is_loaded_for_kubeconfig_files_only() -> None:
    """In a pod its 20 MiB are not paid for."""
    code = (
        "import sys, hami_dra.kube.client, hami_dra.kube.reflector, hami_dra.kube.leases, hami_dra.kube.events;"
        "sys.exit(any(name.split('.')[0] in ('kubernetes', 'pydantic', 'yaml') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
