"""Proves that parameters are read as etcd 2.3.8 reads them, and refused in its order."""

from dataclasses import asdict

import pytest

from pyetcd.api.parameters import NONE, Parameters, read
from pyetcd.errors import EtcdError
from pyetcd.httpd import Request
from tests.http import Wire, request

FORM = "Content-Type: application/x-www-form-urlencoded"

# What is wrong, the error's code and cause; in etcd's order.
FAULTS = [
    ("a=%zz", 210, 'invalid URL escape "%zz"'),
    ("prevIndex=x", 203, 'invalid value for "prevIndex"'),
    ("waitIndex=x", 203, 'invalid value for "waitIndex"'),
    ("recursive=x", 209, 'invalid value for "recursive"'),
    ("sorted=x", 209, 'invalid value for "sorted"'),
    ("wait=x", 209, 'invalid value for "wait"'),
    ("dir=x", 209, 'invalid value for "dir"'),
    ("quorum=x", 209, 'invalid value for "quorum"'),
    ("stream=x", 209, 'invalid value for "stream"'),
    ("prevValue=", 201, '"prevValue" cannot be empty'),
    ("noValueOnSuccess=x", 209, 'invalid value for "noValueOnSuccess"'),
    ("ttl=x", 202, 'invalid value for "ttl"'),
    ("prevExist=x", 209, "invalid value for prevExist"),
    ("refresh=x", 209, "invalid value for refresh"),
]


def understood(
    query: str = "", body: bytes = b"", method: str = "PUT", header: str = FORM
) -> Parameters:
    """The parameters of a request. Raises EtcdError."""
    outcomes: list[Parameters | EtcdError] = []

    def handle(got: Request) -> None:
        try:
            outcomes.append(read(got))
        except EtcdError as error:
            outcomes.append(error)
        got.respond(200)

    Wire(handle).send(request(method, f"/?{query}" if query else "/", body, [header]))
    (outcome,) = outcomes
    if isinstance(outcome, EtcdError):
        raise outcome
    return outcome


def refused(query: str, body: bytes = b"", method: str = "PUT") -> tuple[int, str]:
    """Code and cause of a refusal; its index is always 0."""
    with pytest.raises(EtcdError) as caught:
        understood(query, body, method)
    assert caught.value.index == 0
    return caught.value.code, caught.value.cause


# --------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("position", range(len(FAULTS)))
def test_first_fault_in_etcds_order_is_reported(position: int):
    """Wherever it stands, and whatever else is wrong behind it."""
    faults = FAULTS[position:]
    query = "&".join(text for text, _, _ in reversed(faults))
    assert refused(query) == faults[0][1:]


@pytest.mark.parametrize(("fault", "code", "cause"), FAULTS)
def test_fault_is_reported_alone_and_from_the_body(fault: str, code: int, cause: str):
    """Body and query are read alike."""
    assert refused("", fault.encode()) == (code, cause)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "HEAD"])
def test_wait_is_for_get_only(method: str):
    """Said before what is wrong with prevValue."""
    expected = (209, '"wait" can only be used with GET requests')
    assert refused("prevValue=&wait=true", method=method) == expected
    assert not understood("wait=false", method=method).wait
    assert understood("wait=true", method="GET").wait


def test_refresh_needs_a_ttl_and_no_value():
    """An empty value counts as none."""
    assert refused("refresh=true&value=x") == (211, "A value was provided on a refresh")
    assert refused("refresh=true&value=x&ttl=5") == (211, "A value was provided on a refresh")
    assert refused("refresh=true") == (212, "No TTL value set")
    assert refused("refresh=true&ttl=") == (212, "No TTL value set")
    assert understood("refresh=true&ttl=5&value=").refresh
    assert understood("refresh=false&value=x").value == "x"


def test_form_that_cannot_be_read_is_refused():
    """With the words of Go."""
    with pytest.raises(EtcdError, match="mime: no media type") as caught:
        understood("", b"value=x", header="Content-Type: ;")
    assert caught.value.code == 210


# --------------------------------------------------------------------------------------- values


def test_request_without_parameters_has_the_defaults():
    """One object for all of them."""
    assert understood() is NONE
    assert Parameters() == NONE


def test_unknown_fields_are_ignored():
    """As Go does."""
    assert understood("foo=bar") == Parameters()


def test_every_field_is_read():
    """Into its own place."""
    query = (
        "value=v&prevValue=p&prevIndex=3&prevExist=false&ttl=7&waitIndex=9&recursive=1&sorted=1"
        "&wait=1&dir=1&quorum=1&stream=1&refresh=0&noValueOnSuccess=1"
    )
    assert asdict(understood(query, method="GET")) == {
        "value": "v",
        "prev_value": "p",
        "prev_index": 3,
        "prev_exist": False,
        "ttl_seconds": 7,
        "wait_index": 9,
        "recursive": True,
        "sort": True,
        "wait": True,
        "directory": True,
        "quorum": True,
        "stream": True,
        "refresh": False,
        "no_value": True,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("1", "t", "T", "true", "True", "TRUE")),
        *((text, False) for text in ("0", "f", "F", "false", "False", "FALSE")),
    ],
)
def test_boolean_is_what_go_takes(text: str, value: bool):
    """And nothing else."""
    assert understood(f"dir={text}").directory is value
    assert understood(f"prevExist={text}").prev_exist is value


@pytest.mark.parametrize("text", ["", "yes", "tRUE", "2", "%20true", "true%00"])
def test_boolean_is_nothing_else(text: str):
    """Also the empty text, and a name without a value."""
    assert refused(f"recursive={text}")[0] == 209
    assert refused("recursive")[0] == 209


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("7", 7),
        ("0007", 7),
        ("0" * 1000 + "7", 7),
        (str(2**64 - 1), 2**64 - 1),
    ],
)
def test_number_is_decimal_without_a_sign(text: str, number: int):
    """Of 64 bits."""
    assert understood(f"prevIndex={text}").prev_index == number
    assert understood(f"waitIndex={text}").wait_index == number
    assert understood(f"ttl={text}").ttl_seconds == number


@pytest.mark.parametrize(
    "text", ["-1", "%2B1", "+1", "1_0", "1.0", "0x1", "1e3", "%D9%A3", str(2**64), "9" * 5000]
)
def test_number_is_nothing_else(text: str):
    """Neither for indexes nor for a ttl."""
    assert refused(f"prevIndex={text}")[0] == 203
    assert refused(f"waitIndex={text}")[0] == 203
    assert refused(f"ttl={text}")[0] == 202


def test_empty_numbers():
    """An empty ttl is none, an empty index is an error."""
    assert understood("ttl=").ttl_seconds is None
    assert refused("prevIndex=")[0] == refused("waitIndex=")[0] == 203


def test_body_beats_the_query_and_the_first_value_counts():
    """For each field by itself."""
    found = understood("value=query&ttl=5&ttl=6", b"value=body&value=second")
    assert (found.value, found.ttl_seconds) == ("body", 5)
    assert refused("prevValue=query", b"prevValue=&prevValue=x")[0] == 201


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_body_of_other_methods_is_not_read(method: str):
    """Go reads it for PUT, POST and PATCH only."""
    assert understood("ttl=5", b"ttl=6&dir=x", method=method).ttl_seconds == 5


def test_values_are_bytes():
    """What is no UTF-8 comes back as it was."""
    found = understood("value=%FF%00&prevValue=%C3%A9")
    assert found.value.encode("utf-8", "surrogateescape") == b"\xff\x00"
    assert found.prev_value == "é"
