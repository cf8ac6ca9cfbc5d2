"""Moves of an alias in a real registry: gates, two at once, kills in between, hands on the alias, the way back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking.client import MlflowClient

from miras.errors import ConfigError, DataError, ServiceUnavailableError
from tasks.registry.gates import Gate, PromoteConfig
from tasks.registry.lineage import TAG, Lineage
from tasks.registry.lineage_command import as_text, describe, main
from tasks.registry.moves import Ledger, MoveLostError
from tasks.registry.promotion import Comparison, NotPromotedError, compare, promote, roll_back
from tasks.registry.register import RegisterConfig, _point, _renew, _tags
from tasks.registry.versions import find
from tasks.tracking.shipping import service_errors
from tests.unit.tasks.registry.lineages import CIOU, PRECISION, lineage

CONFIG = PromoteConfig(alias="champion", gates={CIOU: Gate(better="higher", tolerance=0.5)})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests here: making it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"


@pytest.fixture
def registry(store: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return MlflowClient()


@pytest.fixture
def model(registry: MlflowClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """A model of its own for each test: versions 1, 2, 3 with 40, 41, 42 percent."""
    name = request.node.name[:60]
    registry.create_registered_model(name)
    for ciou in (40.0, 41.0, 42.0):
        add_version(registry, name, ciou)
    yield name
    for one in registry.search_registered_models(f"name LIKE '{name}%'"):
        registry.delete_registered_model(one.name)


def add_version(registry: MlflowClient, model: str, ciou: float, *, dialogues: str = "d") -> int:
    tags = {TAG: lineage({CIOU: ciou}, dialogues=dialogues).model_dump_json()}
    return int(registry.create_model_version(model, "s3://nowhere/weights", tags=tags).version)


def compared(model: str, version: int, *, is_forced: bool = False) -> Comparison:
    return compare(CONFIG, model=model, candidate=version, is_forced=is_forced)


def promoted(model: str, version: int, force_reason: str = "") -> None:
    comparison = compared(model, version, is_forced=bool(force_reason))
    promote(comparison, by="me", reason="better", force_reason=force_reason)


def champion(model: str) -> int:
    return int(MlflowClient().get_model_version_by_alias(model, "champion").version)


def moves(model: str) -> list[tuple[str, int | None, int]]:
    state = Ledger(MlflowClient(), model=model, alias="champion").read()
    return [(move.kind, move.from_version, move.to_version) for move in state.moves]


def test_the_first_version_needs_only_to_be_measured(model: str, registry: MlflowClient) -> None:
    promoted(model, 1)
    assert champion(model) == 1
    unmeasured = PromoteConfig(alias="other", gates={"bleu": Gate(better="higher", tolerance=0.0)})
    with pytest.raises(NotPromotedError, match=r"bleu .*not measured on the candidate"):
        promote(compare(unmeasured, model=model, candidate=2), by="me", reason="")
    assert "other" not in registry.get_registered_model(model).aliases


def test_a_worse_version_is_refused_with_both_values_and_a_remedy(model: str, registry: MlflowClient) -> None:
    promoted(model, 3)
    with pytest.raises(NotPromotedError) as refused:
        promoted(model, 1)
    for words in (r"1 of 1 gates", "40", "42", "worse by 2, allowed 0.5", "tolerance", "--force REASON"):
        assert words in str(refused.value)
    assert champion(model) == 3
    assert len(moves(model)) == 1


def test_a_little_worse_is_borne(model: str, registry: MlflowClient) -> None:
    promoted(model, 3)
    promoted(model, add_version(registry, model, 41.6))
    assert champion(model) == 4


def test_scores_of_other_test_data_are_not_compared(model: str, registry: MlflowClient) -> None:
    promoted(model, 1)
    other = add_version(registry, model, 90.0, dialogues="other")
    with pytest.raises(NotPromotedError, match=r"other test data \(dialogues\)"):
        promoted(model, other)


def test_force_needs_a_reason_which_is_recorded(model: str) -> None:
    promoted(model, 3)
    promoted(model, 1, force_reason="the other one leaks")
    (move,) = Ledger(MlflowClient(), model=model, alias="champion").read().moves[1:]
    assert (move.is_forced, move.reason, move.by, move.to_version) == (True, "the other one leaks", "me", 1)
    assert "worse by 2" in move.comparison


def test_rollback_goes_back_one_champion_at_a_time_and_then_says_so(model: str) -> None:
    for version in (1, 2, 3):
        promoted(model, version)
    assert [roll_back(model=model, alias="champion", reason="r").to_version for _ in range(2)] == [2, 1]
    with pytest.raises(DataError, match="version 1, the first there was"):
        roll_back(model=model, alias="champion", reason="r")
    promoted(model, 3)
    assert roll_back(model=model, alias="champion", reason="r").to_version == 1
    assert champion(model) == 1


def test_rollback_to_a_deleted_version_is_refused(model: str, registry: MlflowClient) -> None:
    promoted(model, 1)
    promoted(model, 2)
    registry.delete_model_version(model, "1")
    with pytest.raises(DataError, match="no version 1; it has: 2, 3"):
        roll_back(model=model, alias="champion", reason="r")
    assert champion(model) == 2


def test_of_two_decisions_on_the_same_champion_only_the_first_counts(model: str) -> None:
    promoted(model, 1)
    first, second = compared(model, 2), compared(model, 3)
    promote(second, by="she", reason="newer")
    with pytest.raises(MoveLostError, match=r"she \(promote, .*newer\).*version 3"):
        promote(first, by="me", reason="older")
    assert champion(model) == 3
    assert moves(model) == [("promote", None, 1), ("promote", 1, 3)]


def test_a_move_killed_before_the_alias_was_set_is_finished_by_the_next_command(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(model, 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promoted(model, 2)
    assert champion(model) == 1
    assert "run `miras promote` to settle it" in as_text(describe(f"models:/{model}/2"))
    assert compared(model, 2).is_champion
    assert champion(model) == 2


def test_a_late_writer_of_the_alias_puts_it_where_the_last_move_says(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(model, 1)
    real = MlflowClient.set_registered_model_alias
    late: list[int] = []

    def slow(self: MlflowClient, name: str, alias: str, version: str) -> None:
        if not late:
            late.append(1)
            promoted(model, 3)  # all of it happens between this one's look and its write
        real(self, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", slow)
    promoted(model, 2)
    assert champion(model) == 3
    assert moves(model)[-1] == ("promote", 2, 3)


def test_an_alias_set_by_hand_is_neither_taken_over_nor_undone_unasked(
    model: str, registry: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.registry.moves._BETWEEN_LOOKS_S", 0.0)
    promoted(model, 1)
    registry.set_registered_model_alias(model, "champion", "2")
    with pytest.raises(DataError, match=r"set by other means.*--version 1 --force REASON"):
        promoted(model, 3)
    assert champion(model) == 2
    promoted(model, 2, force_reason="it was right")
    assert moves(model)[-1] == ("promote", 2, 2)
    promoted(model, 3)
    assert roll_back(model=model, alias="champion", reason="r").to_version == 2


def test_an_alias_set_back_by_hand_is_no_interrupted_move(
    model: str, registry: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.registry.moves._BETWEEN_LOOKS_S", 0.0)
    promoted(model, 1)
    promoted(model, 2)
    registry.set_registered_model_alias(model, "champion", "1")
    with pytest.raises(DataError, match="set by other means"):
        promoted(model, 3)
    assert champion(model) == 1


def test_a_champion_from_before_the_ledger_is_compared_with_and_gone_back_to(
    model: str, registry: MlflowClient
) -> None:
    registry.set_registered_model_alias(model, "champion", "2")
    with pytest.raises(NotPromotedError):
        promoted(model, 1)
    promoted(model, 3)
    assert roll_back(model=model, alias="champion", reason="r").to_version == 2


def test_a_version_without_lineage_is_refused_unless_forced(model: str, registry: MlflowClient) -> None:
    bare = int(registry.create_model_version(model, "s3://nowhere/old").version)
    with pytest.raises(DataError, match="carries no lineage"):
        promoted(model, bare)
    promoted(model, bare, force_reason="the only one there is")
    assert champion(model) == bare


def test_a_damaged_lineage_is_named(model: str, registry: MlflowClient) -> None:
    registry.set_model_version_tag(model, "1", TAG, '{"commit": 3}')
    with pytest.raises(DataError, match=f"models:/.*/1: tag '{TAG}': "):
        compared(model, 1)


def test_the_key_of_a_comparison_changes_with_whatever_it_shows(model: str, registry: MlflowClient) -> None:
    promoted(model, 1)
    keys = {compared(model, 2).key, compared(model, 2).key, compared(model, 3).key}
    registry.set_model_version_tag(model, "2", TAG, lineage({CIOU: 41.5}).model_dump_json())
    keys.add(compared(model, 2).key)
    promoted(model, 3)
    keys.add(compared(model, 2).key)
    assert len(keys) == 4


def test_a_version_measured_again_has_the_scores_of_now_and_no_others(model: str, registry: MlflowClient) -> None:
    register = RegisterConfig(model_name=model, alias="candidate")
    before, after = lineage({CIOU: 40.0, PRECISION: 30.0}), lineage({CIOU: 41.0}, dialogues="other")
    version = registry.create_model_version(model, "s3://nowhere/x", tags={**_tags(before), "mine": "kept"}).version
    _renew(model, version, _tags(after))
    tags = registry.get_model_version(model, version).tags
    assert Lineage.model_validate_json(tags[TAG]) == after
    assert (tags[f"score.{CIOU}"], tags["test_data.dialogues"], tags["mine"]) == ("41", "other", "kept")
    assert f"score.{PRECISION}" not in tags
    receipt = _point(register, version, after)
    assert (receipt["uri"], receipt["lineage"]["data"]) == (f"models:/{model}/4", after.data)
    assert find(f"models:/{model}@candidate", registry).lineage == after


@pytest.mark.parametrize("address", ["miras", "models:/", "models:/a/b", "models:/a@b@c", "models:/a/1/2"])
def test_what_is_no_address_is_said(registry: MlflowClient, address: str) -> None:
    with pytest.raises(ConfigError, match="no address of a model"):
        find(address, registry)


def test_what_is_not_there_is_said_with_what_is(model: str, registry: MlflowClient) -> None:
    with pytest.raises(DataError, match=rf"no model 'nobody'; it has:(?s:.*)'{model}'"):
        find("models:/nobody@champion", registry)
    with pytest.raises(DataError, match="no alias 'champion'; it has: none"):
        find(f"models:/{model}@champion", registry)
    with pytest.raises(DataError, match="no version 9; it has: 1, 2, 3"):
        find(f"models:/{model}/9", registry)
    with pytest.raises(ConfigError, match="no model"):
        compare(CONFIG, model=f"{model}.champion-moves", candidate=1)


def test_a_registry_that_is_away_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:9"), service_errors():
        compare(CONFIG, model="miras", candidate=1)


def test_lineage_tells_all_for_people_and_programs(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    promoted(model, 1)
    promoted(model, 2)
    assert main([f"models:/{model}@champion", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["aliases"]) == (2, ["champion"])
    assert told["lineage"]["commit"] == "c" * 40
    assert [(move["from"], move["to"], move["by"]) for move in told["moves"]["champion"]] == [(1, 2, "me")]
    text = as_text(told)
    for words in ("c" * 40, "f" * 64, "stage2.steps  900 -> 50", "data/split", CIOU, "41.00", "promote 1 -> 2 by me"):
        assert words in text
    assert main(["models:/nobody/1"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_the_ledger_is_no_secret_of_this_folder(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promoted(model, 1)
    monkeypatch.chdir(tmp_path)
    assert moves(model) == [("promote", None, 1)]
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["models:/miras@champion", "miras@champion", "a/b"])
def test_a_wrong_name_or_address_is_told_before_mlflow_is_opened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(ConfigError, match="no name of a registered model"):
        compare(CONFIG, model=name, candidate=1)
    with pytest.raises(ConfigError, match="no name of a registered model"):
        roll_back(model=name, alias="champion", reason="")
    with pytest.raises(ConfigError, match="no address of a model"):
        describe(name.removeprefix("models:/"))
    assert list(tmp_path.iterdir()) == []
