"""Who may ask: TLS, client certificates and tokens."""

from __future__ import annotations

import hmac
import ssl
from pathlib import Path

import grpc

from serving.admission import HEALTH, Admission, Continuation
from serving.config import TlsConfig


class AccessError(ValueError):
    """A certificate, a key or a token file cannot be used; the text names the file."""


class Tokens:
    """The tokens that open the server. Safe for any number of threads."""

    def __init__(self, file: Path) -> None:
        """Args:
          file: one token a line; with several, callers move from one to the next in their own time.

        Raises:
          AccessError: the file cannot be read, has no token, or one that cannot be sent in a header.
        """
        lines = _read(file, "token_file").splitlines()
        self._expected = [b"Bearer " + line.strip() for line in lines if line.strip()]
        if not self._expected:
            raise AccessError(f"serving.token_file: {file} holds no token: write one a line")
        if any(not 0x20 < byte < 0x7F for token in self._expected for byte in token[len("Bearer ") :]):
            raise AccessError(f"serving.token_file: {file}: a token must be visible ASCII characters, no spaces")

    def open_to(self, authorization: str | bytes) -> bool:
        """Whether a header or metadata `authorization` is "Bearer " and one of the tokens."""
        sent = authorization.encode(errors="replace") if isinstance(authorization, str) else authorization
        # A list and not any(): each token is compared, in the same time whether it fits or not.
        return True in [hmac.compare_digest(sent, expected) for expected in self._expected]


class TokenCheck(grpc.ServerInterceptor):
    """Refuses every call but health checks whose metadata lacks `authorization: Bearer <token>`."""

    def __init__(self, tokens: Tokens, admission: Admission) -> None:
        """Args:
        tokens: that open the server.
        admission: runs the refusals.
        """
        self._tokens = tokens
        self._refusal = admission.refusal(
            grpc.StatusCode.UNAUTHENTICATED, "the request needs the metadata authorization: Bearer <token>"
        )

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Called by gRPC for each call."""
        metadata = handler_call_details.invocation_metadata
        given = next((value for key, value in metadata if key == "authorization"), "")
        if handler_call_details.method.startswith(HEALTH) or self._tokens.open_to(given):
            return continuation(handler_call_details)
        return self._refusal


def server_credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    """The gRPC port's credentials; with `client_ca` a client must show a certificate signed by it.

    Raises:
      AccessError: a file cannot be read or is not what it should be, or key and certificate are not of each other.
    """
    certificate, key = _read(tls.certificate, "tls.certificate"), _read(tls.key, "tls.key")
    authority = None if tls.client_ca is None else _read(tls.client_ca, "tls.client_ca")
    # gRPC itself would start, write to the log and refuse each handshake.
    _check_certificates(tls.certificate, "tls.certificate")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise AccessError(f"serving.tls.key: {tls.key} is not the key of {tls.certificate}") from error
        raise AccessError(f"serving.tls.key: {tls.key} is no private key in PEM form without a passphrase") from error
    if authority is not None and tls.client_ca is not None:
        _check_certificates(tls.client_ca, "tls.client_ca")
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=authority is not None)


def channel_credentials(ca: Path) -> grpc.ChannelCredentials:
    """Credentials of a client that trusts one authority.

    Raises:
      AccessError: the file cannot be read or holds no certificate.
    """
    content = _read(ca, "tower.ca")
    _check_certificates(ca, "tower.ca")
    return grpc.ssl_channel_credentials(content)


def _read(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise AccessError(f"serving.{key}: cannot read {file}: {error.strerror}") from error


def _check_certificates(file: Path, key: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError as error:
        raise AccessError(f"serving.{key}: {file} holds no certificate in PEM form") from error
