"""Which models can be asked, and how each is opened. A description is JSON, so that every process can open its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from miras.dialogue.records import Frozen, Picture
from miras.evaluate.box_model import BoxModel, BoxModelConfig
from miras.evaluate.predict import Responds
from miras.llm.asking import open_model
from miras.llm.config import ServiceConfig
from miras.model.features import FeatureStore
from miras.model.responder import Responder, StoredPicture
from miras.model.weights import Backbones
from miras.pretrained import check_files, open_export


class StageModel(Frozen):
    """What a training stage wrote."""

    kind: Literal["stage"] = "stage"
    backbones: str
    weights: str
    """Folder of stage1 or stage2."""
    is_blind: bool = False
    """Shown a grey picture instead of the right one: the no-picture baseline."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Whose files decide its answers."""
        return self.backbones, self.weights

    def open(self, features: str, pictures: Mapping[str, StoredPicture]) -> Responds:
        """Ready to answer."""
        responder = Responder.load(
            Path(self.backbones), Path(self.weights), features=Path(features), pictures=pictures, device=_device()
        )
        return responder.without_picture() if self.is_blind else responder


class ExportedModel(Frozen):
    """A directory that `miras export` wrote."""

    kind: Literal["exported"] = "exported"
    folder: str

    @property
    def backbones(self) -> str:
        """The export is a backbones folder at the same time."""
        return self.folder

    @property
    def folders(self) -> tuple[str, ...]:
        """Whose files decide its answers."""
        return (self.folder,)

    def open(self, features: str, pictures: Mapping[str, StoredPicture]) -> Responds:
        """Ready to answer."""
        folder = Path(self.folder)
        check_files(folder)
        opened = open_export(folder)
        store = FeatureStore(Path(features), fingerprint=Backbones(folder).manifest.fingerprint)
        return Responder(
            opened.network,
            opened.builder,
            device=_device(),
            store=store,
            encoders=lambda: opened.encoders,
            pictures=pictures,
        )


class ServedModel(Frozen):
    """A model behind an OpenAI-compatible server, which points with boxes."""

    kind: Literal["served"] = "served"
    box: BoxModelConfig
    service: ServiceConfig
    answers: str
    """Folder of paid answers and the budget's ledger."""

    @property
    def folders(self) -> tuple[str, ...]:
        """None: its answers are decided elsewhere."""
        return ()

    def open(self, features: str, pictures: Mapping[str, StoredPicture]) -> Responds:
        """Ready to answer."""
        asked = open_model(self.box.model, self.service, cache=Path(self.answers))
        return BoxModel(asked, self.box, pictures=pictures)


Model = Annotated[StageModel | ExportedModel | ServedModel, Field(discriminator="kind")]


def stored_pictures(pictures: Mapping[str, Picture], folder: Path) -> dict[str, StoredPicture]:
    """Where the pictures of a data set lie, by image id."""
    return {
        image_id: StoredPicture(folder / picture.file_name, picture.height, picture.width)
        for image_id, picture in pictures.items()
    }


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
