"""The stage check: what it writes, what it counts, when it stops."""

from __future__ import annotations

import json
from functools import reduce
from operator import add
from pathlib import Path

import pytest

from miras.dialogue.records import Dialogue, Region
from miras.errors import DataError
from miras.files import read_records
from miras.paths import Paths
from miras.quality.config import CheckConfig
from miras.quality.stage import Quarantined, run
from tests.unit.quality.good_records import CHECK, DataSet, good, paths_in, square, store


def mixed() -> DataSet:
    """Eight good pictures; one with too small a handle, one with a repeated dialogue, one with an unmarked lamp."""
    data = reduce(add, (good(f"good{number}") for number in range(8)))
    repeated = good("repeated")
    copy = repeated.dialogues[2].model_copy(update={"dialogue_id": "repeated-copy"})
    unmarked = good("unmarked").with_region(2, mask=None)
    small = good("small").with_region(1, mask=square(1))
    return data + small + repeated + DataSet((), (), (copy,)) + unmarked


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def published(paths: Paths) -> list[Path]:
    return [path for path in (Path(paths.check), Path(paths.data_docs)) if path.exists()]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A workspace in which the mixed data set was checked; tests only read it."""
    workspace = tmp_path_factory.mktemp("checked")
    paths = paths_in(workspace)
    store(paths, mixed())
    run(paths=paths, work=workspace, check=CHECK)
    return paths


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_record_passes_or_is_in_quarantine(checked: Paths) -> None:
    data, paths = mixed(), checked
    quarantined = list(read_records(paths.quarantine, Quarantined))
    for name, kept, given in (
        ("regions", [region.region_id for region in read_records(paths.checked_regions, Region)], data.regions),
        ("dialogues", [item.dialogue_id for item in read_records(paths.checked_dialogues, Dialogue)], data.dialogues),
    ):
        refused = [item.record_id for item in quarantined if item.table == name]
        counts = read(paths.check_summary)["tables"][name]
        assert counts["rows"] == len(given) == counts["passed"] + counts["quarantined"]
        assert (counts["passed"], counts["quarantined"]) == (len(kept), len(refused))
        assert len({*kept, *refused}) == len(given)
    assert {item.record_id for item in quarantined} == {"small/handle", "small-prist", "repeated-copy"}


def test_a_quarantined_record_is_kept_whole_with_its_reasons(checked: Paths) -> None:
    by_id = {item.record_id: item for item in read_records(checked.quarantine, Quarantined)}
    assert by_id["repeated-copy"].reasons == ["says the same as repeated-caption"]
    stored = by_id["small-prist"].record
    assert Dialogue.model_validate(stored) in mixed().dialogues


def test_parents_of_regions_that_passed_passed_too(paths: Paths, work: Path) -> None:
    store(paths, mixed() + good("broken").with_region(0, mask=square(0)))
    run(paths=paths, work=work, check=CHECK.model_copy(update={"max_quarantined_share": 0.5}))
    regions = {region.region_id: region for region in read_records(paths.checked_regions, Region)}
    assert "broken/handle" not in regions
    assert all(region.parent_id is None or region.parent_id in regions for region in regions.values())


def test_the_summary_counts_rules_kinds_sizes_and_missing_masks(checked: Paths) -> None:
    summary = read(checked.check_summary)
    assert summary["rules"]["masks"]["target_large_enough"]["failed"] == 1
    assert summary["rules"]["dialogues"]["targets_passed"]["failed"] == 1
    assert summary["tables"]["regions"]["without_mask"] == 1
    assert summary["kinds"]["caption"] == {"rows": 12, "passed": 11, "quarantined": 1}
    # Of 11 pictures, on the 1024 canvas: mugs 102,400 px, handles 25,600 px (one of 256 px).
    targets = summary["size_classes"]["targets"]
    assert {name: value["count"] for name, value in targets.items()} == {"fine": 1, "medium": 0, "coarse": 21}
    assert sum(value["share"] for value in targets.values()) == pytest.approx(1, abs=1e-3)
    assert summary["prist_texts_across_pictures"] == {"dialogues": 11, "distinct_texts": 1, "most_often": 11}


def test_the_same_data_gives_the_same_bytes(checked: Paths, paths: Paths, work: Path) -> None:
    store(paths, mixed())
    run(paths=paths, work=work, check=CHECK)
    for one, other in zip(published(checked), published(paths), strict=True):
        assert contents(one) == contents(other)
        assert len(contents(one)) >= 4


def test_too_many_bad_records_stop_and_nothing_is_published(paths: Paths, work: Path) -> None:
    store(paths, mixed())
    strict = CHECK.model_copy(update={"max_quarantined_share": 0.01})
    with pytest.raises(DataError) as stopped:
        run(paths=paths, work=work, check=strict)
    message = str(stopped.value)
    assert "dialogues: 2 of 34 are bad (5.9%); at most 1.0% may be" in message
    assert "regions: 1 of 33 are bad" in message
    assert 'not_repeated: 1, such as "repeated-copy": says the same as repeated-caption' in message
    assert "check.max_quarantined_share" in message
    kept = work / "quarantine.jsonl"
    assert str(kept) in message
    assert len(list(read_records(kept, Quarantined))) == 3
    assert "the pipeline stopped" in (work / "data_docs" / "index.html").read_text("utf-8")
    assert published(paths) == []


def test_a_data_set_without_one_good_dialogue_stops_whatever_the_limit(paths: Paths, work: Path) -> None:
    data = good("b")
    bad = tuple(dialogue.model_copy(update={"turns": ()}) for dialogue in data.dialogues)
    store(paths, DataSet(data.pictures, data.regions, bad))
    with pytest.raises(DataError, match="dialogues: 3 of 3 are bad"):
        run(paths=paths, work=work, check=CHECK.model_copy(update={"max_quarantined_share": 1.0}))
    assert published(paths) == []


def test_no_dialogues_at_all_is_said_plainly(paths: Paths, work: Path) -> None:
    store(paths, DataSet(good("a").pictures, good("a").regions, ()))
    with pytest.raises(DataError, match="no dialogues to check"):
        run(paths=paths, work=work, check=CHECK)


def test_a_missing_table_names_the_file(paths: Paths, work: Path) -> None:
    with pytest.raises(DataError, match=r"pictures\.jsonl: no such file"):
        run(paths=paths, work=work, check=CHECK)


def test_checks_print_nothing_but_progress(paths: Paths, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store(paths, good("a"))
    run(paths=paths, work=work, check=CHECK)
    assert capfd.readouterr().out == ""


def test_turn_bounds_in_the_wrong_order_are_refused() -> None:
    values = CHECK.model_dump() | {"min_turns": 8}
    with pytest.raises(ValueError, match=r"min_turns \(8\) is above max_turns \(7\)"):
        CheckConfig(**values)
