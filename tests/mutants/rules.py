"""The mutants of raft: each breaks one rule that a real system has broken, or nearly so."""

from typing import Final

from tests.mutants.elections import ELECTION
from tests.mutants.membership import MEMBERSHIP
from tests.mutants.replication import READS, REPLICATION
from tests.mutants.storage import STORAGE

MUTANTS: Final = (*ELECTION, *REPLICATION, *STORAGE, *MEMBERSHIP, *READS)
