"""Plays the cases that etcd's raft publishes for quorums and configuration changes.

They are for other functions than ours. What is put in other words there is translated; where the
two differ in what they do, the function that knows says why. A case is a command, perhaps with a
line of input, then `----` and the expected output up to an empty line.
"""

import re
from dataclasses import dataclass

from raft.confchange import (
    ADD_LEARNER,
    ADD_VOTER,
    REMOVE,
    Change,
    ConfigChange,
    ImpossibleChange,
    apply_change,
)
from raft.entry import Configuration
from raft.quorum import VoteResult, joint_committed_index, vote_result

_ARGUMENT = re.compile(r"(\w+)=(\([^)]*\)|\S+)")
_KINDS = {"v": ADD_VOTER, "l": ADD_LEARNER, "r": REMOVE}
_VOTES = {"y": True, "n": False}
_RESULTS = {
    VoteResult.WON: "VoteWon",
    VoteResult.LOST: "VoteLost",
    VoteResult.PENDING: "VotePending",
}
# No case names these; to remove them changes nothing.
_NOBODY = (Change(REMOVE, 2**64 - 2), Change(REMOVE, 2**64 - 1))


@dataclass(slots=True)
class Case:
    """One command."""

    line: int
    command: str
    arguments: dict[str, list[str]]
    words: list[str]  # of the input
    expected: list[str]


def parse_cases(text: str) -> list[Case]:
    """Return the cases of a file."""
    cases = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].startswith("#"):
            at += 1
            continue
        divider = lines.index("----", at)
        end = lines.index("", divider) if "" in lines[divider:] else len(lines)
        command = lines[at].split()[0]
        arguments = {
            name: [word.strip() for word in value.strip("()").split(",")]
            for name, value in _ARGUMENT.findall(lines[at])
        }
        words = " ".join(lines[at + 1 : divider]).split()
        cases.append(Case(at + 1, command, arguments, words, lines[divider + 1 : end]))
        at = end
    return cases


# -------------------------------------------------------------------------------------- quorums


def play_quorum(case: Case) -> str:
    """Return the last line of output: the committed index, or how the vote stands."""
    named = [case.arguments.get(name, []) for name in ("cfg", "cfgj")]
    voters, outgoing = map(_ids, named)
    answers = case.arguments.get("idx" if case.command == "committed" else "votes", [])
    # One answer for each voter, in the order in which they are named first.
    in_order = dict.fromkeys(int(word) for words in named for word in words if word != "zero")
    known = dict(zip(in_order, answers, strict=True))
    results = {
        _decide(case.command, Configuration(*halves), known)
        for halves in ((voters, outgoing), (outgoing, voters))
        # A configuration of ours has voters, or nothing at all.
        if halves[0] or not halves[1]
    }
    assert len(results) == 1, f"the order of the halves matters: {results}"
    result = results.pop()
    if not voters and not outgoing:
        # There, who needs nobody has everybody's consent: neutral beside another half. With us
        # there is no other half then, and who knows of no voter decides nothing.
        assert result in ("0", "VoteLost"), result
        return "∞" if case.command == "committed" else "VoteWon"
    return result


def _decide(command: str, configuration: Configuration, known: dict[int, str]) -> str:
    given = {voter: answer for voter, answer in known.items() if answer != "_"}
    if command == "committed":
        return str(joint_committed_index(configuration, lambda it: int(given.get(it, "0"))))
    assert command == "vote", command
    votes = {voter: _VOTES[answer] for voter, answer in given.items()}
    return _RESULTS[vote_result(configuration, votes)]


def _ids(words: list[str]) -> tuple[int, ...]:
    return () if words == ["zero"] else tuple(sorted({int(word) for word in words}))


# ---------------------------------------------------------------------------------------- changes


def play_change(configuration: Configuration, case: Case) -> Configuration | str:
    """Return the configuration after a command, or why it is impossible."""
    changes = _changes(case.words)
    try:
        match case.command:
            case "simple":
                return _change_simply(configuration, changes)
            case "enter-joint":
                return _enter_joint(configuration, changes)
            case "leave-joint":
                return apply_change(configuration, ConfigChange(()))
            case unknown:
                raise AssertionError(f"unknown command {unknown}")
    except ImpossibleChange as error:
        return _translate(case.command, str(error))


def _changes(words: list[str]) -> list[Change]:
    """Updates and server 0 change nothing there, and do not exist with us."""
    pairs = [(word[0], int(word[1:])) for word in words]
    return [Change(_KINDS[kind], it) for kind, it in pairs if kind in _KINDS and it != 0]


def _change_simply(configuration: Configuration, changes: list[Change]) -> Configuration | str:
    """Several changes at once, of which one concerns a voter; with us, these go one by one."""
    result = configuration
    for change in changes:
        result = apply_change(result, ConfigChange((change,)))
    if len(set(result.voters) ^ set(configuration.voters)) > 1:
        # With us that is not refused, but makes a joint configuration by itself.
        joint = apply_change(configuration, ConfigChange(tuple(_last_of_each(changes))))
        assert joint.voters_outgoing == configuration.voters, joint
        return "more than one voter changed without entering joint config"
    return result


def _enter_joint(configuration: Configuration, changes: list[Change]) -> Configuration | str:
    """With us, there must be two changes to make it joint; and no server is named twice."""
    result = apply_change(configuration, ConfigChange((*_last_of_each(changes), *_NOBODY)))
    if not result.voters_outgoing:
        # Refused there. With us the first change of all brings in all servers at once.
        assert configuration == Configuration(), configuration
        return "can't make a zero-voter config joint"
    return result


def _last_of_each(changes: list[Change]) -> list[Change]:
    return list({change.server_id: change for change in changes}.values())


def _translate(command: str, error: str) -> str:
    words = {
        ("simple", "a joint configuration must be left first"): (
            "can't apply simple config change in joint config"
        ),
        ("simple", "no voter would be left"): "removed all voters",
        ("enter-joint", "a joint configuration must be left first"): "config is already joint",
        ("enter-joint", "no voter would be left"): "can't make a zero-voter config joint",
        ("leave-joint", "no joint configuration to leave"): "can't leave a non-joint config",
    }
    return words[command, error]


def describe(configuration: Configuration) -> list[str]:
    """Return the lines that show a configuration: as a whole, then server by server."""
    voters, outgoing, learners, learners_next = (
        f"({' '.join(map(str, ids))})" for ids in configuration
    )
    text = f"voters={voters}"
    if configuration.voters_outgoing:
        text += f"&&{outgoing}"
    if configuration.learners:
        text += f" learners={learners}"
    if configuration.learners_next:
        text += f" learners_next={learners_next}"
    tracked = [
        f"{server_id}:{' learner' if server_id in configuration.learners else ''}"
        for server_id in configuration.servers
    ]
    return [text, *tracked]


def reduce_expected(lines: list[str]) -> list[str]:
    """Leave out what is not a matter of configurations: progress, and how one is to be left.

    A joint configuration of ours is always left by itself.
    """
    reduced = [re.sub(r" StateProbe match=0 next=\d+", "", line) for line in lines]
    return [line.removesuffix(" autoleave") for line in reduced]
