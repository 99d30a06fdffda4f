"""Clients that are many, slow or hostile: a member bears them, and lets go of them afterwards."""

import asyncio
import random
from functools import partial
from typing import Final

from scripts.soak.faults import Fault, Scene
from scripts.soak.http import AUTHORIZATION
from scripts.soak.members import Member
from scripts.soak.names import PORT

BODY_BYTES: Final = 100 * 1024 * 1024
# Other clients come and go meanwhile.
SPARE_DESCRIPTORS: Final = 150
ALMOST_HTTP: Final = (
    b"",
    b"GET /v2/keys/ HTTP/1.1\r\n",
    b"PUT /v2/keys/x HTTP/1.1\r\nContent-Length: -1",
)
AUTH: Final = f"Host: soak\r\nAuthorization: Basic {AUTHORIZATION}\r\n"


async def crowd(scene: Scene, size: int, first_bytes: str) -> None:
    """So many connections that send something, and then read nothing; they vanish at once."""
    member = scene.choose()
    before = len(member.process.descriptors())
    scene.note(f"{size} connections to {member.name}")
    writers: list[asyncio.StreamWriter] = []
    limit = asyncio.Semaphore(200)

    async def connect() -> None:
        async with limit:
            try:
                async with asyncio.timeout(10):
                    _, writer = await asyncio.open_connection(member.host, PORT)
            except (OSError, TimeoutError) as error:
                scene.problems.append(f"a connection to {member.name} failed: {error!r}")
                return
            writer.write(first_bytes.encode())
            writers.append(writer)

    await asyncio.gather(*(connect() for _ in range(size)))
    await scene.hold(1.0, 2.0)
    for writer in writers:
        writer.transport.abort()
    await _let_go(scene, member, before)


async def _let_go(scene: Scene, member: Member, before: int) -> None:
    async def is_rid_of_them() -> bool:
        return len(member.process.descriptors()) < before + SPARE_DESCRIPTORS

    await scene.cluster.until(is_rid_of_them, f"{member.name} to close what vanished")


async def slow_readers(scene: Scene) -> None:
    """Streams of all that is written, which nobody reads."""
    path = f"/v2/keys{scene.root}?wait=true&recursive=true&stream=true"
    await crowd(scene, 100, f"GET {path} HTTP/1.1\r\n{AUTH}\r\n")


async def slowloris(scene: Scene) -> None:
    """Requests that come a byte at a time, and never end."""
    await crowd(scene, 300, "GET /v2/keys/ HTTP/1.1\r\nX-Slow: a")


async def vanishing_watchers(scene: Scene) -> None:
    path = f"/v2/keys{scene.root}/nobody?wait=true&recursive=true"
    await crowd(scene, 2_000, f"GET {path} HTTP/1.1\r\n{AUTH}\r\n")


async def malformed(scene: Scene) -> None:
    """Floods of what is no HTTP, and of what almost is."""
    member = scene.choose()
    scene.note(f"malformed requests to {member.name}")

    async def send(rng: random.Random) -> None:
        for _ in range(20):
            try:
                reader, writer = await asyncio.open_connection(member.host, PORT)
                writer.write(
                    rng.choice(ALMOST_HTTP) + rng.randbytes(rng.randrange(2_000)) + b"\r\n\r\n"
                )
                async with asyncio.timeout(0.2):
                    await reader.read(1_000)
            except (OSError, TimeoutError):
                pass
            else:
                writer.transport.abort()

    seeds = [scene.random.getrandbits(32) for _ in range(30)]
    await asyncio.gather(*(send(random.Random(seed)) for seed in seeds))


async def large_body(scene: Scene) -> None:
    """100 MB of a value: refused, and not kept in memory for long."""
    member = scene.choose()
    scene.note(f"a body of {BODY_BYTES} bytes to {member.name}")
    try:
        reader, writer = await asyncio.open_connection(member.host, PORT)
        writer.write(
            f"PUT /v2/keys/large HTTP/1.1\r\n{AUTH}Content-Length: {BODY_BYTES}\r\n\r\n".encode()
        )
        piece = bytes(1024 * 1024)
        for _ in range(BODY_BYTES // len(piece)):
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(5):
            answer = await reader.readline()
    except (OSError, TimeoutError) as error:
        scene.note(f"the connection was closed: {error!r}")
        return
    scene.note(f"answered {answer[:40]!r}")
    if answer and b" 4" not in answer:
        scene.problems.append(f"a body of {BODY_BYTES} bytes was answered {answer!r}")
    writer.transport.abort()


FAULTS: Final = (
    Fault("10,000 idle connections", partial(crowd, size=10_000, first_bytes=""), long=True),
    Fault("2,000 vanishing watchers", vanishing_watchers),
    Fault("slow readers", slow_readers),
    Fault("slowloris", slowloris),
    Fault("malformed requests", malformed),
    Fault("100 MB body", large_body),
)
