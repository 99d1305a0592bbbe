from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from serving.access import AccessError, TokenCheck, Tokens, server_credentials
from serving.admission import WorkerPool
from serving.client import RetrievalClient, RetrievalError
from serving.config import ServingConfig, TlsConfig
from serving.receiving import Receiving
from serving.server import Server, ServerError
from tests.unit.serving import certificates
from tests.unit.serving.certificates import Pair
from tests.unit.serving.echo import ECHO, admission, healthy, message, serving, status_of

UNAUTHENTICATED = (
    grpc.StatusCode.UNAUTHENTICATED,
    "the request needs the metadata authorization: Bearer <token>",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Pair:
    return certificates.make(folder, "authority")


@pytest.fixture(scope="module")
def server(folder: Path, authority: Pair) -> Pair:
    return certificates.make(folder, "server", authority)


@pytest.fixture(scope="module")
def client(folder: Path, authority: Pair) -> Pair:
    return certificates.make(folder, "client", authority)


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Pair:
    return certificates.make(folder, "stranger", certificates.make(folder, "other_authority"))


def ask(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    connect = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    with connect as channel:
        return status_of(lambda: channel.unary_unary(ECHO)(message("x"), timeout=30))[0]


def trusting(authority: Pair, own: Pair | None = None) -> grpc.ChannelCredentials:
    root = authority.certificate.read_bytes()
    if own is None:
        return grpc.ssl_channel_credentials(root)
    return grpc.ssl_channel_credentials(root, own.key.read_bytes(), own.certificate.read_bytes())


def test_tls(authority: Pair, server: Pair, stranger: Pair) -> None:
    pool = WorkerPool(2, 2)
    credentials = server_credentials(TlsConfig(certificate=server.certificate, key=server.key))
    with serving(pool, [admission(pool), Receiving(30)], credentials=credentials) as address:
        assert ask(address, trusting(authority)) is grpc.StatusCode.OK
        assert ask(address, trusting(stranger)) is grpc.StatusCode.UNAVAILABLE
        assert ask(address, None) is grpc.StatusCode.UNAVAILABLE


def test_mutual_tls(authority: Pair, server: Pair, client: Pair, stranger: Pair) -> None:
    pool = WorkerPool(2, 2)
    tls = TlsConfig(certificate=server.certificate, key=server.key, client_ca=authority.certificate)
    with serving(pool, [admission(pool), Receiving(30)], credentials=server_credentials(tls)) as address:
        assert ask(address, trusting(authority, client)) is grpc.StatusCode.OK
        assert ask(address, trusting(authority, stranger)) is grpc.StatusCode.UNAVAILABLE
        assert ask(address, trusting(authority)) is grpc.StatusCode.UNAVAILABLE


def test_bundle_of_authorities_with_comments(
    tmp_path: Path, authority: Pair, server: Pair, client: Pair, stranger: Pair
) -> None:
    bundle = tmp_path / "bundle.pem"
    certificate = authority.certificate.read_bytes()
    bundle.write_bytes(
        stranger.certificate.read_bytes() + "# F\u0151tan\u00fas\u00edtv\u00e1ny\n".encode() + certificate
    )
    pool = WorkerPool(2, 2)
    credentials = server_credentials(TlsConfig(certificate=server.certificate, key=server.key, client_ca=bundle))
    with serving(pool, [admission(pool), Receiving(30)], credentials=credentials) as address:
        assert ask(address, trusting(authority, client)) is grpc.StatusCode.OK
        assert ask(address, trusting(authority)) is grpc.StatusCode.UNAVAILABLE


def test_bundle_with_a_damaged_certificate(tmp_path: Path, authority: Pair, server: Pair) -> None:
    bundle, certificate = tmp_path / "bundle.pem", authority.certificate.read_text()
    bundle.write_text(certificate + certificate.replace("MII", "MIX", 1))
    with pytest.raises(AccessError, match=r"serving\.tls\.client_ca: .*bundle\.pem holds no certificate in PEM form"):
        server_credentials(TlsConfig(certificate=server.certificate, key=server.key, client_ca=bundle))


@pytest.mark.parametrize("key", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize(("content", "problem"), [(None, "cannot read"), (b"", "holds no"), (b"\xff\x00", "holds no")])
def test_files_that_cannot_be_used(tmp_path: Path, server: Pair, key: str, content: bytes | None, problem: str) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    tls = {"certificate": server.certificate, "key": server.key, key: file}
    with pytest.raises(ServerError) as raised:
        Server(tmp_path, "tiny", ServingConfig(port=0, tls=tls))
    assert str(raised.value).startswith(f"serving.tls.{key}: ")
    assert str(file) in str(raised.value)
    assert (problem if key != "key" or content is None else "is no private key") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_key_of_another_certificate(server: Pair, stranger: Pair) -> None:
    with pytest.raises(AccessError) as raised:
        server_credentials(TlsConfig(certificate=server.certificate, key=stranger.key))
    assert str(raised.value) == f"serving.tls.key: {stranger.key} is not the key of {server.certificate}"


def test_key_with_a_passphrase(tmp_path: Path, server: Pair) -> None:
    key = tmp_path / "locked.key"
    key.write_bytes(certificates.pem(server.private, b"secret"))
    with pytest.raises(AccessError) as raised:
        server_credentials(TlsConfig(certificate=server.certificate, key=key))
    assert str(raised.value) == f"serving.tls.key: {key} is no private key in PEM form without a passphrase"


class TestTokens:
    @pytest.fixture(scope="class")
    def channel(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
        file = tmp_path_factory.mktemp("tokens") / "tokens"
        file.write_text("\nold-token\n  new.token~/+=  \r\n\n")
        pool = WorkerPool(2, 2)
        admitting = admission(pool)
        with (
            serving(pool, [TokenCheck(Tokens(file), admitting), admitting, Receiving(30)]) as address,
            grpc.insecure_channel(address) as channel,
        ):
            yield channel

    @pytest.mark.parametrize("value", ["Bearer old-token", "Bearer new.token~/+="])
    def test_each_token_opens(self, channel: grpc.Channel, value: str) -> None:
        answer = channel.unary_unary(ECHO)(message("x"), timeout=30, metadata=[("authorization", value)])
        assert answer == message("x")

    @pytest.mark.parametrize(
        "metadata",
        [
            [],
            [("authorization", "")],
            [("authorization", "Bearer ")],
            [("authorization", "Bearer old-toke")],
            [("authorization", "Bearer old-tokens")],
            [("authorization", "bearer old-token")],
            [("authorization", "old-token")],
            [("authorization", "Bearer  old-token")],
            [("authorization", "Basic b2xk")],
            [("token", "old-token")],
            [("authorization-bin", b"Bearer old-token")],
            [("authorization", "Bearer nobody"), ("authorization", "Bearer old-token")],
        ],
    )
    def test_anything_else_does_not(
        self, channel: grpc.Channel, caplog: pytest.LogCaptureFixture, metadata: list[tuple[str, str | bytes]]
    ) -> None:
        call = channel.unary_unary(ECHO)
        assert status_of(lambda: call(message("x"), timeout=30, metadata=metadata)) == UNAUTHENTICATED
        assert caplog.text == ""

    def test_health_is_open(self, channel: grpc.Channel) -> None:
        assert healthy(channel)

    def test_the_names_of_methods_are_not_told(self, channel: grpc.Channel) -> None:
        assert status_of(lambda: channel.unary_unary("/test.Echo/Other")(b"", timeout=30)) == UNAUTHENTICATED

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "cannot read {}: No such file or directory"),
            (b"", "{} holds no token: write one a line"),
            (b" \n\n", "{} holds no token: write one a line"),
            (b"good\nnot good\n", "{}: a token must be visible ASCII characters, no spaces"),
            ("gut\nnicht-\u00fc".encode(), "{}: a token must be visible ASCII characters, no spaces"),
        ],
    )
    def test_files_that_cannot_be_used(self, tmp_path: Path, content: bytes | None, problem: str) -> None:
        file = tmp_path / "tokens"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ServerError) as raised:
            Server(tmp_path, "tiny", ServingConfig(port=0, token_file=file))
        assert str(raised.value) == "serving.token_file: " + problem.format(file)


def test_our_client_brings_both(tmp_path: Path, authority: Pair, server: Pair) -> None:
    (tmp_path / "tokens").write_text("token")
    pool = WorkerPool(2, 2)
    admitting = admission(pool)
    interceptors = [TokenCheck(Tokens(tmp_path / "tokens"), admitting), admitting, Receiving(30)]
    credentials = server_credentials(TlsConfig(certificate=server.certificate, key=server.key))
    with serving(pool, interceptors, credentials=credentials) as address:
        for token, status in (("token", "UNIMPLEMENTED"), ("other", "UNAUTHENTICATED"), (None, "UNAUTHENTICATED")):
            with (
                RetrievalClient(address, timeout=30, credentials=trusting(authority), token=token) as client,
                pytest.raises(RetrievalError) as raised,
            ):
                client.recommend(query_id="u")
            assert raised.value.status == status  # the test's server has no Recommend
