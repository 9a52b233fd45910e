import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared import fetch
from shared.errors import BadRequest, TooLarge
from shared.fetch import Fetcher, UrlBusy, UrlFailed, UrlRefused, is_public

# `{host}` is the server's own.
ANSWERS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "file": (200, {}, b"x" * 100),
    "moved": (302, {"Location": "/file"}, b""),
    "umlaut": (302, {"Location": "/file/\xfc"}, b""),
    "around": (307, {"Location": "http://{host}/around"}, b""),
    "inside": (302, {"Location": "http://127.0.0.1:1/secret"}, b""),
    "metadata": (301, {"Location": "http://169.254.169.254/latest/"}, b""),
    "elsewhere": (302, {"Location": "file:///etc/passwd"}, b""),
    "far": (302, {"Location": "http://1.1.1.1:99999999999999999999/"}, b""),
    "nonsense": (302, {"Location": "http://["}, b""),
    "busy": (429, {"Retry-After": "7"}, b""),
    "odd": (503, {"Retry-After": "\xb2"}, b""),
}
DRIPS = {"dripping": b"HTTP/1.1 200 OK\r\n\r\n", "header": b"HTTP/1.1 200 OK\r\nX-Slow: "}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        what = self.path.split("/")[1]
        if what in DRIPS:
            with suppress(OSError):
                self.wfile.write(DRIPS[what])
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
        elif what == "sleepy":
            time.sleep(0.5)
            self._send(302, {"Location": "/sleepy"}, b"")
        elif what == "endless":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 2000)
        else:
            status, headers, body = ANSWERS.get(what, (404, {}, b"none"))
            host = self.headers["Host"]
            self._send(status, {k: v.format(host=host) for k, v in headers.items()}, body)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


def self_signed(folder: Path) -> Path:
    """Return a file with a key and a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "own.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetcher(port: int) -> Iterator[Fetcher]:
    """May ask the test's server by the name `localhost`, and by no other."""
    fetcher = Fetcher(1000, [f"localhost:{port}"])
    yield fetcher
    fetcher.close()


def test_a_file_comes_through_a_redirect(fetcher: Fetcher, port: int) -> None:
    assert fetcher.get(f"http://localhost:{port}/file") == b"x" * 100
    assert fetcher.get(f"http://localhost:{port}/moved") == b"x" * 100


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/file",
        "http://2130706433:{port}/file",
        "http://0x7f.1:{port}/file",
        "http://[::ffff:127.0.0.1]:{port}/file",
        "http://0.0.0.0:{port}/file",
        "http://localhost:{port}/inside",
        "http://localhost:{port}/metadata",
        "http://10.0.0.1/file",
    ],
)
def test_a_private_address_is_not_asked(fetcher: Fetcher, port: int, url: str) -> None:
    with pytest.raises(UrlRefused, match="not a host of the public internet"):
        fetcher.get(url.format(port=port))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/a.png",
        "//example.org/a.png",
        "a.png",
        "",
        "http://",
        "http://user:secret@example.org/a.png",
        "http://[::1/a.png",
        "http://localhost:{port}/elsewhere",
        "http://a..b/a.png",
        "http://.example.org/a.png",
        "http://" + "a" * 64 + ".org/a.png",
        "http://localhost:0/a.png",
        "http://localhost:-1/a.png",
        "http://localhost:65536/a.png",
        "http://localhost:99999999999999999999/a.png",
        "http://localhost:{port}/far",
    ],
)
def test_what_is_no_address_is_refused(fetcher: Fetcher, port: int, url: str) -> None:
    with pytest.raises(UrlRefused):
        fetcher.get(url.format(port=port))


