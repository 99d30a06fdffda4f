"""What clients ask for on keys, and what an answer must be like, by the chronicle.

Every value that is written is one that no other request writes, so that an event in the chronicle
shows whose it is. A write is answered with the very event that took its index; an error must be
true at the index that it names; what was refused must never have happened.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from pyetcd.sim.chronicle import Chronicle, Version
from pyetcd.sim.wire import Answer, Credential, form_request
from pyetcd.store import Event
from raft.sim import Unsafe

KEY_NOT_FOUND: Final = 100
COMPARE_FAILED: Final = 101
NOT_FILE: Final = 102
KEY_EXISTS: Final = 105
UNAUTHORIZED: Final = 110
RAFT_INTERNAL: Final = 300

_STORE_ERRORS: Final = (KEY_NOT_FOUND, COMPARE_FAILED, NOT_FILE, KEY_EXISTS)


@dataclass(slots=True)
class Request:
    """One request on a key."""

    method: str
    key: str
    # The fields of the form, or of the query where there is no form.
    fields: dict[str, str] = field(default_factory=dict)
    credential: Credential | None = None
    # Of a GET: whether it is quorum=true. All others are, by their nature.
    is_local: bool = False
    # When it was made, in the world's time, and how often wall clocks had set cluster time by then.
    asked_at: int = 0
    settings: int = 0

    @property
    def value(self) -> str:
        """What it writes; "" for none."""
        return "" if "refresh" in self.fields else self.fields.get("value", "")

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"

    @property
    def is_recursive(self) -> bool:
        """Whether it is about all below a directory."""
        return "recursive" in self.fields

    def encode(self) -> bytes:
        """Return the request's bytes."""
        fields = "&".join(f"{name}={value}" for name, value in self.fields.items())
        target = f"/v2/keys{self.key}"
        if self.method in ("PUT", "POST"):
            return form_request(self.method, target, fields, self.credential)
        target += f"?{fields}" if fields else ""
        return form_request(self.method, target, "", self.credential)

    def __str__(self) -> str:
        """Return it for people, with no more than what tells it from others."""
        fields = " ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.method} {self.key} {fields}".rstrip()

    # ------------------------------------------------------------------------------- judging

    def check_event(self, event: Event) -> None:
        """Check that this is what the request may have led to. Raises Unsafe."""
        problem = self._problem_of(event)
        if problem:
            raise Unsafe(f"{self} has led to {event.action} of {event.key}: {problem}")

    def _problem_of(self, event: Event) -> str:
        fields, before = self.fields, event.prev_node
        if self.method == "POST":
            expected_key = f"{self.key}/{event.etcd_index:020d}"
        else:
            expected_key = self.key
        if event.key != expected_key:
            return f"the key was to be {expected_key}"
        if event.action != self._action:
            return f"it was to be {self._action}"
        if "prevValue" in fields and (before is None or before.value != fields["prevValue"]):
            return f"the value was {before}"
        if "prevIndex" in fields:
            if before is None or before.modified_index != int(fields["prevIndex"]):
                return f"the key was {before}"
        if self.method in ("PUT", "POST"):
            if event.node is None or event.refresh != ("refresh" in fields):
                return "it leaves nothing, or is taken for a refresh"
            if self.value and event.node.value != self.value:
                return f"the value is {event.node.value}"
            if ("ttl" in fields) != (event.node.expiration != 0):
                return f"it expires at {event.node.expiration}"
        return ""

    @property
    def _action(self) -> str:
        compares = "prevValue" in self.fields or "prevIndex" in self.fields
        if self.method == "DELETE":
            return "compareAndDelete" if compares else "delete"
        if self.method == "POST" or self.fields.get("prevExist") == "false":
            return "create"
        if compares:
            return "compareAndSwap"
        return "update" if "prevExist" in self.fields else "set"

    def check_read(self, answer: Answer, chronicle: Chronicle) -> None:
        """Check that this was there at the index of the answer. Raises Unsafe."""
        index = answer.etcd_index
        node = json.loads(answer.body)["node"]
        if self.is_recursive:
            found = {leaf["key"]: leaf for leaf in _leaves(node)}
            expected = chronicle.below(self.key, index)
        else:
            found = {node["key"]: node}
            version = chronicle.version(self.key, index)
            expected = {self.key: version} if version is not None else {}
        shown = {key: _shown(leaf) for key, leaf in found.items()}
        if shown != {key: _expected(version) for key, version in expected.items()}:
            raise Unsafe(f"{self} shows {shown} at {index}, but there was {expected}")

    def check_error(self, answer: Answer, chronicle: Chronicle) -> int:
        """Check that an error is true at its index, and return its code. Raises Unsafe."""
        error: dict[str, Any] = json.loads(answer.body)
        code, index = int(error["errorCode"]), int(error["index"])
        if code in (UNAUTHORIZED, RAFT_INTERNAL):
            return code
        if code not in _STORE_ERRORS or index != answer.etcd_index:
            raise Unsafe(f"{self} is answered {error}, with index {answer.etcd_index}")
        version = chronicle.version(self.key, index)
        if not self._is_true(code, version, error["cause"], chronicle, index):
            raise Unsafe(f"{self} is answered {error}, but the key was {version}")
        return code

    def _is_true(
        self,
        code: int,
        version: Version | None,
        cause: str,
        chronicle: Chronicle,
        index: int,
    ) -> bool:
        if code == KEY_NOT_FOUND:
            return version is None and not self._creates and not chronicle.below(self.key, index)
        if code == NOT_FILE:
            return version is None and bool(chronicle.below(self.key, index))
        if version is None:
            return False
        if code == KEY_EXISTS:
            return self.fields.get("prevExist") == "false"
        causes = []
        if self.fields.get("prevValue", version.value) != version.value:
            causes.append(f"[{self.fields['prevValue']} != {version.value}]")
        if self.fields.get("prevIndex", str(version.modified_index)) != str(version.modified_index):
            causes.append(f"[{self.fields['prevIndex']} != {version.modified_index}]")
        return bool(causes) and cause == " ".join(causes)

    @property
    def _creates(self) -> bool:
        """Whether the request makes the key if it is not there."""
        return self.is_write and self._action in ("set", "create") and "refresh" not in self.fields


def _leaves(node: dict[str, Any]) -> list[dict[str, Any]]:
    if "dir" not in node:
        return [node]
    return [leaf for child in node.get("nodes", ()) for leaf in _leaves(child)]


def _shown(node: dict[str, Any]) -> tuple[object, ...]:
    return node["value"], node["createdIndex"], node["modifiedIndex"], "expiration" in node


def _expected(version: Version) -> tuple[object, ...]:
    expires = version.expiration != 0
    return version.value, version.created_index, version.modified_index, expires
