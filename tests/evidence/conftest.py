"""The warehouse that tests of rehearsals use, for probes."""

from tests.rehearsal.conftest import original

__all__ = ["original"]
