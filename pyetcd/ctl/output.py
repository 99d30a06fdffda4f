"""Answers on stdout, in etcdctl's three forms.

Relies on nothing but the values of the client. Every line is flushed: scripts read `watch` through
a pipe.
"""

import json
from typing import Any

import click

from pyetcd.client import Event, Node
from pyetcd.errors import go_json


def show_event(event: Event, form: str) -> None:
    """Print a key after what was done to it; a form that does not exist is told on stderr."""
    if form == "simple":
        click.echo(_simple(event))
    elif form == "extended":
        click.echo(_extended(event))
    elif form == "json":
        click.echo(go_json(json.dumps(_event(event), ensure_ascii=False, separators=(",", ":"))))
    else:
        click.echo(f"Unsupported output format: {form}", err=True)


def _simple(event: Event) -> str:
    if event.action != "delete":
        return event.node.value
    return f"PrevNode.Value: {event.prev_node.value if event.prev_node else ''}"


def _extended(event: Event) -> str:
    lines = [
        f"Key: {event.node.key}",
        f"Created-Index: {event.node.created_index}",
        f"Modified-Index: {event.node.modified_index}",
    ]
    if event.prev_node is not None:
        lines.append(f"PrevNode.Value: {event.prev_node.value}")
    lines += [f"TTL: {event.node.ttl}", f"Index: {event.etcd_index}"]
    if event.action != "delete":
        lines += ["", event.node.value]
    return "\n".join(lines)


def _event(event: Event) -> dict[str, Any]:
    """Return an event with the fields, and in the order, in which etcdctl prints it."""
    return {
        "action": event.action,
        "node": _node(event.node),
        "prevNode": None if event.prev_node is None else _node(event.prev_node),
    }


def _node(node: Node) -> dict[str, Any]:
    fields: dict[str, Any] = {"key": node.key}
    if node.is_dir:
        fields["dir"] = True
    fields["value"] = node.value
    fields["nodes"] = [_node(child) for child in node.nodes] or None
    fields["createdIndex"] = node.created_index
    fields["modifiedIndex"] = node.modified_index
    if node.expiration:
        fields["expiration"] = node.expiration
    if node.ttl:
        fields["ttl"] = node.ttl
    return fields
