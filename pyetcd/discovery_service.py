"""`pyetcd discovery`: a public discovery service, where new clusters find their members.

    GET /new?size=3      makes a token and answers its URL, for `-discovery`
    GET /TOKEN           shows who registered; members watch it with ?wait=true&recursive=true
    PUT /TOKEN/ID        registers a member, once; DELETE takes it back

The tokens are directories in an etcd v2 store, which answers for itself: only its headers and
bodies are shown. Nobody can write anything but registrations of members, in bounded number and
size, and each client may do so much a minute. A token ends by its TTL, counted from its making: to
prolong it would show up in the members' watches as another registration.
"""

import asyncio
import base64
import json
import logging
import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlencode, urlsplit

import click

from pyetcd.httpd import TEXT_PLAIN, FormError, Listener, Request, bind_tcp
from pyetcd.relay import Limits, MaybeSent, NotSent, Relay, answer
from pyetcd.tls import Certificates, TlsFiles
from pyetcd.urls import UrlError, address, is_secure, parse_urls, parse_urls_map

log = logging.getLogger(__name__)

# Where the tokens are in the store: the place that discovery.etcd.io had.
REGISTRY: Final = "/v2/keys/_etcd/registry"
DEFAULT_SIZE: Final = 3
# A registration is a name and some URLs.
MAX_VALUE_BYTES: Final = 4096
# More registrations than members happen, when they start at the same moment.
MAX_EXTRA_REGISTRATIONS: Final = 10
# What one client may ask besides new tokens; a member that waits asks once a minute.
REQUESTS_PER_MINUTE: Final = 1200
MAX_WAITING: Final = 64
# Clients whose rates are remembered.
MAX_CLIENTS: Final = 10_000
GRACE_SECONDS: Final = 1.0

_TOKEN: Final = re.compile(r"[0-9a-f]{32}")
_MEMBER: Final = re.compile(r"[0-9a-f]{1,16}")
_HOST: Final = re.compile(rb"[A-Za-z0-9.:\[\]-]{1,255}")
_JSON_HEAD: Final = b"Content-Type: application/json\r\n"
_FORM_HEADERS: Final = (("Content-Type", "application/x-www-form-urlencoded"),)
_LIMITS: Final = Limits(connect_seconds=2, write_seconds=5, read_seconds=0)
_HELP: Final = b"""\
etcd discovery service

GET /new?size=3  answers the URL of a new token, for the flag -discovery of each member
GET /TOKEN       shows who has registered
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line of the service."""

    listen: str
    # URL of an etcd v2 store; "" starts one in `data_dir`.
    etcd: str
    data_dir: Path
    # What the URLs of new tokens begin with; "" takes what the client calls the service.
    public_url: str
    ttl_seconds: int
    max_size: int
    # New tokens of one client.
    per_minute: int
    tls: TlsFiles


class Refusal(Exception):
    """A request that is not served: its status and one line."""

    def __init__(self, status: int, text: str, head: bytes = b"") -> None:
        super().__init__(text)
        self.status = status
        self.head = head


class Rate:
    """How much of something each client may do: `per_minute`, all at once or spread.

    Invariants:
      1. At most MAX_CLIENTS are remembered; who was seen longest ago is forgotten.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        # What is left, and when that was.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Count one. Raises Refusal when there is none left."""
        now = self._clock()
        left, then = self._left.pop(client, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - then) * self._per_minute / 60)
        allowed = left >= 1
        self._left[client] = (left - 1 if allowed else left, now)
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        if not allowed:
            seconds = round(60 / self._per_minute) + 1
            raise Refusal(
                429,
                "discovery: too many requests, try again later",
                b"Retry-After: %d\r\n" % seconds,
            )


