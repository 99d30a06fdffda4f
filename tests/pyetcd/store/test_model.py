"""Proves that the store agrees with a dumb second one, and with itself on other members.

The model keeps nested dictionaries, walks every path part by part, and judges watchers by the
letter of etcd's rules; it is slow and short. Commands are drawn from a small set of paths, so
that they meet often.
"""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.errors import EtcdError
from pyetcd.store import Store
from pyetcd.store.json_text import expiration_text, ttl_seconds

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
EARLIEST = 946_684_800 * SECOND

PATHS = ("/", "/a", "/a/b", "/a/b/c", "/a/_h", "/a/_h/k", "/ab", "/_x", "/_x/y")
VALUES = ("", "x", "y<é>")

paths = st.sampled_from(PATHS)
values = st.sampled_from(VALUES)
booleans = st.booleans()
moments = st.sampled_from((0, -1, NOW + SECOND, NOW + 20 * SECOND, NOW + 40 * SECOND))
indexes = st.integers(0, 6)

commands = st.one_of(
    st.tuples(st.just("set"), paths, values, booleans, moments, booleans),
    st.tuples(st.just("create"), paths, values, booleans, moments),
    st.tuples(st.just("create_in_order"), paths, values, booleans, moments),
    st.tuples(st.just("update"), paths, values, moments, booleans),
    st.tuples(st.just("swap"), paths, values, values, indexes, moments, booleans),
    st.tuples(st.just("delete"), paths, booleans, booleans),
    st.tuples(st.just("compare_and_delete"), paths, values, indexes),
    st.tuples(st.just("expire"), st.integers(0, 3)),
    st.tuples(st.just("advance_index")),
    st.tuples(st.just("get"), paths, booleans),
)


class Refused(Exception):
    """The model's answer when etcd refuses: code and cause."""


