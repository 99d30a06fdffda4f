"""The mutants of users, roles and permissions."""

from typing import Final

from tests.mutants.patch import PYETCD, mutant

GUARD: Final = "pyetcd.api.guard:Guard."
APPLIER: Final = "pyetcd.server.apply:Applier."

RIGHTS: Final = (
    mutant(
        "M60",
        "what a session may do is not looked up again when roles change",
        (GUARD + "_access", "session.revision == self.auth.revision", "session.revision"),
        killer=PYETCD,
    ),
    mutant(
        "M60b",
        "what guests may do is not looked up again",
        (GUARD + "_guest_access", "guests.revision != self.auth.revision", "not guests.revision"),
        killer=PYETCD,
    ),
    mutant(
        "M60c",
        "a session outlives its password",
        (GUARD + "_access", " and user.password_hash == session.password_hash", ""),
        killer=PYETCD,
    ),
    mutant(
        "M60d",
        "a write is done that was permitted before a revocation",
        (
            APPLIER + "_execute",
            "if request.auth_revision != self.auth.revision_in_force:",
            "if False:",
        ),
        killer=PYETCD,
    ),
    mutant(
        "M60e",
        "a quorum read is answered that was permitted before a revocation",
        (
            "pyetcd.api.keys:Keys._read_confirmed",
            "auth_revision != self._auth.revision_in_force",
            "False",
        ),
        killer=PYETCD,
    ),
    mutant(
        "M60f",
        "a change of a role keeps the revision",
        ("pyetcd.auth:Auth._write_key", "self.revision += 1", "pass"),
        killer=PYETCD,
    ),
    mutant(
        "M61",
        "a recursive read needs no more than a right to the directory's own key",
        ("pyetcd.auth:Access.allows", "not recursive and key in keys", "key in keys"),
        killer=PYETCD,
    ),
    mutant(
        "M61b",
        "who may read may write",
        ("pyetcd.auth:Access.allows", "self.write if write else self.read", "self.read"),
        killer=PYETCD,
    ),
)
