"""Media over https: only from public addresses, from the checked address, and within limits of size and time."""

import datetime
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import promptreel.api.uploads.store
from promptreel.api.uploads.fetch import fetch_https, is_public, resolve_host
from promptreel.api.web.errors import ApiError
from tests.api_server import assert_error, ok_json
from tests.pipeline_runs import wait_for

pytest_plugins = ["tests.api_fixtures"]

HOST = "media.example"

NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8
    192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
    64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:a00:1:: 2002:a9fe:a9fe:: fc00::1 fd00:ec2::254 fe80::1
    fe80::1%1 fec0::1 ff02::1 5f00::1
""".split()
PUBLIC = "1.1.1.1 8.8.8.8 93.184.216.34 2606:4700:4700::1111 2a00:1450::1 64:ff9b::808:808 2002:808:808::1".split()


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_of_a_special_network_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_internet_address_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize("written", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "localhost", "127.0.0.1"])
def test_every_spelling_of_localhost_is_rejected(written, tmp_path):
    assert not any(is_public(address) for address in resolve_host(written))
    with pytest.raises(ApiError, match="not on the public internet"):
        fetch_https(f"https://{written}/a.mp4", tmp_path / "out", 1000)


class TlsServer:
    """A server named `HOST` that sends `answer` (bytes, or a function of the socket) and records requests."""

    def __init__(self, folder):
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nmedia"
        self.requests = []
        self.context = ssl.create_default_context(cafile=write_certificate(folder, HOST))
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        self._own = own
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._closed.set()
        self._listening.close()

    def _accept(self):
        while not self._closed.is_set():
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain):
        try:
            with self._own.wrap_socket(plain, server_side=True) as connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                self.requests.append(request.decode())
                if callable(self.answer):
                    self.answer(connection)
                else:
                    connection.sendall(self.answer)
        except OSError:
            pass  # the client disconnected


def write_certificate(folder, host):
    """Write a self-signed certificate (certificate.pem) and its key (key.pem); return the certificate's path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    server = TlsServer(tmp_path_factory.mktemp("tls"))
    yield server
    server.close()


@pytest.fixture
def fetch(tls, tmp_path):
    """Function that fetches from the TLS server: `HOST` resolves to it, and its address counts as public."""
    tls.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nmedia"
    tls.requests.clear()

    def run(url=f"https://{HOST}/a.mp4?token=secret", *, max_bytes=1000, **options):
        out = tmp_path / "out"
        defaults = {"resolve": lambda host: ["127.0.0.1"], "allowed": lambda address: True, "context": tls.context}
        fetch_https(url, out, max_bytes, port=tls.port, **{**defaults, **options})
        return out.read_bytes()

    return run


def test_a_file_is_fetched_with_its_host_name(fetch, tls):
    assert fetch() == b"media"
    assert tls.requests[0].startswith("GET /a.mp4?token=secret HTTP/1.1\r\n")
    assert f"Host: {HOST}" in tls.requests[0]


def test_dns_rebinding_has_no_effect(fetch, tls):
    """A second lookup would return an address where nothing listens; there must be none."""
    answers = iter([["127.0.0.1"], ["127.0.0.9"], ["127.0.0.9"]])
    lookups = []

    def resolve(host):
        lookups.append(host)
        return next(answers)

    assert fetch(resolve=resolve, allowed=lambda address: address == "127.0.0.1") == b"media"
    assert lookups == [HOST]


def test_every_address_of_a_name_must_be_public(fetch, tls):
    for addresses in (["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], []):
        with pytest.raises(ApiError, match="not on the public internet"):
            fetch(resolve=lambda host, found=addresses: found, allowed=lambda address: address == "127.0.0.1")
    assert tls.requests == []


def test_an_invalid_certificate_is_rejected(fetch, tls):
    with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch("https://other.example/a.mp4")
    with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(context=ssl.create_default_context())


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/a.mp4",
        f"ftp://{HOST}/a.mp4",
        f"https://user@{HOST}/a.mp4",
        f"https://user:word@{HOST}/a.mp4",
        f"https://@{HOST}/a.mp4",
        f"https://{HOST}:8443/a.mp4",
        f"https://{HOST}:80/a.mp4",
        f"https://{HOST}:99999/a.mp4",
        f"https://{HOST}:x/a.mp4",
        "https:///a.mp4",
        "https://",
        "https://[::1",
        "https://.example/a.mp4",
        "https://a..example/a.mp4",
        f"https://{HOST}/a b.mp4",
        f"https://{HOST}/ä.mp4",
        f"https://{HOST}/a\x7f",
    ],
)
def test_ambiguous_urls_are_rejected_without_a_request(fetch, tls, url):
    with pytest.raises(ApiError) as error:
        fetch(url)
    assert (error.value.status, error.value.code) == (422, "media_uri_refused")
    assert tls.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 204, 206, 401, 404, 500])
