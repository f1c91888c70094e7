"""The API server over HTTPS.

The only importer of the official client, and only for kubeconfig files (exec plugins, client certificates, proxies).  In a
pod, where address, CA and token are two variables and two files, it is not even loaded: that keeps 20 MiB out of every
node plugin.  Requests go through a urllib3 pool of our own: raw JSON, kept-alive connections for 40 requests at once, and
no limit on the client's side, because priority and fairness are the server's business.
Invariant: no exception of urllib3, ssl or json leaves this module; see `kube.status` for what they become.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import urllib3
from urllib3.connection import HTTPConnection

from hami_dra._lib import strictjson
from hami_dra._lib.clock import SYSTEM_CLOCK, rfc3339
from hami_dra.core.errors import ApiUnavailable, KubeError
from hami_dra.kube.status import kube_error
from hami_dra.kube.transport import JSON, Response, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hami_dra.api.k8s import JsonObject

__all__ = ["ClusterTransport", "Endpoint", "TokenFile", "in_cluster", "kubeconfig"]

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONNECTIONS = 40
_CONNECT_S = 10.0
_CHUNK = 64 * 1024
_OUT_OF_DATE = frozenset({9, 10})  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED
_HTTP_ERROR = 400
# A peer that lost power is noticed after 60 s, also on a watch where silence is normal.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an API server is, and how to be known there."""

    url: str
    ca_file: Path | None = None
    """None: the CAs of the system."""
    client_files: Callable[[], tuple[str, str] | None] = field(default=lambda: None)
    """Paths of the client certificate and its key, as of now."""
    authorization: Callable[[], str | None] = field(default=lambda: None)
    """The Authorization header, as of now."""
    verify: bool = True
    server_name: str | None = None
    """The name in the server's certificate, where it is not that of the URL."""
    proxy: str | None = None


class TokenFile:
    """A bearer token in a file that kubelet replaces from time to time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._header = ""

    def __call__(self) -> str:
        """The Authorization header with the token that is in the file now.

        Raises:
            ApiUnavailable: there is no token to be had.
        """
        with self._lock:
            try:
                seen = _signature(self._path)
                if seen != self._seen:
                    self._header = f"Bearer {self._path.read_text(encoding='ascii').strip()}"
                    self._seen = seen
            except (OSError, UnicodeDecodeError) as error:
                raise ApiUnavailable(f"service account token {self._path}: {error}") from error
            return self._header


def in_cluster(*, directory: Path = _SERVICE_ACCOUNT, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The API server of the cluster that this process is a pod of.

    Raises:
        KubeError: it is not in a pod, or the pod has no service account token.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    token, ca_file = directory / "token", directory / "ca.crt"
    if not host or not port or not token.exists() or not ca_file.exists():
        raise KubeError(
            f"not in a pod with a service account (KUBERNETES_SERVICE_HOST={host!r}, {token}); give a kubeconfig instead"
        )
    return Endpoint(f"https://{f'[{host}]' if ':' in host else host}:{port}", ca_file, authorization=TokenFile(token))


def kubeconfig(path: Path | None = None, *, context: str | None = None) -> Endpoint:
    """The API server that a kubeconfig file names; by default the one that kubectl would use.

    Raises:
        KubeError: the file cannot be used.
    """
    # Not at the top: see the module.
    from kubernetes.client.configuration import Configuration  # noqa: PLC0415
    from kubernetes.config import load_kube_config  # noqa: PLC0415

    config: Any = Configuration()
    try:
        load_kube_config(str(path) if path else None, context=context, client_configuration=config)
    except Exception as error:  # the library lets out whatever its parser and the file system raise
        raise KubeError(f"kubeconfig {path or '(default)'}: {error}") from error
    lock = threading.Lock()

    def authorization() -> str | None:
        try:
            with lock:  # runs the exec plugin again once its credential has expired
                header: str | None = config.get_api_key_with_prefix("BearerToken", "authorization")
        except Exception as error:  # as above
            raise ApiUnavailable(f"kubeconfig {path or '(default)'}: no credential: {error}") from error
        return header

    return Endpoint(
        config.host,
        Path(config.ssl_ca_cert) if config.ssl_ca_cert else None,
        client_files=lambda: (config.cert_file, config.key_file) if config.cert_file else None,
        authorization=authorization,
        verify=config.verify_ssl,
        server_name=config.tls_server_name,
        proxy=config.proxy,
    )


class ClusterTransport:
    """A `Transport` to a real API server."""

    def __init__(self, endpoint: Endpoint, *, user_agent: str = "hami-dra") -> None:
        self._endpoint = endpoint
        self._headers = {"Accept": JSON, "User-Agent": user_agent}
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self._pool_of: object = None

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = JSON,
        timeout_s: float = 30.0,
    ) -> Response:
        """See `Transport.request`."""
        what = f"{method} {path}"
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": content_type} if payload is not None else {}
        timeout = urllib3.Timeout(total=timeout_s, connect=min(_CONNECT_S, timeout_s))
        answer = self._send(method, path, query=query, body=payload, headers=headers, timeout=timeout, preload=True)
        data = _json_object(answer.data)
        if answer.status >= _HTTP_ERROR:
            said = data if data is not None else {"message": answer.data[:200].decode(errors="replace")}
            raise kube_error(what, code=answer.status, status=said, headers=answer.headers)
        if data is None:
            raise ApiUnavailable(f"{what}: {answer.status} with a body that is no JSON object; is a proxy in the way?")
        return Response(answer.status, data, answer.headers)

    @contextlib.contextmanager
    def stream(self, path: str, *, query: Mapping[str, str], timeout_s: float) -> Iterator[Stream]:
        """See `Transport.stream`."""
        timeout = urllib3.Timeout(connect=_CONNECT_S, read=timeout_s)
        answer = self._send("GET", path, query=query, body=None, headers={}, timeout=timeout, preload=False)
        stream = _HttpStream(answer, what=f"GET {path}")
        try:
            if answer.status >= _HTTP_ERROR:
                text = b"\n".join(stream)
                said = _json_object(text) or {"message": text[:200].decode(errors="replace")}
                raise kube_error(f"GET {path}", code=answer.status, status=said, headers=answer.headers)
            yield stream
        finally:
            answer.close()

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        body: bytes | None,
        headers: dict[str, str],
        timeout: urllib3.Timeout,
        preload: bool,
    ) -> urllib3.BaseHTTPResponse:
        url = self._endpoint.url.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        headers = self._headers | headers
        if authorization := self._endpoint.authorization():
            headers["Authorization"] = authorization
        # A kept-alive connection that the server closed just now breaks on use; only a GET may be sent again.
        for last in (False, True) if method == "GET" else (True,):
            try:
                return self._current_pool().request(
                    method,
                    url,
                    body=body,
                    headers=headers,
                    timeout=timeout,
                    preload_content=preload,
                    retries=False,
                    redirect=False,
                )
            except urllib3.exceptions.ProtocolError as error:
                if last:
                    raise ApiUnavailable(f"{method} {path}: {error}") from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise ApiUnavailable(f"{method} {path}: {_words(error)}") from error
        raise AssertionError("the last attempt returns or raises")

    def _current_pool(self) -> urllib3.PoolManager:
        """The pool, made anew when the CA or the client's certificate was replaced on disk."""
        endpoint = self._endpoint
        client = endpoint.client_files()
        files = [endpoint.ca_file, *(client or ())]
        made_of = [(str(path), _signature(Path(path))) for path in files if path is not None]
        with self._lock:
            if self._pool is None or made_of != self._pool_of:
                self._pool, self._pool_of = _make_pool(endpoint, client), made_of
            return self._pool


