"""The mutants of votes, terms and elections."""

from typing import Final

from tests.mutants.patch import mutant

CORE: Final = "raft.core:Core."
STATE: Final = "raft.state:"
CANDIDATE: Final = "raft.candidate:Candidate."
LEADER: Final = "raft.leader:Leader."
LOG: Final = "raft.log:Log."

ELECTION: Final = (
    mutant(
        "M01",
        "a vote leaves before it is on disk",
        (
            CORE + "_answer_request",
            "state.promise(candidate, VoteResponse(True, *commit_id))",
            "state.send(candidate, VoteResponse(True, *commit_id))",
        ),
    ),
    mutant(
        "M01b",
        "the vote is not written",
        (
            CORE + "_make_write",
            "make_hard_state(state.term, state.vote,",
            "make_hard_state(state.term, 0,",
        ),
        (CORE + "_needs_write", "state.vote != hard_state.vote", "False"),
    ),
    mutant(
        "M02",
        "the term is forgotten at a restart",
        (STATE + "recover", "term, vote = hard_state.term, hard_state.vote", "term, vote = 0, 0"),
    ),
    mutant(
        "M03",
        "stepping down clears the vote of the term",
        (
            CORE + "_become_follower",
            "    self._enter_term(term)",
            "    self._enter_term(term); state.vote = 0",
        ),
    ),
    mutant(
        "M03b",
        "a vote is given to everybody who asks",
        (CORE + "_answer_request", "(state.vote == 0 and state.leader == 0)", "state.leader == 0"),
    ),
    mutant(
        "M04",
        "the longer log wins, whatever its last term",
        (
            LOG + "is_up_to_date",
            "(last_term, last_index) >= (self.last_term, self.last_index)",
            "last_index >= self.last_index",
        ),
    ),
    mutant(
        "M04b",
        "the later last term wins, however short the log",
        (
            LOG + "is_up_to_date",
            "(last_term, last_index) >= (self.last_term, self.last_index)",
            "last_term >= self.last_term",
        ),
    ),
    mutant(
        "M04c",
        "an equal log is not up to date",
        (
            LOG + "is_up_to_date",
            "(last_term, last_index) >= (self.last_term, self.last_index)",
            "(last_term, last_index) > (self.last_term, self.last_index)",
        ),
    ),
    mutant(
        "M05",
        "a repeated vote counts twice",
        (
            CANDIDATE + "_count",
            "self.votes.setdefault(voter, granted)",
            "self.votes.setdefault(voter if voter not in self.votes else next("
            "(v for v in state.configuration.voters if v not in self.votes), voter), granted)",
        ),
    ),
    mutant(
        "M05b",
        "a vote counts as a pre-vote, and the other way round",
        (CANDIDATE + "step", "if not self.pre_vote:", "if True:"),
        (CANDIDATE + "step", "if self.pre_vote and envelope.term == asked_term:", "if True:"),
    ),
    mutant(
        "M06",
        "half of the servers elect",
        (
            "raft.quorum:_majority_result",
            "if 2 * granted > len(voters):",
            "if 2 * granted >= len(voters):",
        ),
    ),
    mutant(
        "M06b",
        "half of the servers commit",
        ("raft.quorum:committed_index", "(len(voters) - 1) // 2", "len(voters) // 2"),
    ),
    mutant(
        "M07",
        "a candidate does not yield to the leader of its term",
        (CANDIDATE + "step", "return Follow(envelope.sender)", "pass"),
    ),
    mutant(
        "M08",
        "a higher term in a reply is ignored",
        (
            CORE + "_match_term",
            "        case _:\n            leader = 0",
            "        case AppendResponse() | VoteResponse():\n            return False\n"
            "        case _:\n            leader = 0",
        ),
    ),
    mutant(
        "M09",
        "a pre-vote raises the term",
        (
            CORE + "_match_term",
            "            return True  # carry",
            "            self._enter_term(envelope.term); return True  # carry",
        ),
    ),
    mutant(
        "M10",
        "a leader that nobody answers leads on",
        (LEADER + "tick", "self._check_quorum()", "True"),
    ),
    mutant(
        "M11",
        "voters that hear a leader ignore a transfer",
        (CORE + "_match_term", "case Vote(transfer=False) if", "case Vote() if"),
    ),
    mutant(
        "M11b",
        "leadership is handed to one whose log is behind",
        (
            "raft.handover:Handover.matched",
            "match_index == state.log.last_index",
            "True",
        ),
    ),
    mutant(
        "M12",
        "all election timeouts are equal",
        (STATE + "State.draw_timeout", " + self.random.randrange(self.config.election_ticks)", ""),
    ),
    mutant(
        "M13",
        "a server that has left deposes the leader",
        (CORE + "_hears_leader", "self.leader == 0 or not config.check_quorum", "True"),
    ),
)
