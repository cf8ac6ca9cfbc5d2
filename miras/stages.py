"""The stages: which function runs each and which sections of params.yaml it may read.

`dvc.yaml` states the graph; this table only binds names to code. A contract test checks that both agree.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A stage's function `module:function`, called as `function(paths=..., work=..., <section>=...)`."""

    function: str
    sections: tuple[str, ...]


STAGES: dict[str, Stage] = {
    "ingest": Stage("miras.sources.stage:run", ("ingest",)),
    "generate": Stage("miras.generate.stage:run", ("generate",)),
    "annotate": Stage("miras.annotate.stage:run", ("annotate",)),
    "check": Stage("miras.quality.stage:run", ("check",)),
    "split": Stage("miras.quality.split:run", ("split",)),
    "card": Stage("miras.card.stage:run", ("card", "generate", "annotate", "check", "split")),
    "backbones": Stage("miras.model.backbones:run", ("backbones",)),
    "features": Stage("miras.model.features:run", ("features",)),
    "stage1": Stage("miras.train.stage:run_stage1", ("network", "stage1")),
    "stage2": Stage("miras.train.stage:run_stage2", ("network", "stage2")),
    "evaluate": Stage("miras.evaluate.stage:run", ("evaluate",)),
    "report": Stage("miras.evaluate.report:run", ("report",)),
    "register": Stage("tasks.registry.register:run", ("register",)),
}
