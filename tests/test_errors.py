"""What an error of somebody else's says in our sentences."""

from __future__ import annotations

import pytest

from tidegate.errors import first_line


@pytest.mark.parametrize(
    ("text", "told"),
    [("refused", "refused"), ("\n  refused  \nDETAIL: why", "refused"), ("", "ValueError"), (" \n", "ValueError")],
)
def test_an_error_that_says_nothing_is_told_by_its_kind(text: str, told: str) -> None:
    assert first_line(ValueError(text)) == told
