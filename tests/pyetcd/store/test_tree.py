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


def found(tree: Tree, path: str) -> KeyNode:
    """Return a node that is there."""
    node = tree.find(path)
    assert node is not None, f"no {path}"
    return node


def test_tree_check_passes_after_changes():
    """Adding, replacing and removing keep the invariants."""
    tree = filled()
    tree.replace(found(tree, "/a/b/k"), KeyNode("/a/b/k", "y", 1, 2, 0))
    tree.check()
    assert len(tree) == 3
    assert tree.remove("/a") == ["/a/b/k", "/a/b", "/a"]
    tree.check()
    assert [node.path for node in tree.nodes()] == ["/"]
    assert len(tree) == 0


def test_tree_finds_nodes_and_nothing_else():
    """The root, what is in it and below; a directory that has become empty is still there."""
    tree = filled()
    for path in ("/", "/a", "/a/b", "/a/b/k"):
        assert found(tree, path).path == path
    for path in ("/b", "/a/c", "/a/b/k/x", "/b/k"):
        assert tree.find(path) is None
    assert not tree.is_empty("/a/b")
    tree.remove("/a/b/k")
    assert tree.is_empty("/a/b")
    assert found(tree, "/a/b").value is None
    assert tree.contents("/a/b", recursive=True) == {}
    tree.check()


def test_tree_keeps_directories_in_the_order_in_which_they_came_to_have_children():
    """And children in the order of their creation, even one that is replaced."""
    tree = Tree()
    for path in ("/b", "/a", "/c"):
        tree.add(KeyNode(path, None, 1, 1, 0))
    for path in ("/c/1", "/a/2", "/a/1", "/b/1"):
        tree.add(KeyNode(path, "x", 1, 1, 0))
    tree.replace(found(tree, "/a/2"), KeyNode("/a/2", None, 2, 2, 0))
    paths = [node.path for node in tree.nodes()]
    assert paths == ["/", "/b", "/a", "/c", "/c/1", "/a/2", "/a/1", "/b/1"]
    tree.remove("/c/1")
    tree.add(KeyNode("/c/1", "x", 3, 3, 0))
    paths = [node.path for node in tree.nodes()]
    assert paths == ["/", "/b", "/a", "/c", "/a/2", "/a/1", "/b/1", "/c/1"]
    tree.check()


def test_tree_check_finds_a_child_without_parent():
    """Invariant 1."""
    tree = filled()
    del tree.children["/"]
    with pytest.raises(AssertionError, match="/a/b comes before its parent"):
        tree.check()


def test_tree_check_finds_a_child_before_its_parent():
    """Invariant 2."""
    tree = filled()
    tree.children = dict(reversed(tree.children.items()))
    with pytest.raises(AssertionError, match="/a/b/k comes before its parent"):
        tree.check()


def test_tree_check_finds_a_child_of_a_file():
    """Invariant 1."""
    tree = filled()
    tree.children["/a/b/k"] = {"/a/b/k/x": KeyNode("/a/b/k/x", "x", 1, 1, 0)}
    with pytest.raises(AssertionError, match="/a/b/k/x is in a file"):
        tree.check()


def test_tree_check_finds_what_is_in_the_wrong_place():
    """Invariant 1: under another parent, and a directory that has nothing."""
    tree = filled()
    tree.children["/a"]["/a/b/x"] = KeyNode("/a/b/x", "x", 1, 1, 0)
    with pytest.raises(AssertionError, match="children of /a"):
        tree.check()
    tree = filled()
    tree.children["/a/c"] = {}
    with pytest.raises(AssertionError, match="a directory that is empty"):
        tree.check()


def test_tree_check_finds_lost_expirations():
    """Invariant 3."""
    tree = filled()
    tree.expirations.put("/a/b/k", 0)
    with pytest.raises(AssertionError, match="0 keys expire, not 1"):
        tree.check()


def test_tree_does_not_add_a_path_twice():
    """The caller must have looked."""
    tree = filled()
    with pytest.raises(AssertionError, match="/a is there already"):
        tree.add(KeyNode("/a", "x", 2, 2, 0))