class Registry:
    """The handler: tokens in an etcd v2 store."""

    def __init__(
        self,
        options: Options,
        store_url: str,
        relay: Relay,
        *,
        clock: Callable[[], float],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        parts = urlsplit(store_url)
        host = parts.netloc.rpartition("@")[2]
        self._base = f"{parts.scheme}://{host}{parts.path.rstrip('/')}{REGISTRY}"
        self._authorization: tuple[tuple[str, str], ...] = ()
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            coded = base64.b64encode(pair.encode()).decode()
            self._authorization = (("Authorization", f"Basic {coded}"),)
        self._options = options
        self._relay = relay
        self._on_crash = on_crash
        self._new_tokens = Rate(options.per_minute, clock)
        self._requests = Rate(REQUESTS_PER_MINUTE, clock)
        self._waiting: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, request: Request) -> None:
        """Answer a request, mostly later."""
        task = asyncio.get_running_loop().create_task(self._handle(request))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        request.on_disconnect = lambda: _cancel(task)

    async def close(self) -> None:
        """Give up what is still being asked."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, request: Request) -> None:
        client = request.remote_address.rpartition(":")[0]
        self._waiting[client] += 1
        try:
            self._requests.take(client)
            if self._waiting[client] > MAX_WAITING:
                raise Refusal(429, "discovery: too many requests at the same time")
            await self._route(request, client)
        except Refusal as refusal:
            _message(request, refusal.status, str(refusal), refusal.head)
        except (NotSent, MaybeSent) as error:
            log.warning("the store at %s does not answer: %s", self._base, error)
            _message(request, 503, "discovery: the store does not answer")
        finally:
            self._waiting[client] -= 1
            if self._waiting[client] == 0:
                del self._waiting[client]

    async def _route(self, request: Request, client: str) -> None:
        words = request.path.decode("utf-8", "replace").strip("/").split("/")
        reads = request.method in (b"GET", b"HEAD")
        match words:
            case [""] if reads:
                request.respond(200, TEXT_PLAIN, _HELP)
            case ["health"] if reads:
                await self._health(request)
            case ["new"] if reads or request.method in (b"PUT", b"POST"):
                size = _size(request, self._options.max_size)
                self._new_tokens.take(client)
                await self._new(request, size)
            case [token, *rest] if _TOKEN.fullmatch(token) and len(rest) <= 2:
                await self._below(request, token, rest)
            case _:
                raise Refusal(404, "discovery: no such page; see /")

    async def _new(self, request: Request, size: int) -> None:
        token = secrets.token_hex(16)
        ttl = str(self._options.ttl_seconds)
        await self._write(token, {"dir": "true", "ttl": ttl, "prevExist": "false"})
        # The store's own expiry takes the whole directory.
        await self._write(f"{token}/_config/size", {"value": str(size), "prevExist": "false"})
        request.respond(200, TEXT_PLAIN, f"{self._public_url(request)}/{token}".encode())

    async def _below(self, request: Request, token: str, rest: Sequence[str]) -> None:
        """Read a token or what is below it, or register a member."""
        path = "/".join((token, *rest))
        if request.method in (b"GET", b"HEAD"):
            query = request.query.decode("ascii", "replace")
            await self._pass(request, "GET", f"{path}?{query}" if query else path)
            return
        if len(rest) != 1 or _MEMBER.fullmatch(rest[0]) is None:
            raise Refusal(403, "discovery: only members can be registered, as /TOKEN/ID")
        match request.method:
            case b"PUT" | b"POST":
                value = _registration(request)
                await self._check_room(token)
                form = urlencode({"value": value, "prevExist": "false"})
                await self._pass(request, "PUT", path, form.encode())
            case b"DELETE":
                await self._pass(request, "DELETE", path)
            case _:
                raise Refusal(405, "discovery: method not allowed", b"Allow: GET,PUT,DELETE\r\n")

    async def _check_room(self, token: str) -> None:
        """Refuse to register for a token that does not exist, or has more than its members."""
        node = await self._read(token)
        config = await self._read(f"{token}/_config/size")
        if node is None or config is None:
            raise Refusal(404, "discovery: token not found")
        children, size = node.get("nodes"), config.get("value")
        count = len(children) if isinstance(children, list) else 0
        most = (int(size) if isinstance(size, str) else 0) + MAX_EXTRA_REGISTRATIONS
        if count >= most:
            raise Refusal(403, "discovery: cluster is full")

    async def _health(self, request: Request) -> None:
        """Answer whether the store answers; it need not have any token."""
        response = await self._relay.send("GET", self._base, self._authorization)
        response.close()
        if response.status not in (200, 404):
            raise Refusal(503, "discovery: the store does not answer")
        request.respond(200, TEXT_PLAIN, b"OK\n")

    async def _pass(self, request: Request, method: str, path: str, body: bytes = b"") -> None:
        """Let the store answer; what the client sent of itself is not shown to it."""
        headers = (*self._authorization, *(_FORM_HEADERS if body else ()))
        response = await self._relay.send(method, f"{self._base}/{path}", headers, body)
        try:
            _check_authorized(response.status)
            await answer(request, response)
        finally:
            response.close()

    async def _write(self, path: str, form: Mapping[str, str]) -> None:
        headers = (*self._authorization, *_FORM_HEADERS)
        url, body = f"{self._base}/{path}", urlencode(form).encode()
        response = await self._relay.send("PUT", url, headers, body)
        response.close()
        _check_authorized(response.status)
        if response.status not in (200, 201):
            raise Refusal(503, f"discovery: the store answered {response.status}")

    async def _read(self, path: str) -> dict[str, object] | None:
        response = await self._relay.send("GET", f"{self._base}/{path}", self._authorization)
        try:
            _check_authorized(response.status)
            if response.status != 200:
                return None
            parsed = json.loads(await response.read())
        except ValueError:
            return None
        finally:
            response.close()
        node = parsed.get("node") if isinstance(parsed, dict) else None
        return node if isinstance(node, dict) else None

    def _public_url(self, request: Request) -> str:
        if self._options.public_url:
            return self._options.public_url.rstrip("/")
        host = request.header(b"host") or b""
        if _HOST.fullmatch(host) is None:
            raise Refusal(400, "discovery: the Host header is not a host")
        scheme = "https" if is_secure(self._options.listen) else "http"
        return f"{scheme}://{host.decode()}"

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_crash(error)


class DiscoveryService:
    """One running service."""

    def __init__(
        self, listener: Listener, registry: Registry, relay: Relay, certificates: Certificates
    ) -> None:
        self._listener = listener
        self._registry = registry
        self._relay = relay
        self._certificates = certificates

    @classmethod
    async def start(
        cls, options: Options, store_url: str, *, die: Callable[[BaseException], None]
    ) -> "DiscoveryService":
        """Serve the tokens that are in a store. Raises TlsError or httpd.ListenError."""
        certificates = Certificates(options.tls)
        bound = bind_tcp(*address(options.listen))
        relay = Relay(_LIMITS)
        registry = Registry(
            options, store_url, relay, clock=asyncio.get_running_loop().time, on_crash=die
        )
        listener = Listener(registry.handle, clock=time.time, on_crash=die)
        secure = is_secure(options.listen)
        await listener.start(bound, ssl=certificates.server if secure else None)
        certificates.start()
        log.info("discovery: listening on %s", options.listen)
        return cls(listener, registry, relay, certificates)

    async def stop(self) -> None:
        """Let what was begun be answered, and close everything."""
        self._certificates.stop()
        await self._listener.close(grace_seconds=GRACE_SECONDS)
        await self._registry.close()
        await self._relay.close()


def read_options(argv: Sequence[str]) -> Options | None:
    """Read the command line after `pyetcd discovery`; None if it asked for the help.

    Raises click.ClickException.
    """
    options = _command.main(list(argv), prog_name="pyetcd discovery", standalone_mode=False)
    return options if isinstance(options, Options) else None


def store_flags(options: Options, port: int) -> list[str]:
    """Return the flags of the store that the service starts itself, for this machine only."""
    client_url = f"http://127.0.0.1:{port}"
    # A cluster of one calls nobody and is not called: any port will do, another each time.
    peer_url = "http://127.0.0.1:0"
    return [
        *("-name", "discovery", "-data-dir", str(options.data_dir)),
        *("-listen-client-urls", client_url, "-advertise-client-urls", client_url),
        *("-listen-peer-urls", peer_url, "-initial-advertise-peer-urls", peer_url),
        *("-initial-cluster", f"discovery={peer_url}"),
    ]


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with bind_tcp("127.0.0.1", 0) as probe:
        port: int = probe.getsockname()[1]
        return port


@click.command(help="Run a discovery service, where new clusters find their members.")
@click.option(
    "--listen", default="http://localhost:8087", show_default=True, help="Where to listen."
)
@click.option("--etcd", default="", help="URL of an etcd v2 store for the tokens.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default="discovery.etcd",
    show_default=True,
    help="Data of the store that is started here, without --etcd.",
)
@click.option("--url", default="", help="What new tokens begin with, behind a proxy.")
@click.option(
    "--ttl",
    type=click.IntRange(60),
    default=604_800,
    show_default=True,
    help="Seconds until a token is forgotten.",
)
@click.option(
    "--max-size",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Members that a cluster may have.",
)
@click.option(
    "--rate",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="New tokens for one client in a minute.",
)
@click.option("--cert-file", default="", help="Certificate, for https.")
@click.option("--key-file", default="", help="Private key of the certificate.")
def _command(
    listen: str,
    etcd: str,
    data_dir: Path,
    url: str,
    ttl: int,
    max_size: int,
    rate: int,
    cert_file: str,
    key_file: str,
) -> Options:
    try:
        (listen_url,) = parse_urls([listen])
    except UrlError as error:
        raise click.BadParameter(str(error), param_hint="--listen") from None
    if bool(cert_file) != bool(key_file) or is_secure(listen_url) != bool(cert_file):
        raise click.UsageError("https, --cert-file and --key-file belong together")
    for name, text in (("--etcd", etcd), ("--url", url)):
        parts = urlsplit(text)
        if text and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise click.BadParameter("not a URL", param_hint=name)
    return Options(
        listen=listen_url,
        etcd=etcd,
        data_dir=data_dir,
        public_url=url,
        ttl_seconds=ttl,
        max_size=max_size,
        per_minute=rate,
        tls=TlsFiles(cert_file=cert_file, key_file=key_file),
    )


def _size(request: Request, most: int) -> int:
    try:
        texts = request.form().get(b"size", [])
    except FormError as error:
        raise Refusal(400, f"discovery: {error}") from None
    text = texts[0] if texts else str(DEFAULT_SIZE).encode()
    size = int(text) if text.isdigit() and len(text) < 9 else 0
    if not 1 <= size <= most:
        raise Refusal(400, f"discovery: size must be a number from 1 to {most}")
    return size


def _registration(request: Request) -> str:
    """Return the value to register, NAME=URL."""
    try:
        values = request.form().get(b"value", [])
        value = values[0].decode() if values else ""
        if len(value) > MAX_VALUE_BYTES or not parse_urls_map(value):
            raise UrlError(f"a value of at most {MAX_VALUE_BYTES} bytes is needed")
    except (FormError, UrlError, UnicodeDecodeError) as error:
        raise Refusal(400, f"discovery: register NAME=PEER_URL: {error}") from None
    return value


def _check_authorized(status: int) -> None:
    if status in (401, 403):
        raise Refusal(503, "discovery: the store does not let the service in")


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _message(request: Request, status: int, text: str, head: bytes = b"") -> None:
    body = json.dumps({"message": text}, separators=(",", ":"))
    request.respond(status, _JSON_HEAD + head, body.encode())
