"""The whole command against a real HTTP server, well-behaved and not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from miras.errors import ConfigError, DataError, ServiceUnavailableError
from miras.evaluate.judge.command import as_text, estimate_as_text, estimate_folder, judge_folder, results_folder
from miras.evaluate.judge.judging import SelectedPartError, check_complete
from miras.evaluate.judge.records import (
    DIMENSIONS,
    Judged,
    JudgeScores,
    Preference,
    UnansweredQuestion,
    Verdict,
)
from miras.files import read_records
from miras.llm.budget import BudgetSpentError
from miras.llm.config import ServiceConfig
from tests.llm_server import LlmServer, Said, question, unreliable
from tests.unit.evaluate.judge.evaluation import (
    JUDGED,
    config,
    dialogue_ids,
    form,
    judge,
    make_folder,
    model_config,
    predictions,
    service,
)

NUM_DIALOGUES = len(dialogue_ids())
ASKED = NUM_DIALOGUES * (3 + 3 + 2)  # readings of both sides, and both orders


def run(
    folder: Path, server: LlmServer, *, cache: str = "cache", human: Path | None = None, **changes: Any
) -> JudgeScores:
    return judge_folder(
        folder,
        judged=JUDGED,
        pictures=folder / "pictures",
        config=config(**changes),
        service=service(server),
        cache=folder / cache,
        human=human,
    )


def files(folder: Path) -> dict[str, bytes]:
    """All results that follow from the answers alone."""
    results = results_folder(folder, JUDGED)
    return {path.name: path.read_bytes() for path in results.iterdir() if path.name != "service.json"}


def assert_adds_up(folder: Path, scores: JudgeScores, *, asked: int = ASKED) -> None:
    """Questions = verdicts + preferences + unanswered, in the files and in the counts beside the scores."""
    results = results_folder(folder, JUDGED)
    verdicts = list(read_records(results / "verdicts.jsonl", Verdict))
    preferences = list(read_records(results / "preferences.jsonl", Preference))
    unanswered = list(read_records(results / "unanswered.jsonl", UnansweredQuestion))
    assert len(verdicts) + len(preferences) + len(unanswered) == asked
    readings = sum(side.readings for side in scores.sides.values())
    missing = sum(sum(side.unanswered.values()) for side in scores.sides.values())
    assert readings == len(verdicts)
    assert missing + sum(scores.pairwise.unanswered.values()) == len(unanswered)
    for rate in (scores.pairwise, scores.by_total):
        assert rate.wins + rate.ties + rate.losses + rate.unscored == scores.dialogues
    for side in scores.sides.values():
        assert side.scored + side.unscored == scores.dialogues


def test_scores_of_a_fair_judge(folder: Path) -> None:
    with LlmServer(judge) as server:
        scores = run(folder, server)
    assert_adds_up(folder, scores)
    check_complete(scores)
    reference, model = scores.sides["reference"], scores.sides["model"]
    assert reference.scores["progression"].value == pytest.approx(4.1)  # 4.0, 4.1, 4.2
    assert reference.scores["target_relevance"].value == pytest.approx(3)
    assert reference.scores["target_relevance"].low == pytest.approx(3)
    assert model.mean.value == pytest.approx((reference.mean.value or 0) - 1)  # half of them 2 lower
    assert scores.difference.value == pytest.approx(-1)
    assert model.spread == pytest.approx(0.025)
    for rate in (scores.pairwise, scores.by_total):
        assert (rate.wins, rate.ties, rate.losses, rate.unscored) == (0, 4, 4, 0)
    assert scores.pairwise.first_percent == 50
    assert (scores.judge, scores.temperature, scores.repeats) == ("judge-2024-08-06", 1.0, 3)
    assert (scores.available, scores.dialogues, scores.pictures) == (8, 8, 4)
    assert "stands in for the human" in scores.baseline
    written = json.loads((results_folder(folder, JUDGED) / "scores.json").read_text())
    assert JudgeScores.model_validate(written) == scores


def test_the_judge_sees_the_picture_and_each_reading_has_a_seed_of_its_own(folder: Path) -> None:
    with LlmServer(judge) as server:
        run(folder, server)
        requests = server.requests
    assert len(requests) == ASKED
    for request in requests:
        picture = request["messages"][-1]["content"][1]["image_url"]["url"]
        assert picture.startswith("data:image/png;base64,")
    texts = {question(request) for request in requests if form(request) == "ScoredDialogue"}
    one = next(text for text in texts if "Question 0 about p0-d1?" in text and "Wrong" in text)
    seeds = sorted(request["seed"] for request in requests if question(request) == one)
    assert seeds == [7, 8, 9]


def test_a_server_that_misbehaves_changes_nothing_and_nothing_is_paid_twice(folder: Path) -> None:
    with LlmServer(judge) as server:
        good = run(folder, server, cache="good")
        expected = files(folder)
    seen: set[tuple[str, int]] = set()
    broken = unreliable(judge, share=0.6, seed=5)  # so the first call of most questions goes wrong

    def at_first(request: dict[str, Any]) -> str | Said:
        key = (question(request), request["seed"])
        answer = judge if key in seen else broken
        seen.add(key)
        return answer(request)

    with LlmServer(at_first) as server:
        scores = run(folder, server)
        attempts = server.attempts
        assert attempts > ASKED
        again = run(folder, server)
        assert server.attempts == attempts, "everything comes from the cache"
    assert scores == again == good
    assert_adds_up(folder, scores)
    assert files(folder)["scores.json"] == expected["scores.json"]
    repairs = [verdict.repairs for verdict in read_records(results_folder(folder, JUDGED) / "verdicts.jsonl", Verdict)]
    assert max(repairs) > 0


def test_garbage_that_no_repair_mends_is_counted_beside_the_scores(folder: Path) -> None:
    def garbled(request: dict[str, Any]) -> str:
        is_bad = form(request) == "ScoredDialogue" and request["seed"] == 8 and "p0-d1" in question(request)
        return "I would rather talk about lamps." if is_bad else judge(request)

    with LlmServer(garbled) as server:
        scores = run(folder, server)
    assert_adds_up(folder, scores)
    check_complete(scores)  # 1 of 24 readings
    assert scores.sides["model"].unanswered == scores.sides["reference"].unanswered == {"malformed": 1}
    assert scores.failed_shares == pytest.approx({"model": 1 / 24, "reference": 1 / 24, "comparison": 0})
    lost = list(read_records(results_folder(folder, JUDGED) / "unanswered.jsonl", UnansweredQuestion))
    assert {each.raw[0] for each in lost} == {"I would rather talk about lamps."}
    assert len(lost[0].raw) == 5  # the question and four repairs
    assert "(1 missing)" in as_text(scores)


def test_a_third_of_garbage_is_an_error_that_leaves_its_traces(folder: Path) -> None:
    def garbled(request: dict[str, Any]) -> str:
        return "no" if request["seed"] == 8 else judge(request)

    with LlmServer(garbled) as server:
        scores = run(folder, server)
    assert_adds_up(folder, scores)
    assert not scores.is_complete
    with pytest.raises(SelectedPartError, match=r"model 33.3%, reference 33.3%, comparison 0.0%; at most 10.0%"):
        check_complete(scores)
    assert json.loads((results_folder(folder, JUDGED) / "scores.json").read_text())["is_complete"] is False


def test_a_judge_that_refuses_one_dialogue_leaves_it_unscored_and_not_zero(folder: Path) -> None:
    def shy(request: dict[str, Any]) -> str | Said:
        return Said(refusal="I cannot discuss this.") if "p3-d0" in question(request) else judge(request)

    with LlmServer(shy) as server:
        scores = run(folder, server, max_failed_share=0.2)
    assert_adds_up(folder, scores)
    assert [side.unscored for side in scores.sides.values()] == [1, 1]
    assert scores.sides["reference"].scores["target_relevance"].value == pytest.approx(3)
    assert (scores.pairwise.unscored, scores.pairwise.unanswered) == (1, {"refused": 2})
    assert scores.is_complete


def test_a_missing_picture_is_unanswered_and_the_others_go_on(folder: Path) -> None:
    (folder / "pictures" / "p2.png").unlink()
    with LlmServer(judge) as server:
        scores = run(folder, server)
    assert_adds_up(folder, scores)
    assert not scores.is_complete
    assert scores.sides["model"].unanswered == {"failed": 6}
    lost = next(read_records(results_folder(folder, JUDGED) / "unanswered.jsonl", UnansweredQuestion))
    assert "p2.png: the picture cannot be read" in lost.reason


def test_a_service_that_is_away_writes_nothing_and_the_same_command_goes_on(folder: Path) -> None:
    answered = 0

    def dying(request: dict[str, Any]) -> str | Said:
        nonlocal answered
        answered += 1
        return judge(request) if answered <= 20 else Said(status=500)

    with LlmServer(dying) as server:
        with pytest.raises(ServiceUnavailableError, match="All answers so far are kept"):
            judge_folder(
                folder,
                judged=JUDGED,
                pictures=folder / "pictures",
                config=config(),
                service=service(server, max_retries=1),
                cache=folder / "cache",
            )
        assert not (folder / "judge").exists()
    with LlmServer(judge) as server:
        scores = run(folder, server)
        assert server.attempts == ASKED - 20
    assert_adds_up(folder, scores)


def test_the_budget_is_the_cache_folders(folder: Path) -> None:
    with LlmServer(judge) as server:
        with pytest.raises(BudgetSpentError):
            judge_folder(
                folder,
                judged=JUDGED,
                pictures=folder / "pictures",
                config=config(),
                service=service(server, budget_tokens=7_000),
                cache=folder / "cache",
            )
        spent = server.attempts
        assert 0 < spent < ASKED
        run(folder, server)
        assert server.attempts == ASKED


def test_the_reference_is_paid_for_once_for_all_models(folder: Path) -> None:
    with LlmServer(judge) as server:
        run(folder, server)
        judge_folder(
            folder,
            judged=Judged("dialogues", "stage1", "own"),
            pictures=folder / "pictures",
            config=config(),
            service=service(server),
            cache=folder / "cache",
        )
        # stage1 says of half of the dialogues what stage2 says, too; none of the reference is asked again
        assert server.attempts == ASKED + 4 * (3 + 2)
    assert sorted(path.name for path in (folder / "judge").iterdir()) == [
        "dialogues-stage1-own",
        "dialogues-stage2-own",
    ]


def test_more_repeats_ask_only_for_the_new_readings(folder: Path) -> None:
    with LlmServer(judge) as server:
        run(folder, server)
        scores = run(folder, server, repeats=5)
        assert server.attempts == ASKED + NUM_DIALOGUES * 2 * 2
    assert scores.sides["model"].readings == NUM_DIALOGUES * 5


def test_the_dry_run_asks_nothing_and_counts_what_is_left(folder: Path) -> None:
    def estimated(server: LlmServer) -> Any:
        return estimate_folder(
            folder,
            judged=JUDGED,
            pictures=folder / "pictures",
            config=config(),
            service=service(server, usd_per_million_prompt_tokens=2.5, usd_per_million_answer_tokens=10.0),
            cache=folder / "cache",
        )

    with LlmServer(judge) as server:
        before = estimated(server)
        assert server.attempts == 0
        assert (before.prompts, before.calls, before.cached) == (ASKED, ASKED, 0)
        assert before.most_usd > before.cost_usd > 0
        run(folder, server)
        after = estimated(server)
        assert (after.calls, after.cached, after.cost_usd) == (0, ASKED, 0)
    assert f"{ASKED} questions: 0 answered before, {ASKED} calls to make" in estimate_as_text(before)
    assert not (folder / "judge" / "estimate").exists()


def test_people_stand_beside_the_judge(folder: Path) -> None:
    human = folder / "human.csv"
    rows = [f"{name},{3 + number / 10},3,4,2" for number, name in enumerate(dialogue_ids())]
    human.write_text(f"dialogue_id,{','.join(DIMENSIONS)}\n" + "\n".join(rows))
    with LlmServer(judge) as server:
        scores = run(folder, server, human=human)
        attempts = server.attempts
        human.write_text("nonsense")
        with pytest.raises(DataError, match="the header lacks"):
            run(folder, server, human=human)
        assert server.attempts == attempts
    assert scores.human is not None
    assert (scores.human.dialogues, scores.human.only_judge) == (8, 0)
    assert scores.human.dimensions["logical_coherence"].pearson is None
    assert "Pearson undefined" in as_text(scores)


def judge_nobody(folder: Path) -> None:
    """With `judge.model: null`, and no server."""
    judge_folder(
        folder,
        judged=JUDGED,
        pictures=folder,
        config=config(model=None),
        service=ServiceConfig(),
        cache=folder / "cache",
    )


def test_no_judge_is_a_message(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^judge\.model: null, so there is no judge; expected .*presets/tiny\.yaml"):
        judge_nobody(folder)


def test_what_is_no_folder_of_an_evaluation_is_told_first(tmp_path: Path) -> None:
    advice = r"\. Name the folder of an evaluation, with questions\.jsonl and predictions\.jsonl"
    with pytest.raises(ConfigError, match=rf"nowhere: no such folder{advice}"):
        judge_nobody(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=rf"holds no questions\.jsonl and no predictions\.jsonl{advice}"):
        judge_nobody(tmp_path)
    (tmp_path / "questions.jsonl").touch()
    with pytest.raises(ConfigError, match=rf"holds no predictions\.jsonl{advice}"):
        judge_nobody(tmp_path)


def test_any_name_of_a_model_gives_a_folder_of_its_own(tmp_path: Path) -> None:
    names = ["a/b", "a-b", "a b", "../../etc", "ä", "…"]
    folders = {results_folder(tmp_path, Judged("dialogues", name, "own")) for name in names}
    assert len(folders) == len(names)
    assert {folder.parent for folder in folders} == {tmp_path / "judge"}
    assert results_folder(tmp_path, JUDGED).name == "dialogues-stage2-own"


PROGRAM = """
import sys
from pathlib import Path
from miras.evaluate.judge.command import judge_folder
from miras.llm.config import ServiceConfig
from tests.unit.evaluate.judge.evaluation import JUDGED, config