class _HttpStream:
    """A `Stream` over a chunked answer."""

    def __init__(self, answer: urllib3.BaseHTTPResponse, *, what: str) -> None:
        self._answer = answer
        self._what = what
        self._closed = False
        self._chunks = answer.stream(_CHUNK)
        self._lines: Iterator[bytes] = iter(())
        self._rest = b""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while not self._closed:
            line = next(self._lines, None)
            if line is not None:
                return line
            try:
                chunk = next(self._chunks)
            except StopIteration:
                break
            except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
                # The last two are what closing in another thread makes of urllib3 and ssl.
                if self._closed:
                    break
                raise ApiUnavailable(f"{self._what}: {error}") from error
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._lines = iter(lines)
        if self._rest and not self._closed:
            last, self._rest = self._rest, b""
            return last
        raise StopIteration

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(RuntimeError, ValueError, OSError):  # it has ended already
            self._answer.shutdown()


def _make_pool(endpoint: Endpoint, client: tuple[str, str] | None) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "num_pools": 2,
        "maxsize": _CONNECTIONS,
        "socket_options": [*HTTPConnection.default_socket_options, *_KEEPALIVE],
    }
    if endpoint.url.startswith("https:"):
        context = ssl.create_default_context(cafile=str(endpoint.ca_file) if endpoint.ca_file else None)
        if client:
            context.load_cert_chain(*client)
        if not endpoint.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        options["ssl_context"] = context
        if endpoint.server_name:
            options |= {"server_hostname": endpoint.server_name, "assert_hostname": endpoint.server_name}
    if endpoint.proxy:
        return urllib3.ProxyManager(endpoint.proxy, **options)
    return urllib3.PoolManager(**options)


def _words(error: Exception) -> str:
    """What went wrong; where a certificate is refused for its dates, with the date here, which may be the wrong one."""
    cause = error.args[0] if error.args else None
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _OUT_OF_DATE:
        return f"{error}; by this machine's clock it is {rfc3339(SYSTEM_CLOCK.now())}: set the clock, or renew the certificate"
    return str(error)


def _signature(path: Path) -> tuple[int, int]:
    """Changes whenever the file is replaced or written."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _json_object(data: bytes) -> JsonObject | None:
    try:
        value = strictjson.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
