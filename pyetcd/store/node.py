"""KeyNode: a key with a value, or a directory, as the store holds it.

A node is never changed: an update puts a new one in its place. So a list of nodes is a picture of
one moment, which snapshots, listings and events can render later without a copy.
"""

from dataclasses import dataclass, field

from mypy_extensions import mypyc_attr

from pyetcd.store.json_text import escape, expiration_text, ttl_seconds


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class KeyNode:
    """One node of the tree. Its children, if it has any, are known to the store only.

    Invariants:
      1. `created_index <= modified_index`; both are 0 for the root only.
    """

    path: str
    # None for a directory.
    value: str | None
    created_index: int
    modified_index: int
    # Nanoseconds since the epoch; 0 for a node that does not expire.
    expiration: int
    # Nothing in the path, or in the value, needs an escape: to look once is enough.
    _has_plain_path: bool = field(compare=False, repr=False)
    _has_plain_value: bool = field(compare=False, repr=False)

    # By hand, as what `dataclass` writes is never compiled.
    def __init__(
        self,
        path: str,
        value: str | None,
        created_index: int,
        modified_index: int,
        expiration: int,
    ) -> None:
        self.path = path
        self.value = value
        self.created_index = created_index
        self.modified_index = modified_index
        self.expiration = expiration
        self._has_plain_path = False
        self._has_plain_value = False

    def escaped_path(self, other: "KeyNode | None" = None) -> str:
        """Return the path as JSON has it between quotes; `other` is a node of the same path."""
        path = self.path
        if self._has_plain_path:
            return path
        if other is not None and other._has_plain_path:
            self._has_plain_path = True
            return path
        escaped = escape(path)
        self._has_plain_path = escaped is path
        return escaped

    def escaped_value(self) -> str:
        """Return the value as JSON has it between quotes; only a key has one."""
        value = self.value
        assert value is not None, f"{self.path} is a directory"
        if self._has_plain_value:
            return value
        escaped = escape(value)
        self._has_plain_value = escaped is value
        return escaped

    def text(self, now: int) -> str:
        """Return the JSON object, without children."""
        value = self.value
        if value is not None and self.expiration == 0:
            return (
                f'{{"key":"{self.escaped_path()}","value":"{self.escaped_value()}",'
                f'"modifiedIndex":{self.modified_index},"createdIndex":{self.created_index}}}'
            )
        return self.opening_text(now) + self.closing_text()

    def opening_text(self, now: int) -> str:
        """Return the JSON object up to where a directory's `nodes` would follow."""
        kind = '"dir":true' if self.value is None else f'"value":"{self.escaped_value()}"'
        # The root has neither key nor indexes: etcd trims its internal prefix from them.
        key = "" if self.path == "/" else f'"key":"{self.escaped_path()}",'
        return f"{{{key}{kind}{lifetime_text(self.expiration, now)}"

    def closing_text(self) -> str:
        """Return the rest of the JSON object, after a directory's `nodes`."""
        if self.path == "/":
            return "}"
        return f',"modifiedIndex":{self.modified_index},"createdIndex":{self.created_index}}}'


def lifetime_text(expiration: int, now: int) -> str:
    """Return the fields `expiration` and `ttl`; a ttl of 0 is left out, as etcd does."""
    if expiration == 0:
        return ""
    text = f',"expiration":"{expiration_text(expiration)}"'
    ttl = ttl_seconds(expiration, now)
    return f'{text},"ttl":{ttl}' if ttl != 0 else text


def parent_path(path: str) -> str:
    """Return the path of the directory that holds this node."""
    return path[: path.rindex("/")] or "/"
