"""Runs a suite on a frame as a Great Expectations checkpoint and says which rows fail which rule.

Progress bars are off: a stage's own bar is on stderr, and stdout belongs to the command. Time stamps and
random ids are left out of the kept results, so that the same data gives the same bytes (a DVC output).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.expectation import Expectation

from miras.quality.suites import Rule, Suite


@dataclass(frozen=True)
class RuleResult:
    """What one expectation found."""

    rule: Rule
    rows_checked: int
    """Rows the rule applies to."""
    failed_rows: tuple[int, ...]
    """Values of the frame's `row` column, ascending."""
    raw: Mapping[str, Any]
    """Great Expectations' own result."""


@dataclass(frozen=True)
class Validation:
    """What a suite found in a frame."""

    suite: Suite
    rows: int
    results: tuple[RuleResult, ...]

    @property
    def success(self) -> bool:
        """Whether no row failed any rule."""
        return not any(result.failed_rows for result in self.results)

    def raw(self) -> dict[str, Any]:
        """Great Expectations' results in the order of the suite, as JSON values."""
        return {
            "suite_name": self.suite.name,
            "success": self.success,
            "great_expectations_version": gx.__version__,
            "rows": self.rows,
            "results": [dict(result.raw) for result in self.results],
        }


def validate(frame: pd.DataFrame, suite: Suite) -> Validation:
    """The suite's verdict on a frame with the columns `row` and `record_id`."""
    raw_by_rule = _run_checkpoint(frame, suite)
    results = [_rule_result(rule, raw_by_rule[rule.name]) for rule in suite.rules]
    return Validation(suite=suite, rows=len(frame), results=tuple(results))


def reasons_by_row(validation: Validation, frame: pd.DataFrame) -> dict[int, dict[str, str]]:
    """Row -> rule name -> what is wrong, for every row that fails."""
    reasons: dict[int, dict[str, str]] = {}
    for result in validation.results:
        for values in frame.iloc[list(result.failed_rows)].to_dict("records"):
            reasons.setdefault(values["row"], {})[result.rule.name] = result.rule.reason.format_map(values)
    return reasons


def _run_checkpoint(frame: pd.DataFrame, suite: Suite) -> dict[str, dict[str, Any]]:
    context = gx.get_context(project_config=_quiet_config(), mode="ephemeral")
    asset = context.data_sources.add_pandas("miras").add_dataframe_asset(suite.name)
    definition = gx.ValidationDefinition(
        name=suite.name,
        data=asset.add_batch_definition_whole_dataframe("all"),
        suite=context.suites.add(
            gx.ExpectationSuite(name=suite.name, expectations=[_labelled(rule) for rule in suite.rules])
        ),
    )
    checkpoint = gx.Checkpoint(
        name=suite.name,
        validation_definitions=[context.validation_definitions.add(definition)],
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": ["row", "record_id"],
            "return_unexpected_index_query": False,
        },
    )
    outcome = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
    (result,) = outcome.run_results.values()
    raw = result.to_json_dict()["results"]
    return {item["expectation_config"]["meta"]["rule"]: _without_chance(item) for item in raw}


def _quiet_config() -> DataContextConfig:
    """In memory, without progress bars, telemetry or pages of Great Expectations' own."""
    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )


def _labelled(rule: Rule) -> Expectation:
    """A copy with the rule's name, which comes back with its result; a suite keeps what it is given."""
    expectation = copy.copy(rule.expectation)
    expectation.meta = {"rule": rule.name}
    expectation.description = rule.says
    return expectation


def _without_chance(item: dict[str, Any]) -> dict[str, Any]:
    """A result without random ids; an expectation that could not run is a fault of ours."""
    if "element_count" not in item["result"]:
        raise RuntimeError(f"expectation could not run: {item['expectation_config']}: {item['exception_info']}")
    config = {key: value for key, value in item["expectation_config"].items() if key != "id"}
    config["kwargs"] = {key: value for key, value in config["kwargs"].items() if key != "batch_id"}
    kept = {key: value for key, value in item["result"].items() if not key.startswith("partial_")}
    return {"success": item["success"], "expectation_config": config, "result": kept}


def _rule_result(rule: Rule, raw: dict[str, Any]) -> RuleResult:
    counts = raw["result"]
    failed = sorted({int(index["row"]) for index in counts.get("unexpected_index_list") or ()})
    assert len(failed) == counts["unexpected_count"], raw
    rows_checked = counts["element_count"] - counts.get("missing_count", 0)
    return RuleResult(rule=rule, rows_checked=rows_checked, failed_rows=tuple(failed), raw=raw)
