"""The table of routes."""

import pytest

from pyetcd.httpd.request import Request
from pyetcd.httpd.router import Route, Router, clean_path
from tests.http import Response, Wire, answer_with, never, request


def named(name: bytes) -> "Route":
    """A route for GET that answers its own pattern."""
    return Route(name, {b"GET": lambda got: got.respond(200, b"", name)}, b"GET,PUT")


TABLE = Router(
    [
        named(b"/a"),
        named(b"/a/b/"),
        named(b"/a/"),
        Route(b"/any", {None: lambda got: got.respond(200, b"", got.method)}),
        Route(b"/nothing", {}),
    ]
)


def ask(target: str, method: str = "GET") -> Response:
    """One request to the table above."""
    return Wire(TABLE).send(request(method, target)).response(method)


@pytest.mark.parametrize(
    ("target", "pattern"),
    [
        ("/a", b"/a"),
        ("/a/", b"/a/"),
        ("/a/x/y", b"/a/"),
        ("/a/b/c?d", b"/a/b/"),
        ("/a/b", b"/a/"),
        ("/a/.b", b"/a/"),
    ],
)
def test_router_takes_the_longest_pattern(target: str, pattern: bytes) -> None:
    """Exact before prefix, longer before shorter."""
    assert ask(target).body == pattern


@pytest.mark.parametrize("target", ["/", "/ab", "/b/a", "/any/"])
def test_router_without_match_answers_404(target: str) -> None:
    """The text is the one of Go."""
    response = ask(target)
    assert (response.status, response.body) == (404, b"404 page not found\n")
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert response.header("X-Content-Type-Options") == "nosniff"


def test_router_with_unknown_method_answers_405_and_allow() -> None:
    """Allow is shown as the table has it."""
    response = ask("/a", "POST")
    assert (response.status, response.body) == (405, b"Method Not Allowed\n")
    assert response.header("Allow") == "GET,PUT"


def test_router_without_allow_answers_405_without() -> None:
    """An empty Allow is none."""
    response = ask("/nothing")
    assert (response.status, response.header("Allow")) == (405, None)


def test_router_with_handler_for_all_methods_uses_it() -> None:
    """A row may take every method."""
    assert ask("/any", "PATCH").body == b"PATCH"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//a", "/a"),
        ("/a//b?c=d&e", "/a/b?c=d&e"),
        ("/a/./b", "/a/b"),
        ("/a/../b/", "/b/"),
        ("/..", "/"),
        ("/a/%2e%2E/b", "/b"),
        ("/a%2F%2fb", "/a/b"),
        ("/%C3%A9//%3Fx y".replace(" ", "%20"), "/%C3%A9/%3Fx%20y"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_router_redirects_unclean_path(target: str, location: str, method: str) -> None:
    """For every method; escapes count as what they stand for."""
    response = ask(target, method)
    assert (response.status, response.header("Location")) == (301, location)


def test_router_redirects_no_options() -> None:
    """OPTIONS asks about the server, as far as Go's handlers of CORS are concerned."""
    router = Router([Route(b"/", {b"OPTIONS": answer_with(200)}, b"")])
    for target in ("/a//b", "*"):
        assert Wire(router).send(request("OPTIONS", target)).response("OPTIONS").status == 200


def test_redirect_has_a_note_for_readers_only() -> None:
    """As Go: HTML for GET, nothing for PUT."""
    assert ask("//a?x=<&>").body == b'<a href="/a?x=&lt;&amp;&gt;">Moved Permanently</a>.\n\n'
    put = ask("//a", "PUT")
    assert (put.body, put.header("Content-Type")) == (b"", None)


@pytest.mark.parametrize("path", [b"/", b"/.a", b"/a.b/..c", b"/a/.../b", b"/a/"])
def test_clean_path_stays(path: bytes) -> None:
    """Names with dots are names."""
    assert clean_path(path) == path


@pytest.mark.parametrize(
    ("path", "clean"), [(b"//", b"/"), (b"/a//", b"/a/"), (b"*", b"/*"), (b"/./", b"/")]
)
def test_clean_path_drops_empty_elements(path: bytes, clean: bytes) -> None:
    """One slash at the end is kept."""
    assert clean_path(path) == clean


@pytest.mark.parametrize(
    "patterns", [(b"/a", b"/a"), (b"/a/", b"/a/b/"), (b"/a/", b"/a/"), (b"a",)]
)
def test_router_table_that_hides_a_row_is_our_bug(patterns: tuple[bytes, ...]) -> None:
    """A row that can never match is a mistake in the table."""
    with pytest.raises(AssertionError):
        Router([Route(pattern, {b"GET": never}) for pattern in patterns])


def test_request_path_is_decoded_and_target_is_not() -> None:
    """Handlers see bytes, without the query."""
    seen: list[tuple[bytes, bytes, bytes]] = []

    def handler(got: Request) -> None:
        seen.append((got.target, got.path, got.query))
        got.respond(200)

    Wire(handler).send(request(target="/a%20b%3F?c=%20"))
    assert seen == [(b"/a%20b%3F?c=%20", b"/a b?", b"c=%20")]