def test_only_status_200_is_media(fetch, tls, status):
    tls.answer = f"HTTP/1.1 {status} X\r\nLocation: https://{HOST}/b\r\nContent-Length: 0\r\n\r\n".encode()
    with pytest.raises(ApiError, match=str(status)):
        fetch()
    assert len(tls.requests) == 1


def test_a_body_over_the_limit_is_cut_off(fetch, tls):
    tls.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\nConnection: close\r\n\r\n" + b"0" * 1001
    with pytest.raises(ApiError) as error:
        fetch()
    assert (error.value.status, error.value.code) == (413, "media_too_large")
    tls.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n" + b"0" * 1000
    assert len(fetch()) == 1000


@pytest.mark.parametrize("head", ["Transfer-Encoding: chunked", "Connection: close"])
def test_an_endless_body_is_cut_off(fetch, tls, head):
    sent = []

    def endless(connection):
        connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
        block = b"400\r\n" + b"0" * 0x400 + b"\r\n"
        for _ in range(100_000):
            connection.sendall(block)
            sent.append(len(block))

    tls.answer = endless
    with pytest.raises(ApiError) as error:
        fetch(max_bytes=100_000)
    assert error.value.status == 413
    assert sum(sent) < 90_000_000


def drip_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    _drip(connection)


def drip_body_with_length(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    _drip(connection)


def drip_headers(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    _drip(connection)


def silence(connection):
    time.sleep(20)


def _drip(connection):
    for _ in range(400):
        connection.sendall(b"0")
        time.sleep(0.05)


@pytest.mark.parametrize("slow", [drip_body, drip_body_with_length, drip_headers, silence])
def test_a_slow_server_is_cut_off(fetch, tls, slow):
    tls.answer = slow
    started = time.monotonic()
    with pytest.raises(ApiError, match="takes longer than") as error:
        fetch(timeout_s=0.5)
    assert error.value.code == "media_uri_refused"
    assert time.monotonic() - started < 15  # the server would send for 20 s


def test_a_truncated_body_is_an_error(fetch, tls):
    tls.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nonly this"
    with pytest.raises(ApiError):
        fetch()


def test_an_error_hides_the_query_of_the_url(fetch, tls):
    tls.answer = b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(ApiError) as error:
        fetch()
    assert "secret" not in error.value.message
    assert "secret" not in str(error.value.details)


def test_media_over_https_is_registered_and_stored(tls, world, caller, api_media, monkeypatch):
    content = (api_media / "a.mp4").read_bytes()
    tls.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(content), content)
    options = {"resolve": lambda host: ["127.0.0.1"], "allowed": lambda address: True, "context": tls.context}
    monkeypatch.setattr(
        promptreel.api.uploads.store,
        "fetch_https",
        lambda url, out, max_bytes: fetch_https(url, out, max_bytes, port=tls.port, **options),
    )
    uri = f"https://{HOST}/films/a.mp4?token=1"
    body = ok_json(caller.post("/videos", {"title": "far", "video_uri": uri}), 201)
    assert (body["source_kind"], body["media_type"], body["video_uri"]) == ("https", "video", uri)
    names = [name for name in world.service.uploads() if body["video_id"] in name]
    assert names == [f"uploads/{body['video_id']}/source.mp4"]
    assert (world.service.data / names[0]).read_bytes() == content
    ok_json(caller.delete(f"/videos/{body['video_id']}"))
    assert not (world.service.data / names[0]).exists()


def test_the_api_rejects_private_addresses(caller):
    for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "2130706433", "localhost", "10.1.2.3"):
        assert_error(caller.post("/videos", {"title": "t", "video_uri": f"https://{host}/a"}), 422, "media_uri_refused")


def test_slow_fetches_do_not_block_other_requests(tls, service, monkeypatch):
    """More registrations than threads wait for a slow server; other requests are served meanwhile."""
    options = {"resolve": lambda host: ["127.0.0.1"], "allowed": lambda address: True, "context": tls.context}
    release, active, active_counts = threading.Event(), [], []

    def hold(url, out, max_bytes):
        active.append(url)
        active_counts.append(len(active))
        release.wait(60)
        active.remove(url)
        fetch_https(url, out, max_bytes, port=tls.port, **options)

    tls.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    monkeypatch.setattr(promptreel.api.uploads.store, "fetch_https", hold)
    slow, quick = service.caller(), service.caller()

    def register(number):
        return slow.post("/videos", {"title": "t", "video_uri": f"https://{HOST}/{number}.mp4"})

    with ThreadPoolExecutor(50) as pool:
        waiting = [pool.submit(register, number) for number in range(50)]
        wait_for(lambda: len(active) == 8)
        try:
            ok_json(quick.get("/playground/videos", timeout=20))
            ok_json(quick.get("/prompts", timeout=20))
        finally:
            release.set()
        for response in waiting:
            assert_error(response.result(), 422, "media_uri_refused")
    assert max(active_counts) == 8
