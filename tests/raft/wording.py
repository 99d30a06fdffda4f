"""How golden scripts show messages, entries and configurations: in few words, ids as %x."""

from raft.entry import CONFIG, NOOP, Configuration, Entry
from raft.messages import (
    Append,
    AppendReject,
    AppendResponse,
    CommitTo,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteResponse,
    Propose,
    ProposeReject,
    ReadIndex,
    ReadIndexResponse,
    Vote,
    VoteResponse,
)


def describe_configuration(configuration: Configuration) -> str:
    """Return who votes and who learns."""
    text = f"voters={_list(configuration.voters)}"
    if configuration.voters_outgoing:
        text += f" outgoing={_list(configuration.voters_outgoing)}"
    if configuration.learners:
        text += f" learners={_list(configuration.learners)}"
    if configuration.learners_next:
        text += f" learners_next={_list(configuration.learners_next)}"
    return text


def describe_entries(entries: list[Entry]) -> str:
    """Return entries as [index@term data]."""
    names = {NOOP: " noop", CONFIG: " config"}
    return " ".join(
        f"[{entry.index}@{entry.term}{names.get(entry.kind, ' ' + describe_data(entry.data))}]"
        for entry in entries
    )


def describe_data(data: bytes) -> str:
    """Return what was proposed."""
    text = data.decode(errors="replace")
    return text if text.isprintable() else "config"


def describe_envelope(envelope: Envelope) -> str:
    """Return a message with its addresses and term."""
    name = type(envelope.message).__name__
    details = _details(envelope.message)
    text = f"{envelope.sender:x} -> {envelope.recipient:x} T{envelope.term} {name}"
    return f"{text} {details}" if details else text


def _list(ids: tuple[int, ...]) -> str:
    return ",".join(f"{server_id:x}" for server_id in ids)


def _details(message: Message) -> str:
    match message:
        case PreVote(last_index, last_term):
            return f"last={last_index}@{last_term}"
        case Vote(last_index, last_term, transfer):
            return f"last={last_index}@{last_term}" + (" transfer" if transfer else "")
        case VoteResponse(granted, index, term) | PreVoteResponse(granted, index, term):
            return f"{'granted' if granted else 'refused'} commit={index}@{term}"
        case Append(prev_index, prev_term, commit, entries):
            text = f"prev={prev_index}@{prev_term} commit={commit}"
            return f"{text} {describe_entries(entries)}" if entries else text
        case AppendResponse(match_index):
            return f"match={match_index}"
        case AppendReject(rejected_index, hint_index, hint_term):
            return f"prev={rejected_index} hint={hint_index}@{hint_term}"
        case InstallSnapshot(meta):
            return f"{meta.id}"
        case CommitTo(commit):
            return f"{commit}"
        case Heartbeat(commit, read_round):
            return f"commit={commit}" + (f" round={read_round}" if read_round else "")
        case HeartbeatResponse(read_round):
            return f"round={read_round}" if read_round else ""
        case Propose(proposals):
            return " ".join(describe_data(data) for _, data in proposals)
        case ProposeReject(reason, proposals):
            return f"{' '.join(describe_data(data) for _, data in proposals)}: {reason}"
        case ReadIndex(context):
            return f"{context}"
        case ReadIndexResponse(context, read_index):
            return f"{context} at {read_index}"
        case _:
            return ""
