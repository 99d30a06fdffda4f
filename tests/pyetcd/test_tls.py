"""Certificates: files that fit together become contexts, others a line that says which is wrong."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pyetcd.tls import Certificates, TlsError, TlsFiles, context_for, system_context
from tests.authority import Authority


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object]:
    """Shake hands in memory; the server's certificate as the client sees it. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    # What the server thinks of the client's certificate comes after the client is done (TLS 1.3).
    for end in ends:
        try:
            end.read(1)
        except ssl.SSLWantReadError:
            pass
    return dict(ends[0].getpeercert() or {})


def serial(server: ssl.SSLContext, client: ssl.SSLContext) -> object:
    return handshake(server, client)["serialNumber"]


def server_of(certificates: Certificates) -> ssl.SSLContext:
    assert certificates.server is not None
    return certificates.server


def test_two_members_with_certificates_of_one_authority_shake_hands(ca: Authority) -> None:
    """The client side checks the name, the server side wants a certificate, and gets one."""
    cert, key = ca.issue("member")
    files = TlsFiles(cert, key, trusted_ca_file=ca.path, client_cert_auth=True)
    certificates = Certificates(files)
    assert handshake(server_of(certificates), certificates.client())["subjectAltName"] == (
        ("IP Address", "127.0.0.1"),
    )


def test_no_files_are_a_client_that_trusts_the_system() -> None:
    """Without certificates there is nothing to serve with, but https can be dialed."""
    certificates = Certificates(TlsFiles())
    assert certificates.server is None
    assert certificates.client().verify_mode is ssl.CERT_REQUIRED
    assert certificates.client().check_hostname


def test_authorities_of_the_system_are_read_when_https_is_dialed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There are so many that they would take a third of a member's start."""
    read: list[object] = []
    load = ssl.SSLContext.load_default_certs

    def spy(context: ssl.SSLContext, purpose: ssl.Purpose) -> None:
        read.append(context)
        load(context, purpose)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", spy)
    certificates = Certificates(TlsFiles())
    assert read == []
    context = certificates.client()
    assert certificates.client() is context
    assert read == [context]


@pytest.mark.parametrize("old_name", [False, True])
def test_client_without_certificate_is_refused_when_one_is_demanded(
    ca: Authority, old_name: bool
) -> None:
    """`-client-cert-auth` demands it, and so does `-ca-file` by itself."""
    cert, key = ca.issue("member")
    if old_name:
        files = TlsFiles(cert, key, ca_file=ca.path)
    else:
        files = TlsFiles(cert, key, trusted_ca_file=ca.path, client_cert_auth=True)
    bare = Certificates(TlsFiles(trusted_ca_file=ca.path)).client()
    with pytest.raises(ssl.SSLError):
        handshake(server_of(Certificates(files)), bare)


def test_client_without_certificate_is_let_in_when_none_is_demanded(ca: Authority) -> None:
    """`-trusted-ca-file` alone lets in everybody, as in etcd."""
    cert, key = ca.issue("member")
    server = server_of(Certificates(TlsFiles(cert, key, trusted_ca_file=ca.path)))
    assert handshake(server, Certificates(TlsFiles(trusted_ca_file=ca.path)).client())


def test_client_with_certificate_of_another_authority_is_refused(
    ca: Authority, tmp_path: Path
) -> None:
    """What another authority has signed counts as nothing."""
    cert, key = ca.issue("member")
    files = TlsFiles(cert, key, trusted_ca_file=ca.path, client_cert_auth=True)
    stranger = Authority(tmp_path, "other").issue("stranger")
    client = Certificates(TlsFiles(*stranger, trusted_ca_file=ca.path)).client()
    with pytest.raises(ssl.SSLError):
        handshake(server_of(Certificates(files)), client)