class Model:
    """A second implementation that is only meant to be right."""

    def __init__(self):
        """Start with an empty root; a node is a dictionary, a directory has `nodes`."""
        self.root = {"path": "/", "nodes": {}, "created": 0, "modified": 0, "expiration": 0}
        self.index = 0
        # For each event: document, key, paths that were removed, whether it is a refresh.
        self.events = []

    def walk(self, path):
        node = self.root
        for part in [part for part in path.split("/") if part]:
            if "nodes" not in node:
                raise Refused(104, node["path"])
            if part not in node["nodes"]:
                raise Refused(100, node["path"].rstrip("/") + "/" + part)
            node = node["nodes"][part]
        return node

    def find(self, path):
        try:
            return self.walk(path)
        except Refused:
            return None

    def shown(self, node, now, *, modified=None):
        fields = {"key": node["path"]}
        if "nodes" in node:
            fields["dir"] = True
        else:
            fields["value"] = node["value"]
        if node["expiration"]:
            fields["expiration"] = expiration_text(node["expiration"])
            if ttl := ttl_seconds(node["expiration"], now):
                fields["ttl"] = ttl
        fields["modifiedIndex"] = node["modified"] if modified is None else modified
        fields["createdIndex"] = node["created"]
        return fields

    def listed(self, node, now, *, recursive, top=True):
        fields = self.shown(node, now)
        if node is self.root:
            fields = {"dir": True}
        if "nodes" in node and (top or recursive):
            children = [
                self.listed(child, now, recursive=recursive, top=False)
                for name, child in sorted(node["nodes"].items())
                if not name.startswith("_")
            ]
            if children:
                fields["nodes"] = children
        return fields

    def done(self, action, key, node, prev_node, *, removed=(), refresh=False):
        self.index += 1
        document = {"action": action, "node": node}
        if prev_node is not None:
            document["prevNode"] = prev_node
        self.events.append((document, key, list(removed), refresh))
        return document

    def put(self, action, path, value, directory, expiration, refresh, now):
        node = self.find(path)
        prev_node = None if node is None else self.shown(node, now)
        if expiration < EARLIEST:
            expiration = 0
        index = self.index + 1
        parent = self.root
        parts = path.split("/")[1:]
        for depth, part in enumerate(parts[:-1], start=1):
            if "nodes" not in parent["nodes"].get(part, {"nodes": ()}):
                raise Refused(104, "/" + "/".join(parts[:depth]))
            if part not in parent["nodes"]:
                parent["nodes"][part] = {
                    "path": "/" + "/".join(parts[:depth]),
                    "nodes": {},
                    "created": index,
                    "modified": index,
                    "expiration": 0,
                }
            parent = parent["nodes"][part]
        new = {"path": path, "created": index, "modified": index, "expiration": expiration}
        if directory:
            new["nodes"] = {}
        else:
            new["value"] = value
        parent["nodes"][parts[-1]] = new
        return self.done(action, path, self.shown(new, now), prev_node, refresh=refresh)

    def set(self, path, value, directory, expiration, refresh, now):
        try:
            node = self.walk(path)
        except Refused as refusal:
            if refresh or refusal.args[0] == 104:
                raise
            node = None
        if path == "/":
            raise Refused(107, "/")
        if node is not None and "nodes" in node:
            raise Refused(102, path)
        if refresh:
            value = node["value"]
        return self.put("set", path, value, directory, expiration, refresh, now)

    def create(self, path, value, directory, expiration, now):
        if path == "/":
            raise Refused(107, "/")
        if self.find(path) is not None:
            raise Refused(105, path)
        return self.put("create", path, value, directory, expiration, False, now)

    def create_in_order(self, path, value, directory, expiration, now):
        name = path.rstrip("/") + "/" + str(self.index + 1).rjust(20, "0")
        return self.create(name, value, directory, expiration, now)

    def change(self, action, node, value, expiration, refresh, now):
        prev_node = self.shown(node, now)
        if "nodes" not in node:
            node["value"] = node["value"] if refresh else value
            node["modified"] = self.index + 1
        node["expiration"] = expiration
        shown = self.shown(node, now, modified=self.index + 1)
        return self.done(action, node["path"], shown, prev_node, refresh=refresh)

    def update(self, path, value, expiration, refresh, now):
        if path == "/":
            raise Refused(107, "/")
        node = self.walk(path)
        if "nodes" in node and value:
            raise Refused(102, path)
        return self.change("update", node, value, expiration, refresh, now)

    def compare(self, path, value, index):
        node = self.walk(path)
        if "nodes" in node:
            raise Refused(102, "" if path == "/" else path)
        causes = []
        if value and value != node["value"]:
            causes.append(f"[{value} != {node['value']}]")
        if index and index != node["modified"]:
            causes.append(f"[{index} != {node['modified']}]")
        if causes:
            raise Refused(101, " ".join(causes))
        return node

    def swap(self, path, value, prev_value, prev_index, expiration, refresh, now):
        if path == "/":
            raise Refused(107, "/")
        node = self.compare(path, prev_value, prev_index)
        return self.change("compareAndSwap", node, value, expiration, refresh, now)

    def below(self, node):
        for child in node.get("nodes", {}).values():
            yield from self.below(child)
        yield node

    def remove(self, action, node, now):
        prev_node = self.shown(node, now)
        shown = {"key": node["path"]}
        if "nodes" in node and action == "delete":
            shown["dir"] = True
        shown |= {"modifiedIndex": self.index + 1, "createdIndex": node["created"]}
        removed = [each["path"] for each in self.below(node)]
        parent, _, name = node["path"].rpartition("/")
        del self.walk(parent)["nodes"][name]
        return self.done(action, node["path"], shown, prev_node, removed=removed)

    def delete(self, path, directory, recursive, now):
        if path == "/":
            raise Refused(107, "/")
        node = self.walk(path)
        if "nodes" in node and not recursive:
            if not directory:
                raise Refused(102, path)
            if node["nodes"]:
                raise Refused(108, path)
        return self.remove("delete", node, now)

    def compare_and_delete(self, path, prev_value, prev_index, now):
        return self.remove("compareAndDelete", self.compare(path, prev_value, prev_index), now)

    def expire(self, limit, now):
        documents = []
        while len(documents) < limit:
            due = [
                node
                for node in self.below(self.root)
                if node["expiration"] and node["expiration"] <= now
            ]
            if not due:
                break
            first = min(due, key=lambda node: (node["expiration"], node["path"]))
            documents.append(self.remove("expire", first, now))
        return documents

    def advance_index(self, now):
        self.index += 1

    def get(self, path, recursive, now):
        node = self.walk(path)
        return {"action": "get", "node": self.listed(node, now, recursive=recursive)}

    def told(self, path, *, recursive):
        """Return the documents that a stream on this path was sent."""
        documents = []
        for document, key, removed, refresh in self.events:
            if refresh:
                continue
            documents += [document] * removed.count(path)
            parts = [part for part in key.split("/") if part]
            for depth in range(len(parts) + 1):
                above = "/" + "/".join(parts[:depth])
                hidden = any(part.startswith("_") for part in parts[depth:])
                if above == path and (key == path or (recursive and not hidden)):
                    documents.append(document)
        return documents


