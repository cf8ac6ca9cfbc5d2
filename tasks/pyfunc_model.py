"""The registered model as MLflow loads it (models-from-code: MLflow stores this file, not a pickle).

Self-contained but for the package `miras`, which travels with the model.

Input, one row per picture: `image`, the picture file's bytes in base64; `questions`, a JSON list of the turns
of one dialogue; optionally `refers_to`, a JSON list with, for each question, the indices of earlier ones whose masks
it speaks of (networks with mask memory). Output: `answers`, a JSON list of plain texts; `masks`, a JSON list with,
for each answer, a list of `{"phrase": ..., "rle": {"size": [height, width], "counts": ...}}` (COCO run lengths,
pixels of the upright picture).
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from miras.dialogue.masks import encode
from miras.dialogue.rendering import plain_text


class MirasModel(PythonModel):
    """Answers the questions of a dialogue about a picture, with masks."""

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the exported model; torch is imported only here."""
        from miras.pretrained import Miras

        self.model = Miras.from_pretrained(context.artifacts["model"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of answers and masks per row of picture and questions."""
        references = model_input.get("refers_to", pd.Series([None] * len(model_input)))
        rows = [
            self._respond(image, questions, refers_to)
            for image, questions, refers_to in zip(
                model_input["image"], model_input["questions"], references, strict=True
            )
        ]
        return pd.DataFrame(rows, columns=["answers", "masks"])

    def _respond(self, image: str, questions: str, refers_to: str | None) -> tuple[str, str]:
        references = json.loads(refers_to) if isinstance(refers_to, str) else ()
        responses = self.model.ask(base64.b64decode(image), json.loads(questions), refers_to=references)
        answers = [plain_text(response.answer) for response in responses]
        masks = [
            [{"phrase": group.phrase, "rle": encode(group.mask).model_dump()} for group in response.groups]
            for response in responses
        ]
        return json.dumps(answers), json.dumps(masks)


set_model(MirasModel())
