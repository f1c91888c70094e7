"""The HTTPS transport: credentials that change, servers that misbehave."""

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from unit.kube.https_server import Authority, Handler, Server, https_server

from hami_dra._lib.threads import Group
from hami_dra.core.errors import ApiUnavailable, Conflict, Forbidden, KubeError
from hami_dra.kube.client import ClusterTransport, Endpoint, TokenFile, in_cluster
from hami_dra.testing.eventually import eventually


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA of the tests' servers."""
    return Authority.make(tmp_path_factory.mktemp("ca"))


class Pod:
    """A pod's view of the API server: the service account's folder, the server, a transport."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority
        self.set_token("first")
        (folder / "ca.crt").write_bytes(authority.ca_file.read_bytes())
        self.server: Server
        self._stack = ExitStack()

    def set_token(self, token: str) -> None:
        """Replace the token as kubelet does: a new file, moved over the old one."""
        (self.folder / "new").write_text(token + "\n", encoding="ascii")
        (self.folder / "new").replace(self.folder / "token")

    def serve(self, answer: Callable[[Handler], None]) -> ClusterTransport:
        """Start the server, and a transport to it as in a pod."""
        self.server = self._stack.enter_context(https_server(self.authority, answer))
        environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.server.port)}
        return ClusterTransport(in_cluster(directory=self.folder, environ=environ))

    def close(self) -> None:
        """Stop the server."""
        self._stack.close()


@pytest.fixture
def pod(tmp_path: Path, authority: Authority) -> Iterator[Pod]:
    """A pod whose server is not started yet."""
    made = Pod(tmp_path, authority)
    yield made
    made.close()


def ok(handler: Handler) -> None:
    """An empty object."""
    handler.send_json(200, {"kind": "Thing"})


def test_requests_carry_credentials_parameters_and_bodies(pod: Pod) -> None:
    """What the API server needs to see, spelt as it wants it."""
    transport = pod.serve(lambda handler: handler.send_json(201, {"kind": "Thing"}, X_Extra="1"))
    answer = transport.request("POST", "/apis/x", query={"fieldSelector": "a=b,c=d"}, body={"k": "ü"}, timeout_s=5)
    assert (answer.status, answer.body, answer.headers["X-Extra"]) == (201, {"kind": "Thing"}, "1")
    seen = pod.server.seen[0]
    assert (seen.method, seen.path) == ("POST", "/apis/x?fieldSelector=a%3Db%2Cc%3Dd")
    assert seen.headers["Authorization"] == "Bearer first"
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.headers["Accept"] == "application/json"
    assert seen.headers["User-Agent"] == "hami-dra"
    assert seen.body == b'{"k":"\\u00fc"}'


def test_a_rotated_token_is_used_for_the_next_request(pod: Pod) -> None:
    """Kubelet replaces the file before the token expires; nobody has to restart for that."""
    valid = ["first"]

    def check(handler: Handler) -> None:
        known = handler.headers["Authorization"] == f"Bearer {valid[0]}"
        handler.send_json(200 if known else 401, {"reason": "Unauthorized", "message": "token expired"})

    transport = pod.serve(check)
    transport.request("GET", "/x")
    valid[0] = "second"
    with pytest.raises(Forbidden, match="401 Unauthorized: token expired"):
        transport.request("GET", "/x")
    pod.set_token("second")
    transport.request("GET", "/x")


def test_a_missing_token_is_an_outage(pod: Pod) -> None:
    """While the file cannot be read there is an error that a retry may cure."""
    transport = pod.serve(ok)
    (pod.folder / "token").unlink()
    with pytest.raises(ApiUnavailable, match="service account token"):
        transport.request("GET", "/x")
    pod.set_token("again")
    transport.request("GET", "/x")
    (pod.folder / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(ApiUnavailable, match="service account token"):
        TokenFile(pod.folder / "token")()


def test_a_server_of_another_authority_is_not_talked_to_until_the_ca_is_replaced(pod: Pod, tmp_path: Path) -> None:
    """A wrong certificate is an error before anything is sent; a rotated CA file is noticed."""
    transport = pod.serve(ok)
    right = (pod.folder / "ca.crt").read_bytes()
    (pod.folder / "ca.crt").write_bytes(Authority.make(tmp_path / "other").ca_file.read_bytes())
    with pytest.raises(ApiUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        transport.request("GET", "/x")
    assert pod.server.seen == []
    (pod.folder / "ca.crt").unlink()
    (pod.folder / "ca.crt").write_bytes(right)
    transport.request("GET", "/x")


@pytest.mark.parametrize(("days", "said"), [(-1, "certificate has expired"), (1, "certificate is not yet valid")])
def test_a_certificate_of_another_time_is_refused_with_the_time_here(
    authority: Authority, days: int, said: str
) -> None:
    """Whoever reads it sees whether the certificate is wrong or the clock."""
    said_here = rf"{said}.*by this machine's clock it is \d{{4}}-.*Z: set the clock"
    with (
        https_server(authority, ok, off_by=dt.timedelta(days=days)) as server,
        pytest.raises(ApiUnavailable, match=said_here),
    ):
        ClusterTransport(Endpoint(server.url, authority.ca_file)).request("GET", "/x")


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_a_name_that_is_not_in_the_certificate_is_refused_unless_it_is_given(authority: Authority) -> None:
    """tls-server-name of a kubeconfig: for servers reached under another name."""
    with https_server(authority, ok, name="api.example.com") as server:
        with pytest.raises(ApiUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            ClusterTransport(Endpoint(server.url, authority.ca_file)).request("GET", "/x")
        named = Endpoint(server.url, authority.ca_file, server_name="api.example.com")
        assert ClusterTransport(named).request("GET", "/x").status == 200
        assert ClusterTransport(Endpoint(server.url, verify=False)).request("GET", "/x").status == 200


def test_a_client_certificate_is_shown(authority: Authority) -> None:
    """For users that are known by certificate."""
    certificate, key = authority.issue("admin")
    with https_server(authority, ok) as server:
        endpoint = Endpoint(server.url, authority.ca_file, client_files=lambda: (str(certificate), str(key)))
        ClusterTransport(endpoint).request("GET", "/x")
        assert server.seen[0].client_certificate
        assert "Authorization" not in server.seen[0].headers


def test_refusals_carry_what_the_server_said(pod: Pod) -> None:
    """A Status becomes an error of the tree; Retry-After goes along."""
    status = {"kind": "Status", "code": 409, "reason": "Conflict", "message": "the object has been modified"}
    transport = pod.serve(lambda handler: handler.send_json(409, status))
    with pytest.raises(Conflict, match="PUT /x: 409 Conflict: the object has been modified"):
        transport.request("PUT", "/x", body={})
    pod.server.answer = lambda handler: handler.send_json(429, {}, Retry_After="3")
    with pytest.raises(ApiUnavailable) as raised:
        transport.request("PUT", "/x", body={})
    assert raised.value.retry_after_s == 3.0


def test_answers_of_somebody_else_are_an_outage(pod: Pod) -> None:
    """A proxy's HTML, whatever its status, is not an answer of the API server."""
    transport = pod.serve(lambda handler: handler.send(502, b"<html>bad gateway</html>"))
    with pytest.raises(ApiUnavailable, match=r"502.*bad gateway"):
        transport.request("GET", "/x")
    pod.server.answer = lambda handler: handler.send(200, b"<html>login</html>")
    with pytest.raises(ApiUnavailable, match="is a proxy in the way"):
        transport.request("GET", "/x")
    pod.server.answer = lambda handler: handler.send_json(200, ["no object"])
    with pytest.raises(ApiUnavailable, match="is a proxy in the way"):
        transport.request("GET", "/x")