def test_a_name_is_looked_up_once_and_what_was_checked_is_asked(
    fetcher: Fetcher, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when checked and private when used would get in."""
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def changing(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "localhost":
            return look_up(host, *args, **kwargs)
        asked.append(host)
        return look_up("127.0.0.1" if len(asked) == 1 else "192.0.2.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    assert fetcher.get(f"http://localhost:{port}/file") == b"x" * 100
    assert asked == ["localhost"]


@pytest.mark.parametrize(
    ("path", "message"),
    [("nothing", "answered 404"), ("around", "more than 3 redirects")],
)
def test_an_answer_that_is_no_file_is_named(
    fetcher: Fetcher, port: int, path: str, message: str
) -> None:
    with pytest.raises(UrlFailed, match=message):
        fetcher.get(f"http://localhost:{port}/{path}")


def test_a_server_that_is_not_there_is_named(fetcher: Fetcher) -> None:
    there = Fetcher(1000, ["localhost"])
    with pytest.raises(UrlFailed, match=r"http://localhost:1/a\.png"):
        there.get("http://localhost:1/a.png")
    with pytest.raises(UrlFailed, match=r"no\.such\.host\.invalid"):
        there.get("http://no.such.host.invalid/a.png")


@pytest.mark.parametrize(
    ("code", "is_busy"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)]
)
def test_a_name_that_nobody_has_is_asked_once(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, code: int, is_busy: bool
) -> None:
    def nobody(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(code, "as the resolver says")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(UrlFailed, match="as the resolver says") as caught:
        fetcher.get("http://example.org/a.png")
    assert isinstance(caught.value, UrlBusy) is is_busy


def test_a_server_with_somebody_else_s_certificate_is_not_asked_again(
    port: int, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        own = int(listening.getsockname()[1])

        def serve() -> None:
            with suppress(OSError):
                context.wrap_socket(listening.accept()[0], server_side=True)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(UrlFailed, match="CERTIFICATE_VERIFY_FAILED") as caught:
            Fetcher(1000, [f"localhost:{own}"]).get(f"https://localhost:{own}/a.png")
    assert not isinstance(caught.value, UrlBusy)


def test_redirects_share_the_time_of_one_answer(
    fetcher: Fetcher, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.8)
    started = time.monotonic()
    with pytest.raises(UrlBusy, match="sleepy"):
        fetcher.get(f"http://localhost:{port}/sleepy")
    assert time.monotonic() - started < 1.5


def test_a_host_that_is_busy_says_when_to_come_back(fetcher: Fetcher, port: int) -> None:
    with pytest.raises(UrlBusy, match="answered 429") as caught:
        fetcher.get(f"http://localhost:{port}/busy")
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("path", ["dripping", "header"])
def test_an_answer_that_drips_is_given_up(
    fetcher: Fetcher, port: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.5)
    started = time.monotonic()
    with pytest.raises(UrlBusy):
        fetcher.get(f"http://localhost:{port}/{path}")
    assert time.monotonic() - started < 2


def test_a_path_in_any_script_is_asked_for(fetcher: Fetcher, port: int) -> None:
    for path in ("file/kühe.jpg", "file/%C3%BC", "file/\ufffd", "umlaut"):
        assert fetcher.get(f"http://localhost:{port}/{path}") == b"x" * 100
    with pytest.raises(UrlFailed):
        fetcher.get("http://münchen.invalid/a.png")


@pytest.mark.parametrize(("path", "error"), [("odd", UrlBusy), ("nonsense", BadRequest)])
def test_a_header_that_is_nonsense_fails_its_own_file_alone(
    fetcher: Fetcher, port: int, path: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        fetcher.get(f"http://localhost:{port}/{path}")


def test_requests_to_one_host_keep_their_distance(port: int) -> None:
    slow = Fetcher(1000, [f"localhost:{port}"], rate_per_s=20)
    started = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(slow.get, [f"http://localhost:{port}/file"] * 6))
    assert time.monotonic() - started >= 5 / 20


def test_a_file_larger_than_allowed_is_not_read_to_its_end(port: int) -> None:
    small = Fetcher(99, [f"localhost:{port}"])
    for path in ("file", "endless"):
        with pytest.raises(TooLarge, match="more than 99 bytes"):
            small.get(f"http://localhost:{port}/{path}")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::7f00:1", False),
        ("fec0::2", False),
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("192.0.0.192", False),
        ("168.63.129.16", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public
