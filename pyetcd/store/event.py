"""Event: one change of the store, or one key that was read, and its JSON.

A thousand watchers share one event, so its body is rendered at most once, and only when somebody
asks. The nodes inside are immutable: the body shows the moment of the change however late it is
rendered.
"""

from dataclasses import dataclass

from mypy_extensions import mypyc_attr

from pyetcd.store.json_text import escape
from pyetcd.store.node import KeyNode, lifetime_text

GET = "get"
SET = "set"
CREATE = "create"
UPDATE = "update"
DELETE = "delete"
COMPARE_AND_SWAP = "compareAndSwap"
COMPARE_AND_DELETE = "compareAndDelete"
EXPIRE = "expire"

# After these the node is gone.
REMOVALS = (DELETE, COMPARE_AND_DELETE, EXPIRE)
# All that can be in history.
WRITES = (SET, CREATE, UPDATE, COMPARE_AND_SWAP, *REMOVALS)


@mypyc_attr(acyclic=True)
@dataclass(slots=True, eq=False, init=False)
class Event:
    """What happened to one key.

    Invariants:
      1. At least one of `node` and `prev_node` is there.
      2. `node.modified_index == etcd_index`, unless the action is a get.
      3. A directory never becomes a file.
    """

    action: str
    # The index of this change; for a get, the index of the store when it was read.
    etcd_index: int
    key: str
    # The node after the change; None when the change removed it.
    node: KeyNode | None
    # The node before the change; None when there was none.
    prev_node: KeyNode | None
    # The clock by which a ttl is computed, in nanoseconds since the epoch.
    now: int
    # A refresh takes an index and a place in history, but no watcher sees it.
    refresh: bool
    _body: bytes | None

    # By hand, as what `dataclass` writes is never compiled.
    def __init__(
        self,
        action: str,
        etcd_index: int,
        key: str,
        node: KeyNode | None,
        prev_node: KeyNode | None,
        now: int,
        refresh: bool = False,
    ) -> None:
        self.action = action
        self.etcd_index = etcd_index
        self.key = key
        self.node = node
        self.prev_node = prev_node
        self.now = now
        self.refresh = refresh
        self._body = None

    @property
    def is_created(self) -> bool:
        """Tell whether the key is new; such a response has status 201."""
        return self.action == CREATE or (self.action == SET and self.prev_node is None)

    @property
    def removes_directory(self) -> bool:
        """Tell whether a directory went, with everything in it."""
        return self.node is None and self.prev_node is not None and self.prev_node.value is None

    def body(self) -> bytes:
        """Return the JSON document with its newline; rendered once."""
        if self._body is None:
            self._body = self._render().encode()
        return self._body

    def _render(self) -> str:
        node, prev_node = self.node, self.prev_node
        if node is None:
            return self._render_removal()
        if node.value is None or node.expiration != 0:
            text = f'{{"action":"{self.action}","node":{node.text(self.now)}'
            if prev_node is None:
                return text + "}\n"
            return f'{text},"prevNode":{prev_node.text(self.now)}}}\n'
        # The common case in one piece: a key that does not expire. Both nodes have one key. (It is
        # written down twice, as to put it together of parts would copy the values once more.)
        key = node.escaped_path(prev_node)
        if prev_node is None:
            return (
                f'{{"action":"{self.action}","node":{{"key":"{key}","value":"{node.escaped_value()}",'
                f'"modifiedIndex":{node.modified_index},"createdIndex":{node.created_index}}}}}\n'
            )
        assert prev_node.value is not None, f"{self.key} was a directory and became a file"
        return (
            f'{{"action":"{self.action}","node":{{"key":"{key}","value":"{node.escaped_value()}",'
            f'"modifiedIndex":{node.modified_index},"createdIndex":{node.created_index}}},'
            f'"prevNode":{{"key":"{key}","value":"{prev_node.escaped_value()}"'
            f"{lifetime_text(prev_node.expiration, self.now)},"
            f'"modifiedIndex":{prev_node.modified_index},'
            f'"createdIndex":{prev_node.created_index}}}}}\n'
        )

    def _render_removal(self) -> str:
        prev_node = self.prev_node
        assert prev_node is not None, f"{self.action} of {self.key} removed nothing"
        # An expired directory lacks `dir` in etcd 2.3; a deleted one has it.
        kind = ',"dir":true' if prev_node.value is None and self.action == DELETE else ""
        return (
            f'{{"action":"{self.action}","node":{{"key":"{escape(self.key)}"{kind},'
            f'"modifiedIndex":{self.etcd_index},"createdIndex":{prev_node.created_index}}},'
            f'"prevNode":{prev_node.text(self.now)}}}\n'
        )