def test_connections_are_kept(pod: Pod) -> None:
    """Ten requests one after another use one connection."""
    transport = pod.serve(ok)
    for _ in range(10):
        transport.request("GET", "/x")
    assert len({str(seen.connection) for seen in pod.server.seen}) == 1


def test_forty_requests_at_once_use_forty_connections_and_keep_them(pod: Pod) -> None:
    """No limit on the client's side makes one of a burst wait, and the second burst needs no new connection."""
    barrier = threading.Barrier(40)

    def together(handler: Handler) -> None:
        barrier.wait(15)
        ok(handler)

    transport = pod.serve(together)
    done: list[int] = []
    for burst in (1, 2):
        with Group("burst") as group:
            for index in range(40):
                group.spawn(str(index), lambda: done.append(transport.request("GET", "/x").status))
            eventually(lambda burst=burst: len(done) == 40 * burst, within_s=20)  # type: ignore[misc]  # mypy infers no defaults
    assert len({str(seen.connection) for seen in pod.server.seen}) == 40


def _drop(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def test_a_read_on_a_connection_that_was_just_closed_is_repeated_once(pod: Pod) -> None:
    """Servers close idle connections; that is no outage for a GET, and unknown for a write."""
    broken = [True]

    def once(handler: Handler) -> None:
        if broken and broken.pop():
            _drop(handler)
        else:
            ok(handler)

    transport = pod.serve(once)
    assert transport.request("GET", "/x").status == 200
    assert len(pod.server.seen) == 2
    broken.append(True)
    with pytest.raises(ApiUnavailable, match="PUT /x"):
        transport.request("PUT", "/x", body={})
    assert len(pod.server.seen) == 3
    pod.server.answer = _drop
    with pytest.raises(ApiUnavailable, match="GET /x"):
        transport.request("GET", "/x")
    assert len(pod.server.seen) == 5


def test_nobody_listening_is_an_outage(pod: Pod) -> None:
    """Refused connections are an error that a retry may cure."""
    transport = pod.serve(ok)
    pod.close()
    with pytest.raises(ApiUnavailable, match="GET /x"):
        transport.request("GET", "/x", timeout_s=5)


def test_a_server_that_does_not_answer_costs_no_more_than_the_time_out(pod: Pod) -> None:
    """The caller's deadline holds, and the request is not repeated behind his back."""
    release = threading.Event()

    def hang(_: Handler) -> None:
        release.wait(20)

    transport = pod.serve(ok)
    transport.request("GET", "/x")
    pod.server.answer = hang
    with pytest.raises(ApiUnavailable, match="timed out"):
        transport.request("GET", "/x", timeout_s=0.5)
    release.set()
    assert len(pod.server.seen) == 2


def test_lines_come_as_they_are_sent(pod: Pod) -> None:
    """Chunks are not lines: one may end within a line or hold several."""
    go_on = threading.Event()

    def watch(handler: Handler) -> None:
        handler.begin_chunks()
        handler.chunk(b'{"a":1}\n{"b"')
        go_on.wait(10)
        handler.chunk(b":2}\n")
        handler.chunk(b'{"c":3}\n{"d":4}\nrest')
        handler.chunk(b"")

    transport = pod.serve(watch)
    with transport.stream("/watch", query={"watch": "true"}, timeout_s=10) as lines:
        assert next(lines) == b'{"a":1}'
        go_on.set()
        assert list(lines) == [b'{"b":2}', b'{"c":3}', b'{"d":4}', b"rest"]
    assert pod.server.seen[0].headers["Authorization"] == "Bearer first"


def test_a_silent_watch_can_be_ended_by_another_thread(pod: Pod) -> None:
    """A stop does not wait for the next event, over TLS either."""
    release = threading.Event()

    def silence(handler: Handler) -> None:
        handler.begin_chunks()
        release.wait(20)

    transport = pod.serve(silence)
    with transport.stream("/watch", query={}, timeout_s=15) as lines, Group("g") as group:
        ended = group.event()

        def drain() -> None:
            assert list(lines) == []
            ended.set()

        group.spawn("drain", drain)
        eventually(lambda: pod.server.seen)
        assert not ended.wait(0.1)
        lines.close()
        assert ended.wait(5)
    release.set()


def test_a_watch_that_breaks_is_an_outage(pod: Pod) -> None:
    """Whole lines that came before are not lost; a dead connection is not a polite end."""

    def half(handler: Handler) -> None:
        handler.begin_chunks()
        handler.chunk(b'{"a":1}\n{"b"')
        _drop(handler)

    transport = pod.serve(half)
    with transport.stream("/watch", query={}, timeout_s=5) as lines:
        assert next(lines) == b'{"a":1}'
        with pytest.raises(ApiUnavailable, match="GET /watch"):
            next(lines)


def test_a_watch_that_is_silent_for_too_long_is_an_outage(pod: Pod) -> None:
    """A peer that vanished does not leave a watch hanging for ever."""
    release = threading.Event()

    def silence(handler: Handler) -> None:
        handler.begin_chunks()
        release.wait(20)

    transport = pod.serve(silence)
    with transport.stream("/watch", query={}, timeout_s=2) as lines, pytest.raises(ApiUnavailable, match="timed out"):
        next(lines)
    release.set()


def test_a_refused_watch_says_why(pod: Pod) -> None:
    """The error comes on opening."""
    transport = pod.serve(
        lambda handler: handler.send_json(403, {"reason": "Forbidden", "message": "no watch for you"})
    )
    with (
        pytest.raises(Forbidden, match="403 Forbidden: no watch for you"),
        transport.stream("/w", query={}, timeout_s=5),
    ):
        pass


@pytest.mark.parametrize("missing", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "token", "ca.crt"])
def test_outside_of_a_pod_it_says_what_to_do(pod: Pod, missing: str) -> None:
    """Without address, token or CA there is a message that names the way out."""
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert in_cluster(directory=pod.folder, environ=environ).url == "https://[fd00::1]:443"
    environ.pop(missing, None)
    (pod.folder / missing).unlink(missing_ok=True)
    with pytest.raises(KubeError, match="give a kubeconfig instead"):
        in_cluster(directory=pod.folder, environ=environ)
