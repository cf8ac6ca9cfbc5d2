"""Rules on the data set as a whole: agreement, shares, licences; what stops, what warns, what nobody measured."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from miras.errors import DataError
from miras.files import write_json
from miras.paths import Paths
from miras.quality.config import CheckConfig, ShareBounds, SizeShares
from miras.quality.data_set import read_agreement
from miras.quality.stage import run
from tests.unit.quality.good_records import CHECK, good, store


def changed(**values: Any) -> CheckConfig:
    return CHECK.model_copy(update=values)


def agree(paths: Paths, *, iou: float, kappa: float) -> None:
    figures = {"samples": 12, "iou": iou, "kappa": kappa, "iou_pooled": iou, "kappa_pooled": kappa}
    write_json(Path(paths.annotate) / "agreement.json", {"all": figures})


def test_people_who_disagree_stop_the_pipeline(paths: Paths, work: Path) -> None:
    store(paths, good("a"))
    agree(paths, iou=0.8, kappa=0.79)
    with pytest.raises(DataError) as stopped:
        run(paths=paths, work=work, check=CHECK)
    message = str(stopped.value)
    assert "data set: mean IoU of people's masks is 0.800 over 12 samples, above 0.80 expected" in message
    assert "kappa" not in message.split("Nothing was published")[0].split("min_agreement_iou")[1]
    assert "check.on_bad_share" in message
    assert not Path(paths.check).exists()
    assert "The data set is out of its bounds" in (work / "data_docs" / "index.html").read_text("utf-8")


def test_people_who_agree_pass(paths: Paths, work: Path) -> None:
    store(paths, good("a"))
    agree(paths, iou=0.81, kappa=0.76)
    run(paths=paths, work=work, check=CHECK)
    summary = json.loads(paths.check_summary.read_text("utf-8"))
    assert summary["data_set"]["agreement_iou"] == 0.81
    assert summary["rules"]["data_set"]["agreement_iou"]["rows_checked"] == 1


def test_a_share_out_of_bounds_warns_when_it_shall(paths: Paths, work: Path, caplog: pytest.LogCaptureFixture) -> None:
    store(paths, good("a"))
    free = ShareBounds(least=None, most=None)
    shares = SizeShares(fine=ShareBounds(least=0.5, most=None), medium=free, coarse=free)
    with caplog.at_level(logging.WARNING):
        run(paths=paths, work=work, check=changed(size_shares=shares, on_bad_share="warn"))
    assert "0.0% of the targets are fine, between 50% and 100% expected" in caplog.text
    summary = json.loads(paths.check_summary.read_text("utf-8"))
    assert summary["rules"]["data_set"]["fine_share"]["failed"] == 1
    assert "warning" in Path(paths.data_docs, "index.html").read_text("utf-8")


def test_where_nobody_drew_agreement_is_not_measured_and_not_met(paths: Paths, work: Path) -> None:
    store(paths, good("a"))
    run(paths=paths, work=work, check=CHECK)
    summary = json.loads(paths.check_summary.read_text("utf-8"))
    assert summary["rules"]["data_set"]["agreement_iou"]["rows_checked"] == 0
    assert "agreement_iou" not in summary["data_set"]
    assert summary["data_set"]["agreement_samples"] == 0


@pytest.mark.parametrize(("choice", "stops"), [("allow", False), ("warn", False), ("stop", True)])
def test_pictures_without_licence(
    paths: Paths, work: Path, caplog: pytest.LogCaptureFixture, choice: str, stops: bool
) -> None:
    store(paths, good("a"))
    if stops:
        with pytest.raises(DataError, match="1 of 1 pictures have no licence"):
            run(paths=paths, work=work, check=changed(without_licence=choice))
    else:
        run(paths=paths, work=work, check=changed(without_licence=choice))
    assert ("1 of 1 pictures have no licence" in caplog.text) == (choice == "warn")


@pytest.mark.parametrize("content", ["", "[]", '{"all": {}}', '{"all": {"samples": 2}}', '{"all": {"samples": "x"}}'])
def test_an_agreement_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "agreement.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"agreement\.json: no figures of agreement"):
        read_agreement(tmp_path / "agreement.json")


def test_bounds_that_no_shares_can_meet_are_refused() -> None:
    half = ShareBounds(least=0.5, most=None)
    with pytest.raises(ValueError, match="no shares meet the bounds"):
        SizeShares(fine=half, medium=half, coarse=half)
    with pytest.raises(ValueError, match="least"):
        ShareBounds(least=0.5, most=0.4)
