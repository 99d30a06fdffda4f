"""Tree: the nodes of each directory, and the expirations.

There is no dictionary of all nodes: Python enlarges a dictionary at one blow, for which hundreds of
thousands of nodes would hold everybody up. The order of directories is the one in which they came
to have children, that of children the one in which they came into being. Both depend on the applied
commands only, survive a snapshot, and so are the same on every member: whoever iterates here need
not sort.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Final

from pyetcd.errors import EtcdError, KeyNotFound, NotDirectory
from pyetcd.store.node import KeyNode, parent_path
from pyetcd.store.ttl import ExpirationQueue

_NONE: Final[dict[str, KeyNode]] = {}


class Tree:
    """The nodes of a store.

    Invariants:
      1. Every node but the root is in `children` under its parent, which is a directory; one
         that has no children is not a key there.
      2. A directory's children come after it in `nodes`.
      3. `expirations` has exactly the nodes that expire.
    """

    __slots__ = ("children", "expirations", "root")

    def __init__(self) -> None:
        """Start with an empty root."""
        self.root = KeyNode("/", None, 0, 0, 0)
        # By the path of the directory, then by their own.
        self.children: dict[str, dict[str, KeyNode]] = {}
        self.expirations = ExpirationQueue()

    def __len__(self) -> int:
        """Return the number of nodes but for the root; costs a look at each directory."""
        return sum(map(len, self.children.values()))

    def nodes(self) -> Iterator[KeyNode]:
        """Yield all nodes, the root first."""
        groups = map(dict[str, KeyNode].values, self.children.values())
        return chain((self.root,), chain.from_iterable(groups))

    def find(self, path: str) -> KeyNode | None:
        """Return the node with this path, if there is one."""
        siblings = self.children.get(path[: path.rindex("/")] or "/")
        if siblings is not None:
            node = siblings.get(path)
            if node is not None:
                return node
        return self.root if path == "/" else None

    def is_empty(self, directory: str) -> bool:
        """Whether this directory has no children."""
        return directory not in self.children

    def obstacle(self, path: str, index: int) -> EtcdError | None:
        """Return why this path cannot be reached; None when only its last part is missing.

        A missing path has two explanations: a part of it does not exist, or is no directory.
        """
        end = path.find("/", 1)
        while end != -1:
            part = path[:end]
            node = self.find(part)
            if node is None:
                return KeyNotFound(part, index)
            if node.value is not None:
                return NotDirectory(part, index)
            end = path.find("/", end + 1)
        return None

    def add(self, node: KeyNode) -> None:
        """Add a node under a path that is free; its parent must be a directory."""
        path = node.path
        parent = parent_path(path)
        siblings = self.children.get(parent)
        if siblings is None:
            siblings = self.children[parent] = {}
        assert path not in siblings, f"{path} is there already"
        siblings[path] = node
        if node.expiration != 0:
            self.expirations.put(path, node.expiration)

    def replace(self, old: KeyNode, new: KeyNode) -> None:
        """Put a node in the place of another one; a file may become a directory."""
        path = new.path
        self.children[parent_path(path)][path] = new
        if new.expiration != old.expiration:
            self.expirations.put(path, new.expiration)

    def make_directories(self, path: str, index: int) -> None:
        """Make sure that this is a directory, with all above. Raises NotDirectory."""
        missing = []
        while (node := self.find(path)) is None:
            missing.append(path)
            path = parent_path(path)
        if node.value is not None:
            raise NotDirectory(path, index - 1)
        for directory in reversed(missing):
            self.add(KeyNode(directory, None, index, index, 0))

    def remove(self, path: str) -> list[str]:
        """Remove a node with all below it; return what went, children before their parents."""
        parent = parent_path(path)
        siblings = self.children[parent]
        lost = [siblings.pop(path)]
        if not siblings:
            del self.children[parent]
        for node in lost:  # grows while it is read
            if node.value is None:
                lost.extend(self.children.pop(node.path, _NONE).values())
        lost.reverse()
        for node in lost:
            if node.expiration != 0:
                self.expirations.put(node.path, 0)
        return [node.path for node in lost]

    def contents(self, path: str, *, recursive: bool) -> dict[str, list[KeyNode]]:
        """Return the children of a directory, and those of all visible directories below it.

        Directories without children are left out.
        """
        contents = {}
        directories = [path]
        for directory in directories:  # grows while it is read
            names = self.children.get(directory)
            if names is None:
                continue
            contents[directory] = list(names.values())
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
        expiring = 0
        for node in self.nodes():
            if node.path != "/":
                parent = rebuilt.find(parent_path(node.path))
                assert parent is not None, f"{node.path} comes before its parent"
                assert parent.value is None, f"{node.path} is in a file"
                rebuilt.add(node)
            expiring += node.expiration != 0
        assert list(self.children) == list(rebuilt.children), "a directory that is empty"
        for directory, siblings in self.children.items():
            expected_siblings = list(rebuilt.children[directory].items())
            assert list(siblings.items()) == expected_siblings, f"children of {directory}"
        expires = len(self.expirations)
        assert expiring == expires, f"{expires} keys expire, not {expiring}"
        self.expirations.check()