def applied(store, command, now):
    """Apply a command to the store; return what the model would."""
    name, *arguments = command
    if name == "set":
        path, value, directory, expiration, refresh = arguments
        event = store.set(
            path, value, now, directory=directory, expiration=expiration, refresh=refresh
        )
    elif name in ("create", "create_in_order"):
        path, value, directory, expiration = arguments
        event = getattr(store, name)(path, value, now, directory=directory, expiration=expiration)
    elif name == "update":
        path, value, expiration, refresh = arguments
        event = store.update(path, value, now, expiration=expiration, refresh=refresh)
    elif name == "swap":
        path, value, prev_value, prev_index, expiration, refresh = arguments
        event = store.compare_and_swap(
            path,
            value,
            now,
            prev_value=prev_value,
            prev_index=prev_index,
            expiration=expiration,
            refresh=refresh,
        )
    elif name == "delete":
        path, directory, recursive = arguments
        event = store.delete(path, now, directory=directory, recursive=recursive)
    elif name == "compare_and_delete":
        path, prev_value, prev_index = arguments
        event = store.compare_and_delete(path, now, prev_value=prev_value, prev_index=prev_index)
    elif name == "expire":
        return [json.loads(event.body()) for event in store.expire(now, arguments[0])]
    elif name == "advance_index":
        store.advance_index()
        return None
    else:
        event = store.get(arguments[0], now, recursive=arguments[1], sort=True)
    return json.loads(event.body())


@settings(deadline=None, max_examples=40)
@given(st.lists(commands, max_size=40))
def test_store_agrees_with_the_model(script):
    """Answers, refusals, indexes and what streams are told are the same."""
    store, model = Store(), Model()
    streams = {}
    for path in PATHS:
        for recursive in (False, True):
            streams[path, recursive] = told = []
            store.watch(path, told.append, recursive=recursive, stream=True)
    for turn, command in enumerate(script):
        now = NOW + turn * SECOND
        name, *arguments = command
        try:
            expected = getattr(model, name)(*arguments, now)
        except Refused as refusal:
            expected = (*refusal.args, model.index)
        try:
            answer = applied(store, command, now)
        except EtcdError as error:
            answer = (error.code, error.cause, error.index)
        assert answer == expected
        assert store.index == model.index
        store.check()
    for (path, recursive), told in streams.items():
        documents = [json.loads(event.body()) for event in told]
        assert documents == model.told(path, recursive=recursive)


@settings(deadline=None, max_examples=30)
@given(st.lists(commands, max_size=40), st.integers(0, 40))
def test_members_with_and_without_a_snapshot_are_byte_for_byte_equal(script, cut):
    """One member is restored in the middle; afterwards nothing tells them apart."""
    members = [Store(), Store()]
    for turn, command in enumerate(script):
        if turn == cut:
            members[1] = Store.restore(members[1].capture().encode())
        answers = []
        for member in members:
            try:
                answers.append(applied(member, command, NOW + turn * SECOND))
            except EtcdError as error:
                answers.append(error.body())
        assert answers[0] == answers[1]
        assert members[0].next_expiration() == members[1].next_expiration()
    snapshots = [b"".join(member.capture().encode()) for member in members]
    assert snapshots[0] == snapshots[1]
    for since in range(1, members[0].index + 1):
        found = [
            member.watch("/a", print, recursive=True, since_index=since).history_event
            for member in members
        ]
        bodies = [None if event is None else event.body() for event in found]
        assert bodies[0] == bodies[1]
