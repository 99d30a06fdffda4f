"""Tree: all nodes by path, the children of each directory, and the expirations.

A node is found by one look into a dictionary, without splitting its path. The order of `nodes` is
the order in which the paths came into being. It depends on the applied commands only, survives a
snapshot, and so is the same on every member: whoever iterates here need not sort.
"""

from collections.abc import Iterable

from pyetcd.errors import EtcdError, KeyNotFound, NotDirectory
from pyetcd.store.node import KeyNode, parent_path
from pyetcd.store.ttl import ExpirationQueue


class Tree:
    """The nodes of a store.

    Invariants:
      1. Every node but the root has a parent, which is a directory and comes before it in `nodes`.
      2. `children` has exactly the directories, each with its children in the order of `nodes`.
      3. `expirations` has exactly the nodes that expire.
    """

    __slots__ = ("children", "expirations", "nodes")

    def __init__(self) -> None:
        """Start with an empty root."""
        self.nodes: dict[str, KeyNode] = {"/": KeyNode("/", None, 0, 0, 0)}
        # The values of the inner dictionaries mean nothing: they are sets that keep their order.
        self.children: dict[str, dict[str, None]] = {"/": {}}
        self.expirations = ExpirationQueue()

    def obstacle(self, path: str, index: int) -> EtcdError | None:
        """Return why this path cannot be reached; None when only its last part is missing.

        A missing path has two explanations: a part of it does not exist, or is no directory.
        """
        end = path.find("/", 1)
        while end != -1:
            part = path[:end]
            node = self.nodes.get(part)
            if node is None:
                return KeyNotFound(part, index)
            if node.value is not None:
                return NotDirectory(part, index)
            end = path.find("/", end + 1)
        return None

    def add(self, node: KeyNode) -> None:
        """Add a node under a path that is free; its parent must be a directory."""
        path = node.path
        assert path not in self.nodes, f"{path} is there already"
        self.children[parent_path(path)][path] = None
        self.nodes[path] = node
        if node.value is None:
            self.children[path] = {}
        if node.expiration != 0:
            self.expirations.put(path, node.expiration)

    def replace(self, old: KeyNode, new: KeyNode) -> None:
        """Put a node in the place of another one; a file may become a directory."""
        path = new.path
        self.nodes[path] = new
        if new.expiration != old.expiration:
            self.expirations.put(path, new.expiration)
        if new.value is None and old.value is not None:
            self.children[path] = {}

    def make_directories(self, path: str, index: int) -> None:
        """Make sure that this is a directory, with all above. Raises NotDirectory."""
        missing = []
        while (node := self.nodes.get(path)) is None:
            missing.append(path)
            path = parent_path(path)
        if node.value is not None:
            raise NotDirectory(path, index - 1)
        for directory in reversed(missing):
            self.add(KeyNode(directory, None, index, index, 0))

    def remove(self, path: str) -> list[str]:
        """Remove a node with all below it; return what went, children before their parents."""
        del self.children[parent_path(path)][path]
        doomed = [path]
        for directory in doomed:  # grows while it is read
            doomed.extend(self.children.pop(directory, ()))
        doomed.reverse()
        for lost in doomed:
            if self.nodes.pop(lost).expiration != 0:
                self.expirations.put(lost, 0)
        return doomed

    def contents(self, path: str, *, recursive: bool) -> dict[str, list[KeyNode]]:
        """Return the children of a directory, and those of all visible directories below it."""
        look_up = self.nodes.__getitem__
        contents = {}
        directories = [path]
        for directory in directories:  # grows while it is read
            names = self.children[directory]
            contents[directory] = list(map(look_up, names))
            if recursive:
                name_start = len(directory) + 1 if directory != "/" else 1
                # The order of a set decides nothing here but the order in which it is read.
                directories.extend(
                    child
                    for child in names.keys() & self.children.keys()
                    if not child.startswith("_", name_start)
                )
        return contents

    def check(self) -> None:
        """Assert the invariants above; costs as much as reading everything."""
        rebuilt = Tree()
        for node in self.nodes.values():
            if node.path != "/":
                rebuilt.add(node)
        assert list(self.nodes.values()) == list(rebuilt.nodes.values()), "order of nodes"
        assert _lists(self.children) == _lists(rebuilt.children), "children"
        expiring, expected = len(self.expirations), len(rebuilt.expirations)
        assert expiring == expected, f"{expiring} keys expire, not {expected}"
        self.expirations.check()


def _lists(children: dict[str, dict[str, None]]) -> dict[str, list[str]]:
    return {path: list(names) for path, names in _sorted_items(children)}


def _sorted_items(children: dict[str, dict[str, None]]) -> Iterable[tuple[str, dict[str, None]]]:
    return sorted(children.items())
