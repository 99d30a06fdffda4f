"""The mutants of requests that wait for the log, and of members that lose something."""

from typing import Final

from tests.mutants.patch import PYETCD, mutant

PENDING: Final = "pyetcd.server.pending:Pending."
SERVER: Final = "pyetcd.server.server:Server."
APPLIER: Final = "pyetcd.server.apply:Applier."

PROPOSALS: Final = (
    mutant(
        "M25b",
        "a proposal is made again in the term in which it may be in the log",
        (PENDING + "term_began", "waiter.term < term", "waiter.term <= term"),
        killer=PYETCD,
    ),
    mutant(
        "M25c",
        "after a snapshot, proposals that it may contain are made again",
        (PENDING + "doubt_all", "waiter.term != _HELD", "False"),
        killer="tests/pyetcd/server/test_pending.py",
    ),
    mutant(
        "M25d",
        "a proposal is made again under its old request id",
        (PENDING + "term_began", "again = self._ids.next()", "again = request_id"),
        (PENDING + "rejected", " and waiter.term != _HELD", ""),
        killer="tests/pyetcd/server/test_pending.py",
    ),
    mutant(
        "M25e",
        "a proposal that a leader has refused is forgotten",
        (
            PENDING + "rejected",
            "self._drop(rejected.kind, rejected.data, rejected.reason)",
            "pass",
        ),
        killer="tests/pyetcd/server/test_pending.py",
    ),
    mutant(
        "M25f",
        "a proposal that was lost with its leader is not made again",
        (PENDING + "term_began", "if waiter.term < term", "if False"),
        killer="tests/pyetcd/server/test_pending.py",
    ),
    mutant(
        "M26b",
        "nobody gives up who has waited too long",
        (PENDING + "_sweep", "_take_due(self._waiters, self.sweeps)", "()"),
        killer=PYETCD,
    ),
    mutant(
        "M29b",
        "a snapshot does not replace the users and roles",
        (APPLIER + "restore", "self.auth.install(auth)", "pass"),
        killer=PYETCD,
    ),
    mutant(
        "M29c",
        "a snapshot does not replace the members",
        (APPLIER + "restore", "self.cluster = cluster", "pass"),
        killer=PYETCD,
    ),
    mutant(
        "M29d",
        "a member that was restored cannot reach members it did not know",
        (SERVER + "on_cluster_replaced", "self.on_member_added(member)", "pass"),
        killer="tests/pyetcd/server/test_server_members.py",
    ),
    mutant(
        "M36",
        "a snapshot names the members in no order",
        (
            "pyetcd.cluster:Cluster.encode",
            "self.in_order()",
            "sorted(self.members.values(), key=id)",
        ),
        killer=PYETCD,
    ),
    mutant(
        "M43",
        "a removed member may come back under its id",
        (
            "pyetcd.cluster:Cluster.check_add",
            "if member.id in self.removed:",
            "if False:",
        ),
        killer="tests/pyetcd/test_cluster.py",
    ),
    mutant(
        "M43b",
        "who was removed ends, though nobody else may know of it",
        (
            "pyetcd.server.server:Server._end_when_known",
            "if another_leads or self._peers_know_removal:",
            "if True:",
        ),
        killer="tests/pyetcd/server/test_server_members.py",
    ),
    mutant(
        "M43c",
        "who was removed ends while its leader is gone, which may not know of it any more",
        (
            "pyetcd.server.server:Server._end_when_known",
            "self.transport.active_since(self.leader) is not None",
            "self.leader not in (0, self.member_id)",
        ),
        killer="tests/pyetcd/server/test_server_members.py",
    ),
    mutant(
        "M45c",
        "a quorum read of the API is answered at once",
        (
            "pyetcd.api.keys:Keys.get",
            "self._server.read_index(done)",
            "done(None)",
        ),
        killer=PYETCD,
    ),
    mutant(
        "M50",
        "a member that is alone serves before all of its log is committed",
        (
            "pyetcd.member:_commit_alone",
            "if node.core.configuration.voters == (member_id,):",
            "if False:",
        ),
        killer="tests/pyetcd/test_member.py",
    ),
    mutant(
        "M63",
        "the proxy sends a write again that may have been done",
        (
            "pyetcd.proxy.proxy:Forwarder._forward",
            "break",
            "pass",
        ),
        killer="tests/pyetcd/proxy/test_proxy.py",
    ),
    mutant(
        "M64",
        "the proxy forwards a request that has come back to it",
        (
            "pyetcd.proxy.proxy:Forwarder.handle",
            "self._proxy_id in _passed(request)",
            "False",
        ),
        killer="tests/pyetcd/proxy/test_proxy.py",
    ),
)
