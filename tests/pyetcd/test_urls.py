"""URLs are checked by etcd's rules and come out canonical and sorted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.urls import (
    UrlError,
    address,
    duplicate_url,
    format_urls_map,
    is_secure,
    parse_url_list,
    parse_urls,
    parse_urls_map,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "URL scheme must be http or https: "),
        ("127.0.0.1:2380", "URL scheme must be http or https: 127.0.0.1:2380"),
        ("ftp://127.0.0.1:2380", "URL scheme must be http or https: ftp://127.0.0.1:2380"),
        ("unix://a:1", "URL scheme must be http or https: unix://a:1"),
        (":2380", "parse :2380: missing protocol scheme"),
        ("http://127.0.0.1", 'URL address does not have the form "host:port": http://127.0.0.1'),
        ("http:127.0.0.1:1", 'URL address does not have the form "host:port": http:127.0.0.1:1'),
        ("http://::1:2380", 'URL address does not have the form "host:port": http://::1:2380'),
        ("http://[::1]", 'URL address does not have the form "host:port": http://[::1]'),
        ("http://[::1", 'URL address does not have the form "host:port": http://[::1'),
        ("http://a]:1", 'URL address does not have the form "host:port": http://a]:1'),
        ("http://[a]:1:2", 'URL address does not have the form "host:port": http://[a]:1:2'),
        ("http://a:1/", "URL must not contain a path: http://a:1/"),
        ("http://a:1/v2?x", "URL must not contain a path: http://a:1/v2?x"),
        ("http://a b:1", 'parse http://a b:1: invalid character " " in host name'),
        ("http://a%41:1", 'parse http://a%41:1: invalid character "%" in host name'),
        ("http://a:", "URL port must be a number from 0 to 65535: http://a:"),
        ("http://a:http", "URL port must be a number from 0 to 65535: http://a:http"),
        ("http://a:65536", "URL port must be a number from 0 to 65535: http://a:65536"),
        ("http://a:+1", "URL port must be a number from 0 to 65535: http://a:+1"),
    ],
)
def test_parse_urls_of_a_wrong_url_quotes_it(text: str, message: str) -> None:
    """Each rule has its message, and the message has the text."""
    with pytest.raises(UrlError) as caught:
        parse_urls([text])
    assert str(caught.value) == message


def test_parse_urls_of_nothing_is_an_error() -> None:
    """An empty list is not a set of URLs."""
    with pytest.raises(UrlError, match="no valid URLs given"):
        parse_urls([])


def test_parse_urls_sorts_and_trims() -> None:
    """The order in which a user lists URLs does not change an id."""
    texts = [" http://b:1 ", "HTTPS://a:2", "http://a:10", "http://[::1]:3"]
    assert parse_urls(texts) == ("http://[::1]:3", "http://a:10", "http://b:1", "https://a:2")


def test_parse_url_list_splits_at_commas() -> None:
    """An empty part between two commas is an error, as in etcd."""
    assert parse_url_list("http://b:2,http://a:1") == ("http://a:1", "http://b:2")
    with pytest.raises(UrlError):
        parse_url_list("http://b:2,,http://a:1")


def test_parse_urls_map_collects_urls_by_name() -> None:
    """A name that appears twice has two URLs."""
    assert parse_urls_map("b=http://c:3,a=http://b:2,,a=http://a:1") == {
        "a": ("http://a:1", "http://b:2"),
        "b": ("http://c:3",),
    }
    assert parse_urls_map("") == {}


@pytest.mark.parametrize("text", ["a", "a=http://a:1,b", "a=", "a=http://a"])
def test_parse_urls_map_of_a_wrong_pair_is_an_error(text: str) -> None:
    """A name without URL is as wrong as a wrong URL."""
    with pytest.raises(UrlError):
        parse_urls_map(text)


def test_format_urls_map_can_be_parsed_again() -> None:
    """What messages tell users to type means what it should."""
    text = "a=http://a:1,a=http://b:2,b=http://c:3"
    assert format_urls_map(parse_urls_map(text)) == text


def test_duplicate_url_is_found_within_a_name_and_across() -> None:
    """One URL cannot reach two members."""
    assert duplicate_url(parse_urls_map("a=http://a:1,b=http://a:1")) == "http://a:1"
    assert duplicate_url(parse_urls_map("a=http://a:1,a=http://a:1")) == "http://a:1"
    assert duplicate_url(parse_urls_map("a=http://a:1,b=http://a:2")) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:2380", ("localhost", 2380)),
        ("http://[::1]:1", ("::1", 1)),
        ("http://user:secret@a:2?x=/", ("a", 2)),
        ("http://:3", ("", 3)),
    ],
)
def test_address_is_host_and_port(url: str, expected: tuple[str, int]) -> None:
    """Brackets, users and queries are no part of the address."""
    assert address(parse_urls([url])[0]) == expected


def test_is_secure_tells_https_from_http() -> None:
    """The scheme decides, in any case of its letters."""
    assert [is_secure(parse_urls([url])[0]) for url in ("HTTPS://a:1", "http://a:1")] == [
        True,
        False,
    ]


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("htps:/[]@?#%., a1\u00e9\n"), max_size=24))
def test_parse_urls_of_any_text_gives_an_address_or_an_error(text: str) -> None:
    """No text gets through that `address` cannot take apart, and parsing twice changes nothing."""
    for candidate in (text, f"http://{text}"):
        try:
            urls = parse_urls([candidate])
        except UrlError:
            continue
        assert 0 <= address(urls[0])[1] <= 65535
        assert parse_urls(urls) == urls
