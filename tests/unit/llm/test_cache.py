"""The cache and the claims on questions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from miras.llm.cache import AnswerCache, Claims

KEY = "ab" * 32
RESPONSE = {"choices": [{"message": {"content": "ü"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}


def test_an_answer_comes_back_and_leaves_nothing_aside(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    assert cache.get(KEY) is None
    cache.put(KEY, RESPONSE, about={})
    found = cache.get(KEY)
    assert found is not None
    assert (found.text, found.prompt_tokens, found.answer_tokens) == ("ü", 1, 2)
    assert [path.name for path in (tmp_path / "answers" / "aba").iterdir()] == [f"{KEY}.json"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap", "list"])
def test_a_damaged_entry_is_found_with_one_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = AnswerCache(tmp_path)
    cache.put(KEY, RESPONSE, about={})
    path = cache.path(KEY)
    content = path.read_text()
    if damage == "flip":
        path.write_text(content.replace('"prompt_tokens": 1', '"prompt_tokens": 7'))
    elif damage == "cut":
        path.write_text(content[:50])
    elif damage == "empty":
        path.write_text("")
    elif damage == "list":
        path.write_text("[1]")
    else:  # a sound entry under another's name
        cache.put("cd" * 32, RESPONSE, about={})
        path.write_bytes(cache.path("cd" * 32).read_bytes())
    assert cache.get(KEY) is None
    assert cache.damaged == {KEY}
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    cache.put(KEY, json.loads(json.dumps(RESPONSE)), about={})
    assert cache.get(KEY) is not None


def test_a_question_is_claimed_by_one_process_until_that_ends(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    other = (
        "import sys\nfrom pathlib import Path\nfrom miras.llm.cache import Claims\n"
        f"claims = Claims(Path({str(tmp_path)!r}))\nprint(claims.take({KEY!r}), flush=True)\nsys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    assert not claims.take(KEY)
    assert claims.take("cd" * 32)
    process.kill()
    process.communicate()
    assert claims.take(KEY)
