"""What `miras doctor` says of the weights: whether each part's are here, whole, and those that were recorded."""

from __future__ import annotations

import json
from pathlib import Path

from miras.doctor.findings import Finding, counted
from miras.errors import DataError
from miras.model.config import BackbonesConfig, Public


def weights(folder: Path, config: BackbonesConfig) -> list[Finding]:
    """Whether each part's weights are here and are those whose hash `folder`/backbones.json recorded."""
    from miras.model.weights import Backbones

    kind = "public" if config.public is not None else "mini"
    try:
        manifest = Backbones(folder).manifest
    except DataError:
        manifest = None
    except ValueError as error:
        remedy = "`dvc repro -f -s backbones` writes it again."
        return [Finding("weights", "error", f"{folder}/backbones.json: {str(error).splitlines()[0]}", remedy)]
    recorded = manifest.sha256 if manifest is not None and manifest.kind == kind else {}
    if config.public is not None:
        return public_weights(config.public, recorded)
    if manifest is None or not recorded:
        return [Finding("weights", "ok", "mini ones, not made yet: the stage backbones trains them")]
    remedy = f"`dvc checkout {folder}` brings back what was recorded; `dvc repro -f -s backbones` makes new ones."
    parts = {"llava": manifest.llava, "convnext": manifest.convnext, "sam": manifest.sam}
    return [
        identity(f"weights {part}", folder / name, recorded=recorded.get(part), where="mini", remedy=remedy)
        for part, name in parts.items()
        if name
    ]


def public_weights(public: Public, recorded: dict[str, str]) -> list[Finding]:
    """Whether published weights are here, by path or in the hub's cache, with the hash recorded for each part."""
    names = {"llava": public.llava, "convnext": public.convnext, "sam": public.sam}
    return [_published(part, name, recorded.get(part)) for part, name in names.items() if name]


def _published(part: str, name: str, recorded: str | None) -> Finding:
    """The finding about a part named by a path or as on the hub, of which only the local cache is looked into."""
    check, place, where = f"weights {part}", Path(name), f"local {name}"
    if not place.exists():
        if part == "sam":
            remedy = "Download a sam_vit_*.pth and name it in backbones.public.sam."
            return Finding(check, "error", f"{name}: no such file", remedy)
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        where = f"hub {name}, in the cache"
        try:
            place = Path(snapshot_download(name, local_files_only=True))
        except HFValidationError:
            return Finding(check, "error", f"{name}: neither a folder nor a hub name", "Correct backbones.public.")
        except LocalEntryNotFoundError:
            if constants.HF_HUB_OFFLINE:
                remedy = "Unset HF_HUB_OFFLINE, or copy the checkpoint here and name its folder."
                return Finding(check, "error", f"hub {name}: not in the cache, and HF_HUB_OFFLINE is set", remedy)
            remedy = f"The stage backbones fetches it; `hf download {name}` does it now."
            return Finding(check, "warning", f"hub {name}: not in the cache", remedy)
    remedy = "Put the published files back; or, if they are to be these, `dvc repro -f -s backbones` pins them."
    return identity(check, place, recorded=recorded, where=where, remedy=remedy)


def identity(check: str, place: Path, *, recorded: str | None, where: str, remedy: str) -> Finding:
    """Whether the weights at a place (file or folder) are complete and hash to what was recorded.

    `where` is how params.yaml names them, `remedy` what helps against another hash.
    """
    if absent := missing_shards(place):
        again = f"Download it again: an interrupted download leaves such a folder ({place})."
        return Finding(check, "error", f"{where}: {counted(len(absent), 'file')} missing, first {absent[0]}", again)
    if recorded is None:
        return Finding(check, "ok", f"{where}; no hash recorded yet: the stage backbones does")
    from miras.model.weight_files import weights_sha256

    try:
        now = weights_sha256(place)
    except (DataError, OSError) as error:
        return Finding(check, "error", str(error), remedy)
    if now != recorded:
        return Finding(check, "error", f"{where}: hash {now[:12]}, recorded {recorded[:12]}", remedy)
    return Finding(check, "ok", f"{where}; hash {now[:12]} as recorded")


def missing_shards(place: Path) -> list[str]:
    """Weight files that a folder's index names and the folder has not."""
    indices = place.glob("*.safetensors.index.json")  # none in a file
    named = {name for index in indices for name in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    return sorted(name for name in named if not (place / name).exists())
