"""Proves that the tree keeps its invariants, and that its check finds broken ones."""

import pytest

from pyetcd.store.node import KeyNode
from pyetcd.store.tree import Tree


def filled() -> Tree:
    """Return a tree of two directories and a file that expires."""
    tree = Tree()
    tree.make_directories("/a/b", 1)
    tree.add(KeyNode("/a/b/k", "x", 1, 1, 5))
    return tree


def test_tree_check_passes_after_changes():
    """Adding, replacing and removing keep the invariants."""
    tree = filled()
    tree.replace(tree.nodes["/a/b/k"], KeyNode("/a/b/k", "y", 1, 2, 0))
    tree.check()
    assert tree.remove("/a") == ["/a/b/k", "/a/b", "/a"]
    tree.check()
    assert list(tree.nodes) == ["/"]


def test_tree_check_finds_a_child_without_parent():
    """Invariant 1."""
    tree = filled()
    del tree.nodes["/a"]
    with pytest.raises(KeyError):
        tree.check()


def test_tree_check_finds_lost_children_and_expirations():
    """Invariants 2 and 3."""
    tree = filled()
    del tree.children["/a/b"]["/a/b/k"]
    with pytest.raises(AssertionError, match="children"):
        tree.check()
    tree = filled()
    tree.expirations.put("/a/b/k", 0)
    with pytest.raises(AssertionError, match="0 keys expire, not 1"):
        tree.check()


def test_tree_does_not_add_a_path_twice():
    """The caller must have looked."""
    tree = filled()
    with pytest.raises(AssertionError, match="/a is there already"):
        tree.add(KeyNode("/a", "x", 2, 2, 0))
