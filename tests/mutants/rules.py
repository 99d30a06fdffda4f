"""The mutants: each breaks one rule that a real system has broken, or nearly so."""

from typing import Final

from tests.mutants.elections import ELECTION
from tests.mutants.membership import MEMBERSHIP
from tests.mutants.proposals import PROPOSALS
from tests.mutants.replication import READS, REPLICATION
from tests.mutants.rights import RIGHTS
from tests.mutants.storage import STORAGE
from tests.mutants.store import STORE
from tests.mutants.watches import WATCHES

MUTANTS: Final = (
    *(*ELECTION, *REPLICATION, *STORAGE, *MEMBERSHIP, *READS),
    *(*PROPOSALS, *STORE, *WATCHES, *RIGHTS),
)

# Mutants that cannot be made, by their names, and why.
NOT_MADE: Final = {
    "M26": "results are found by request id only: there is no index to match by",
    "M34": "a disk with a flipped bit is refused as a whole; M33 breaks that",
    "M43": "in the handshake of the real transport; tests/raft/transport/test_refusal.py",
    "M49": "no read rests on a lease or a clock: every quorum read asks a quorum",
}
