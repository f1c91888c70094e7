"""A tiny HTTPS server that misbehaves on request: what `kube.client` is tested against."""

import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hami_dra._lib.threads import Group


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: object
    client_certificate: bool


@dataclass
class Server:
    """The running server."""

    url: str
    port: int
    answer: "Callable[[Handler], None]"
    seen: list[Seen] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Records each request, then does what the test says."""

    protocol_version = "HTTP/1.1"
    state: Server
    timeout = 20

    def handle_any(self) -> None:
        """Record and answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        tls = self.connection if isinstance(self.connection, ssl.SSLSocket) else None
        certificate = bool(tls and tls.getpeercert(binary_form=True))
        self.state.seen.append(
            Seen(self.command, self.path, dict(self.headers), body, self.client_address, certificate)
        )
        self.state.answer(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name of the base class
        """Say nothing."""

    def send(self, status: int, body: bytes, **headers: str) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, status: int, body: object, **headers: str) -> None:
        """A whole answer in JSON."""
        self.send(status, json.dumps(body).encode(), **headers)

    def begin_chunks(self) -> None:
        """The head of a chunked answer."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """One chunk; an empty one ends the answer."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


class _Quiet(ThreadingHTTPServer):
    """Clients that break off are the point of the tests."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


@dataclass
class Authority:
    """A certificate authority in a folder."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        """A new one; its certificate is ca.crt."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate("ca", key, issuer="ca", issuer_key=key, authority=True)
        (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder, key, certificate)

    @property
    def ca_file(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.crt"

    def issue(self, name: str, *, off_by: dt.timedelta = dt.timedelta()) -> tuple[Path, Path]:
        """Certificate and key for `name`, which is also valid for 127.0.0.1; for an hour before and after now, or `off_by`."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, issuer="ca", issuer_key=self.key, off_by=off_by)
        paths = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


@contextmanager
def https_server(
    authority: Authority,
    answer: Callable[[Handler], None],
    *,
    name: str = "localhost",
    off_by: dt.timedelta = dt.timedelta(),
) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1 whose certificate is for `name`, its dates `off_by`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(name, off_by=off_by))
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    state = Server("", 0, answer)
    server = _Quiet(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"state": state}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state.port = server.server_address[1]
    state.url = f"https://127.0.0.1:{state.port}"
    with Group("https") as group:
        group.spawn("server", lambda: server.serve_forever(poll_interval=0.01))
        try:
            yield state
        finally:
            server.shutdown()
            server.server_close()


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    authority: bool = False,
    off_by: dt.timedelta = dt.timedelta(),
) -> x509.Certificate:
    now = dt.datetime.now(tz=dt.UTC) + off_by
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name == "localhost":
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
