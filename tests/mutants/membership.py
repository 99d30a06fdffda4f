"""The mutants of changes of the configuration."""

from typing import Final

from tests.mutants.patch import CONTESTED, mutant

STATE: Final = "raft.state:"
LEADER: Final = "raft.leader:Leader."

MEMBERSHIP: Final = (
    mutant(
        "M38",
        "a change is proposed before an entry of the term is committed",
        (LEADER + "propose_config", "if applied_index < self.first_index:", "if False:"),
        (
            LEADER + "__init__",
            "self.pending_config_index = self.first_index",
            "self.pending_config_index = 0",
        ),
    ),
    mutant(
        "M39",
        "two changes are under way at a time",
        (LEADER + "propose_config", "if applied_index < self.pending_config_index:", "if False:"),
    ),
    mutant(
        "M39b",
        "a change of several servers needs no joint quorum",
        (
            "raft.confchange:_change_servers",
            "outgoing = configuration.voters if len(change.changes) > 1 else ()",
            "outgoing = ()",
        ),
    ),
    mutant(
        "M40",
        "commits are counted without the old voters of a joint configuration",
        ("raft.quorum:joint_committed_index", "if configuration.voters_outgoing:", "if False:"),
    ),
    mutant(
        "M40b",
        "elections are counted without the old voters of a joint configuration",
        ("raft.quorum:vote_result", "if not configuration.voters_outgoing:", "if True:"),
        killer=CONTESTED,
    ),
    mutant(
        "M41",
        "a server campaigns although a committed change is not applied",
        (STATE + "State.cannot_campaign_because", "if entry.kind == CONFIG:", "if False:"),
    ),
    mutant(
        "M42",
        "a leader that is removed leads for ever",
        (LEADER + "tick", "if self.handover.leaving or", "if"),
    ),
    mutant(
        "M44",
        "learners vote and campaign",
        (
            STATE + "State.is_voter",
            "own in configuration.voters or",
            "own in configuration.voters or own in configuration.learners or",
        ),
    ),
    mutant(
        "M44b",
        "learners count for commits",
        (
            "raft.quorum:joint_committed_index",
            "index = committed_index(configuration.voters, match)",
            "index = committed_index(configuration.voters + configuration.learners, match)",
        ),
    ),
)
