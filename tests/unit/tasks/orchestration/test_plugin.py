"""Which command lines hold a short deployment name."""

from __future__ import annotations

import pytest

from tasks.orchestration.plugin import short_name_position


@pytest.mark.parametrize(
    "line",
    [
        "/venv/bin/prefect deployment run train-miras",
        "prefect deployment run train-miras --watch -p push=true",
        "prefect deployment inspect train-miras",
        "prefect --no-prompt deployment run train-miras",
    ],
)
def test_a_name_behind_the_verb_is_short(line: str) -> None:
    words = line.split()
    position = short_name_position(words)
    assert position is not None
    assert words[position] == "train-miras"


@pytest.mark.parametrize(
    "line",
    [
        "prefect deployment run train-miras/train-miras",
        "prefect deployment run --id 1234",
        "prefect deployment ls",
        "prefect flow-run ls",
        "prefect",
        "pytest deployment run train-miras",
    ],
)
def test_other_commands_are_left_alone(line: str) -> None:
    assert short_name_position(line.split()) is None
