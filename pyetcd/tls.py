"""Certificates: what the flags name, the contexts that are made of it, and their renewal.

`Certificates` holds one context for each direction. Files that change are read again within a
second and count for every connection that begins then; those that are open go on. Files that
cannot be used, half replaced ones for instance, change nothing: the old contexts stay, and the log
says why.

Never shows what is in a key, and never asks for a passphrase.
"""

import asyncio
import logging
import os
import ssl
from functools import cache
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

# A certificate that was replaced is in use this soon.
RENEW_SECONDS: Final = 1.0

# A file as `stat` sees it: inode, size, time of the last change; None if there is none.
_Seen = tuple[int, int, int] | None


class TlsError(Exception):
    """Certificates that cannot be used: one line, which flag, and what is wrong with its file."""


@cache
def system_context() -> ssl.SSLContext:
    """Return what connects to servers with certificates of authorities that the system trusts."""
    return ssl.create_default_context()


def context_for(url: str) -> ssl.SSLContext | bool:
    """Return what aiohttp is to be given as `ssl` for a URL, without certificates of our own."""
    return system_context() if url.startswith("https:") else True


class TlsFiles(NamedTuple):
    """The flags of one port that name files; "" is none.

    Invariants:
      1. There is a key exactly when there is a certificate.
    """

    cert_file: str = ""
    key_file: str = ""
    # The old name of `trusted_ca_file`, which also demands certificates of clients.
    ca_file: str = ""
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    # What the flags' names begin with: "" or "peer-".
    prefix: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to serve TLS with."""
        return not self.cert_file and not self.key_file

    @property
    def demands_client_certificates(self) -> bool:
        """Whether only clients with a certificate are let in."""
        return self.client_cert_auth or self.ca_file != ""

    def named(self) -> list[tuple[str, str]]:
        """Return flag and path of every file."""
        pairs = (
            ("cert-file", self.cert_file),
            ("key-file", self.key_file),
            ("ca-file", self.ca_file),
            ("trusted-ca-file", self.trusted_ca_file),
        )
        return [(f"-{self.prefix}{name}", path) for name, path in pairs if path]

    def __str__(self) -> str:
        """The words of etcd's log."""
        demanded = "true" if self.client_cert_auth else "false"
        return (
            f"cert = {self.cert_file}, key = {self.key_file}, ca = {self.ca_file},"
            f" trusted-ca = {self.trusted_ca_file}, client-cert-auth = {demanded}"
        )


class Certificates:
    """The contexts of one port, as good as their files.

    Invariants:
      1. `server` is None exactly when the files are empty.
      2. Every context was made of files that fit together.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Read the files. Raises TlsError."""
        self._files = files
        self._seen = _look(files)
        self._timer: asyncio.TimerHandle | None = None
        # What the last attempt to renew ended with, to be logged once.
        self._complaint = ""
        # None until it is asked for, where there are no files that could be wrong: to read all the
        # authorities that the system trusts takes a good part of a member's start.
        self._client = _client_context(files) if files.named() else None
        # Of new connections. `server` must stay one object, since it is given away.
        self._current = None if files.is_empty else _server_context(files)
        self.server = None if files.is_empty else _server_context(files)
        if self.server is not None:
            self.server.sni_callback = self._choose

    def client(self) -> ssl.SSLContext:
        """Return the context for a connection that we begin now."""
        if self._client is None:
            self._client = _client_context(self._files)
        return self._client

    def start(self) -> None:
        """Look after the files, from now on and in this event loop."""
        if self._files.named():
            self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        """Let the files be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def renew(self) -> None:
        """Read the files again if they have changed."""
        seen = _look(self._files)
        if seen == self._seen:
            return
        try:
            client = _client_context(self._files)
            current = None if self._files.is_empty else _server_context(self._files)
        except TlsError as error:
            # Not marked as seen: a file may be half written, and whole with the same look.
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.warning("the certificates stay as they were: %s", error)
            return
        self._seen, self._client, self._current = seen, client, current
        self._complaint = ""
        log.info("read the certificates again: %s", self._files)

    def _choose(self, connection: object, _server_name: str | None, _: ssl.SSLContext) -> None:
        """Called by OpenSSL for each handshake, whether the client names a server or not."""
        assert isinstance(connection, ssl.SSLObject), f"a handshake of {type(connection)}"
        assert self._current is not None, "a handshake without certificates"
        connection.context = self._current

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(RENEW_SECONDS, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._arm(loop)
        self.renew()


def _look(files: TlsFiles) -> list[_Seen]:
    return [_look_at(path) for _, path in files.named()]


def _look_at(path: str) -> _Seen:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, files, ssl.Purpose.CLIENT_AUTH)
    if files.demands_client_certificates:
        context.verify_mode = ssl.CERT_REQUIRED
        # A session that is taken up again would not be verified: its certificate may have been
        # issued by an authority that is no longer trusted.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _client_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, files, ssl.Purpose.SERVER_AUTH)
    return context


def _load(context: ssl.SSLContext, files: TlsFiles, purpose: ssl.Purpose) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As in Go, whatever is in the file of authorities is trusted by itself.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    authorities = [pair for pair in files.named() if pair[0].endswith("ca-file")]
    for flag, path in authorities:
        _read(flag, path)
        try:
            context.load_verify_locations(path)
        except (ssl.SSLError, OSError) as error:
            raise TlsError(f"{flag} {path}: no certificates in it ({_reason(error)})") from None
    if not authorities:
        context.load_default_certs(purpose)
    if not files.is_empty:
        _load_pair(context, files)


def _load_pair(context: ssl.SSLContext, files: TlsFiles) -> None:
    cert_flag, key_flag = f"-{files.prefix}cert-file", f"-{files.prefix}key-file"
    _read(cert_flag, files.cert_file)
    _read(key_flag, files.key_file)
    try:
        context.load_cert_chain(files.cert_file, files.key_file, password=_refuse_passphrase)
    except _EncryptedKey:
        raise TlsError(
            f"{key_flag} {files.key_file}: the key has a passphrase, which nobody can type here;"
            " write it without one, readable by this user alone"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(
                f"{key_flag} {files.key_file}: private key does not match public key"
                f" in {cert_flag} {files.cert_file}"
            ) from None
        raise TlsError(
            f"{cert_flag} {files.cert_file}, {key_flag} {files.key_file}:"
            f" not a certificate and its private key in PEM ({_reason(error)})"
        ) from None
    except OSError as error:
        raise TlsError(f"{cert_flag} {files.cert_file}: {_reason(error)}") from None


class _EncryptedKey(Exception):
    """A key that asks for a passphrase."""


def _refuse_passphrase() -> str:
    raise _EncryptedKey


def _read(flag: str, path: str) -> None:
    """Find out whether a file can be read: OpenSSL does not say which of them it was."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise TlsError(f"{flag}: open {path}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unreadable").lower().replace("_", " ")
    return os.strerror(error.errno).lower() if error.errno else str(error)