folder = Path(sys.argv[1])
service = ServiceConfig(base_url=sys.argv[2], api_key_variable="", concurrency=4)
judge_folder(
    folder, judged=JUDGED, pictures=folder / "pictures", config=config(), service=service, cache=folder / "cache"
)
"""


def test_a_kill_leaves_nothing_half_written_and_the_same_command_goes_on(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, predictions({"p0-d0": "Right"}))
    with LlmServer(lambda request: Said(judge(request), delay_s=0.02)) as server:
        command = [sys.executable, "-c", PROGRAM, str(folder), server.url]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[4])
        deadline = time.monotonic() + 60
        while server.answered.total() < ASKED // 3 and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not list(folder.glob("judge/*"))
        assert subprocess.run(command, cwd=Path(__file__).parents[4], check=True).returncode == 0
        assert ASKED <= server.answered.total() <= ASKED + 4  # calls under way at the kill
        killed = files(folder)
        scores = run(folder, server, cache="another")
    assert files(folder) == killed
    assert_adds_up(folder, scores)


def test_a_recording_judges_without_a_server(folder: Path) -> None:
    with LlmServer(judge) as server:
        scores = run(folder, server)
    replay = model_config(provider="replay", recorded=str(folder / "cache"))
    replayed = judge_folder(
        folder,
        judged=JUDGED,
        pictures=folder / "pictures",
        config=config(model=replay),
        service=ServiceConfig(),
        cache=folder / "unused",
    )
    assert replayed == scores