def test_protocols_before_tls_1_2_are_refused(ca: Authority) -> None:
    """Whatever OpenSSL is built or configured to allow."""
    certificates = Certificates(TlsFiles(*ca.issue("member")))
    for context in (server_of(certificates), certificates.client()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_replaced_certificate_serves_the_next_connection(ca: Authority) -> None:
    """The context that was given to a listener serves the new certificate."""
    cert, key = ca.issue("member")
    certificates = Certificates(TlsFiles(cert, key, trusted_ca_file=ca.path))
    server = server_of(certificates)
    before = serial(server, certificates.client())
    certificates.renew()
    assert serial(server, certificates.client()) == before
    ca.issue("member")
    certificates.renew()
    assert serial(server, certificates.client()) != before


def test_replaced_authority_is_the_only_one_trusted_from_then_on(
    ca: Authority, tmp_path: Path
) -> None:
    """A client whose authority was replaced is refused, one of the new authority let in."""
    cert, key = ca.issue("member")
    files = TlsFiles(cert, key, trusted_ca_file=ca.path, client_cert_auth=True)
    certificates = Certificates(files)
    server = server_of(certificates)
    old = certificates.client()
    handshake(server, old)
    replaced = Authority(tmp_path)
    replaced.issue("member")
    certificates.renew()
    with pytest.raises(ssl.SSLError):
        handshake(server, old)
    handshake(server, certificates.client())


def test_half_replaced_files_leave_the_old_ones_in_use(
    ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate without its key is told once and served never; with its key it is in use."""
    cert, key = ca.issue("member")
    certificates = Certificates(TlsFiles(cert, key, trusted_ca_file=ca.path))
    server = server_of(certificates)
    before = serial(server, certificates.client())
    new_key = Path(ca.issue("new")[1]).read_bytes()
    Path(cert).write_bytes(Path(cert).with_name("new.pem").read_bytes())
    with caplog.at_level(logging.WARNING):
        certificates.renew()
        certificates.renew()
    assert caplog.text.count("the certificates stay as they were") == 1
    assert "private key does not match public key" in caplog.text
    assert serial(server, certificates.client()) == before
    Path(key).write_bytes(new_key)
    certificates.renew()
    assert serial(server, certificates.client()) != before


def test_files_are_looked_at_again_by_a_timer(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`start` renews by itself until `stop`."""
    monkeypatch.setattr("pyetcd.tls.RENEW_SECONDS", 0.001)
    cert, key = ca.issue("member")
    certificates = Certificates(TlsFiles(cert, key))
    before = certificates.client()

    async def scenario() -> None:
        certificates.start()
        ca.issue("member")
        async with asyncio.timeout(5):
            while certificates.client() is before:  # noqa: ASYNC110  (a timer tells nobody)
                await asyncio.sleep(0.001)
        certificates.stop()
        certificates.stop()

    asyncio.run(scenario())


def missing_cert(ca: Authority, tmp_path: Path) -> TlsFiles:
    return TlsFiles(str(tmp_path / "none.pem"), ca.issue("a")[1])


def missing_key(ca: Authority, tmp_path: Path) -> TlsFiles:
    return TlsFiles(ca.issue("a")[0], str(tmp_path / "none.pem"), prefix="peer-")


def missing_authority(ca: Authority, tmp_path: Path) -> TlsFiles:
    return TlsFiles(*ca.issue("a"), trusted_ca_file=str(tmp_path / "none.pem"))


def empty_authority(ca: Authority, tmp_path: Path) -> TlsFiles:
    (tmp_path / "none.pem").touch()
    return TlsFiles(*ca.issue("a"), ca_file=str(tmp_path / "none.pem"))


def other_key(ca: Authority, _: Path) -> TlsFiles:
    return TlsFiles(ca.issue("a")[0], ca.issue("b")[1])


def no_certificate(ca: Authority, tmp_path: Path) -> TlsFiles:
    (tmp_path / "none.pem").write_text("no PEM")
    return TlsFiles(str(tmp_path / "none.pem"), ca.issue("a")[1])


def locked_key(ca: Authority, tmp_path: Path) -> TlsFiles:
    cert, key = ca.issue("a")
    secret = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    (tmp_path / "locked.pem").write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    return TlsFiles(cert, str(tmp_path / "locked.pem"))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (missing_cert, "-cert-file: open {dir}/none.pem: no such file or directory"),
        (missing_key, "-peer-key-file: open {dir}/none.pem: no such file or directory"),
        (missing_authority, "-trusted-ca-file: open {dir}/none.pem: no such file or directory"),
        (empty_authority, "-ca-file {dir}/none.pem: no certificates in it (no certificate or crl"),
        (other_key, "-key-file {dir}/b-key.pem: private key does not match public key in -cert-f"),
        (no_certificate, "-cert-file {dir}/none.pem, -key-file {dir}/a-key.pem: not a certificat"),
        (locked_key, "-key-file {dir}/locked.pem: the key has a passphrase, which nobody can typ"),
    ],
)
def test_unusable_file_is_named_with_its_flag(
    ca: Authority, tmp_path: Path, make: Callable[[Authority, Path], TlsFiles], line: str
) -> None:
    """One line that begins with the flag, and nothing of the key in it."""
    files = make(ca, tmp_path)
    with pytest.raises(TlsError) as raised:
        Certificates(files)
    text = str(raised.value)
    assert text.startswith(line.format(dir=tmp_path))
    assert "\n" not in text


def test_context_for_is_of_the_system_where_it_is_needed():
    """One for all, as to read all authorities takes its time; and none for plain http."""
    assert context_for("http://h:1") is True
    context = context_for("https://h:1")
    assert context is system_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
