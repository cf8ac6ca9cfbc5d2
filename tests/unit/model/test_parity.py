"""Fast code against slow, clear versions of the same rule, and our SAM parts against `SamPredictor`.

Two things differ from SAM on purpose. Pictures are resized by bicubic instead of bilinear interpolation: equal input
must give equal embeddings, and a picture that needs no resizing is equal input. Logits go to the picture in one
resize instead of two: masks are the same where the frame holds the picture pixel by pixel, nearly so elsewhere.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from segment_anything import SamPredictor
from segment_anything.modeling import Sam as PublishedSam
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from miras.model import losses
from miras.model.decoder import decode_masks
from miras.model.mining import PatchMining
from miras.model.sam import Sam, SamShape, build_sam
from miras.model.vision import VisionEncoders, frame, mask_to_frame, masks_from_frame

SIDE = 256  # of SAM's input; a picture with this longer side is not resized
SIZES = [(480, 640), (683, 1024), (1024, 333)]  # height, width
PROMPTS = {
    "point": {"point_coords": np.array([[0.3, 0.4]]), "point_labels": np.array([1])},
    "box": {"box": np.array([0.1, 0.2, 0.6, 0.9])},
    "nothing": {},
}
"""Arguments of `SamPredictor.predict`; places as shares of width and height."""


# --- Slow versions -------------------------------------------------------------------------------------------------


def slow_normalised(vector: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    """LayerNorm of one vector."""
    spread = ((vector - vector.mean()) ** 2).mean()
    return (vector - vector.mean()) / torch.sqrt(spread + norm.eps) * norm.weight + norm.bias


def slow_projected(vector: Tensor, layers: torch.nn.Sequential) -> Tensor:
    """LayerNorm, then Linear, of one vector."""
    return layers[1].weight @ slow_normalised(vector, layers[0]) + layers[1].bias


def slow_mining(mining: PatchMining, low: Tensor, high: Tensor) -> Tensor:
    """Token by token: softmax attention over the cells of its own window, added to the token."""
    tokens_per_side = math.isqrt(low.shape[1])
    window = high.shape[-1] // tokens_per_side
    mined = low.clone()
    for picture in range(low.shape[0]):
        for token in range(low.shape[1]):
            top, left = (index * window for index in divmod(token, tokens_per_side))
            query = slow_projected(low[picture, token], mining.query)
            scores, values = [], []
            for row in range(top, top + window):
                for column in range(left, left + window):
                    cell = high[picture, :, row, column]
                    scores.append(math.exp(query @ slow_projected(cell, mining.key) / math.sqrt(len(query))))
                    values.append(slow_projected(cell, mining.value))
            for score, value in zip(scores, values, strict=True):
                mined[picture, token] += score / sum(scores) * value
    return mined


def slow_bce(logits: list[list[float]], target: list[list[float]]) -> float:
    """Mean over pixels of -t log p - (1 - t) log (1 - p)."""
    terms = []
    for logit_row, target_row in zip(logits, target, strict=True):
        for logit, wanted in zip(logit_row, target_row, strict=True):
            probability = 1 / (1 + math.exp(-logit))
            terms.append(-wanted * math.log(probability) - (1 - wanted) * math.log(1 - probability))
    return sum(terms) / len(terms)


def slow_dice(logits: list[list[float]], target: list[list[float]]) -> float:
    """1 - (2 overlap + 1) / (areas + 1): smoothing 1."""
    overlap = areas = 0.0
    for logit_row, target_row in zip(logits, target, strict=True):
        for logit, wanted in zip(logit_row, target_row, strict=True):
            probability = 1 / (1 + math.exp(-logit))
            overlap += probability * wanted
            areas += probability + wanted
    return 1 - (2 * overlap + 1) / (areas + 1)


def slow_mask(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixel by pixel: is the logit at the pixel's middle, between the middles of four cells, above zero."""
    cells_per_px = len(logits) / max(height, width)

    def neighbours(pixel: int) -> tuple[int, int, float]:
        place = max((pixel + 0.5) * cells_per_px - 0.5, 0)
        first = min(int(place), len(logits) - 1)
        return first, min(first + 1, len(logits) - 1), place - first

    mask = np.zeros((height, width), bool)
    for y in range(height):
        top, bottom, down = neighbours(y)
        for x in range(width):
            left, right, across = neighbours(x)
            above = logits[top, left] * (1 - across) + logits[top, right] * across
            below = logits[bottom, left] * (1 - across) + logits[bottom, right] * across
            mask[y, x] = above * (1 - down) + below * down > 0
    return mask


def test_mining_equals_attention_token_by_token() -> None:
    torch.manual_seed(0)
    mining = PatchMining(low_width=4, high_width=5).requires_grad_(False)
    for layers in (mining.query, mining.key, mining.value):
        torch.nn.init.normal_(layers[0].weight)
        torch.nn.init.normal_(layers[0].bias)
    low, high = torch.randn(2, 9, 4), 3 * torch.randn(2, 5, 6, 6)
    torch.testing.assert_close(mining(low, high), slow_mining(mining, low, high), rtol=1e-4, atol=1e-5)


def test_bce_dice_and_their_weighted_sum_equal_sums_pixel_by_pixel() -> None:
    torch.manual_seed(0)
    logits = 4 * torch.randn(5, 6, 6)
    target = torch.stack([torch.zeros(6, 6), torch.ones(6, 6), *torch.rand(3, 6, 6).round()])
    target[4] = torch.rand(6, 6)  # covered shares, as `mask_to_frame` gives them
    bce = [slow_bce(*pair) for pair in zip(logits.tolist(), target.tolist(), strict=True)]
    dice = [slow_dice(*pair) for pair in zip(logits.tolist(), target.tolist(), strict=True)]
    assert losses.mask_bce(logits, target).tolist() == pytest.approx(bce, rel=1e-4)
    assert losses.mask_dice(logits, target).tolist() == pytest.approx(dice, rel=1e-4)
    total = losses.mask_sums(logits, target, losses.LossWeights())[-1]
    assert total.item() == pytest.approx(2.0 * sum(bce) + 0.5 * sum(dice), rel=1e-4)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (13, 4), (8, 8), (3, 3), (1, 9), (1, 1)])
def test_masks_in_pixels_of_the_picture_equal_those_pixel_by_pixel(height: int, width: int) -> None:
    logits = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    masks = masks_from_frame(logits, height=height, width=width)
    expected = [slow_mask(each, height, width) for each in logits.double().numpy()]
    assert np.array_equal(masks.numpy(), np.stack(expected))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("shape", ["bar", "ring", "corner"])
def test_a_mask_letterboxed_and_back_is_the_same_mask(height: int, width: int, shape: str) -> None:
    y, x = np.mgrid[:height, :width]
    from_middle = np.hypot(y - height / 2, x - width / 2) / min(height, width)
    mask = {
        "bar": np.abs(y - height / 2) < height / 8,
        "ring": (from_middle > 0.15) & (from_middle < 0.45),
        "corner": (y > height * 0.7) & (x > width * 0.7),
    }[shape]
    covered = torch.from_numpy(mask_to_frame(mask, 256))[None]
    assert iou(masks_from_frame(covered - 0.5, height=height, width=width)[0].numpy(), mask) > 0.99


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks that are not both empty."""
    return float((one & other).sum() / (one | other).sum())


# --- segment_anything ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sam() -> Sam:
    """A small SAM (windows with padding, relative positions) in which no weight is left at zero."""
    torch.manual_seed(0)
    small = build_sam(SamShape(image_size_px=SIDE, width=16, layers=2, heads=2, global_attention=[1], prompt_width=32))
    for part in vars(small).values():
        part.eval().requires_grad_(False)
        for parameter in part.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return small


@pytest.fixture
def predictor(sam: Sam) -> SamPredictor:
    """segment_anything's own predictor on the same weights."""
    return SamPredictor(PublishedSam(sam.image_encoder, sam.prompt_encoder, sam.mask_decoder))


def picture_of(height: int, width: int) -> Image.Image:
    """Waves with one sharp edge."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    channels = [127 + 120 * np.sin(9 * x + 3 * y), 127 + 120 * np.cos(7 * y - 2 * x), 255 * (x > 0.2) * (y > 0.1)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def our_embedding(sam: Sam, picture: Image.Image) -> Tensor:
    """What our frozen encoders say of a picture to the mask decoder: [1, D, g, g]."""
    clip = CLIPVisionModel(
        CLIPVisionConfig(
            image_size=8, patch_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    )
    encoders = VisionEncoders(
        clip=clip, clip_layer=-1, convnext=None, high_size_px=0, high_grid=0, sam=sam.image_encoder
    )
    return encoders([picture]).sam


def give_our_frame(predictor: SamPredictor, picture: Image.Image) -> None:
    """Sets the picture of SAM's predictor as our frame holds it, padding left to SAM."""
    square, (height, width) = frame(picture, SIDE)
    pixels = torch.from_numpy(square[:height, :width].copy()).permute(2, 0, 1)
    predictor.set_torch_image(pixels[None], (picture.height, picture.width))


@pytest.mark.parametrize(("height", "width"), [*SIZES, (90, 120), (7, 300)])
def test_equal_input_gives_sams_image_embedding(sam: Sam, predictor: SamPredictor, height: int, width: int) -> None:
    picture = picture_of(height, width)
    give_our_frame(predictor, picture)
    torch.testing.assert_close(our_embedding(sam, picture), predictor.features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(SIDE, SIDE), (171, SIDE), (SIDE, 83)])
def test_a_picture_that_is_not_resized_has_the_embedding_that_sam_itself_makes(
    sam: Sam, predictor: SamPredictor, height: int, width: int
) -> None:
    picture = picture_of(height, width)
    predictor.set_image(np.asarray(picture))
    torch.testing.assert_close(our_embedding(sam, picture), predictor.features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [*SIZES, (90, 120)])
def test_our_frame_is_sams_but_for_the_resize(predictor: SamPredictor, height: int, width: int) -> None:
    picture = picture_of(height, width)
    square, size = frame(picture, SIDE)
    theirs = predictor.transform.apply_image(np.asarray(picture))
    assert size == theirs.shape[:2]
    difference = np.abs(square[: size[0], : size[1]].astype(int) - theirs)
    assert difference.mean() < 1  # of 255; at edges bicubic and bilinear differ by more


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize(("height", "width"), [*SIZES, (171, SIDE), (SIDE, SIDE)])
def test_our_low_resolution_logits_are_sams(
    sam: Sam, predictor: SamPredictor, height: int, width: int, prompt: str
) -> None:
    picture = picture_of(height, width)
    give_our_frame(predictor, picture)
    arguments = in_pixels(PROMPTS[prompt], height, width)
    masks, _, logits = predictor.predict(**arguments, multimask_output=False)
    ours = decode_masks(
        sam.mask_decoder,
        sam.prompt_encoder,
        image_embeddings=our_embedding(sam, picture),
        prompts=sparse_prompts(sam, predictor, arguments),
        image_index=torch.tensor([0]),
    )
    torch.testing.assert_close(ours, torch.from_numpy(logits), rtol=1e-4, atol=1e-5)
    if max(height, width) == SIDE:  # one resize and two are the same
        assert 0.01 < masks.mean() < 0.99
        assert np.array_equal(masks_from_frame(ours, height=height, width=width).numpy(), masks)


def in_pixels(prompt: dict[str, np.ndarray], height: int, width: int) -> dict[str, np.ndarray]:
    """A prompt with its places in pixels of the picture."""
    size = {"point_coords": [width, height], "box": [width, height, width, height]}
    return {name: value * size[name] if name in size else value for name, value in prompt.items()}


def sparse_prompts(sam: Sam, predictor: SamPredictor, arguments: dict[str, np.ndarray]) -> Tensor:
    """The prompt as tokens [1, P, D] of SAM's prompt encoder; P is 0 without any."""
    places = {
        name: torch.from_numpy(predictor.transform.apply_coords(value.reshape(-1, 2), predictor.original_size))
        for name, value in arguments.items()
        if name != "point_labels"
    }
    points = (places["point_coords"][None].float(), torch.ones(1, 1)) if "point_coords" in places else None
    box = places["box"].reshape(1, 4).float() if "box" in places else None
    tokens: Tensor = sam.prompt_encoder(points=points, boxes=box, masks=None)[0]
    return tokens


@pytest.mark.parametrize("num_tokens", [0, 1, 2, 5])
def test_one_decoder_call_equals_segment_anything_prompt_by_prompt(sam: Sam, num_tokens: int) -> None:
    torch.manual_seed(0)
    grid, index = SIDE // 16, [2, 0, 2, 1, 2]
    embeddings, prompts = torch.randn(3, 32, grid, grid), torch.randn(len(index), num_tokens, 32)
    together = decode_masks(
        sam.mask_decoder,
        sam.prompt_encoder,
        image_embeddings=embeddings,
        prompts=prompts,
        image_index=torch.tensor(index),
    )
    for number, picture in enumerate(index):
        alone, _ = sam.mask_decoder(
            image_embeddings=embeddings[picture : picture + 1],
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompts[number : number + 1],
            dense_prompt_embeddings=sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(
                -1, -1, grid, grid
            ),
            multimask_output=False,
        )
        torch.testing.assert_close(together[number], alone[0, 0], rtol=1e-4, atol=1e-5)


def test_the_decoder_learns_what_segment_anythings_would(sam: Sam) -> None:
    torch.manual_seed(0)
    decoder, grid = copy.deepcopy(sam.mask_decoder).requires_grad_(True), SIDE // 16
    embedding, prompts = torch.randn(1, 32, grid, grid), torch.randn(1, 1, 32, requires_grad=True)
    ours = decode_masks(
        decoder,
        sam.prompt_encoder,
        image_embeddings=embedding,
        prompts=prompts,
        image_index=torch.tensor([0]),
    )
    theirs, _ = decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=prompts,
        dense_prompt_embeddings=sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(-1, -1, grid, grid),
        multimask_output=False,
    )
    weights = list(decoder.transformer.parameters())
    towards = torch.randn_like(ours)
    for mine, published in zip(
        torch.autograd.grad((ours * towards).sum(), [prompts, *weights]),
        torch.autograd.grad((theirs[:, 0] * towards).sum(), [prompts, *weights]),
        strict=True,
    ):
        torch.testing.assert_close(mine, published, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_smooth_logits_give_nearly_the_masks_of_sams_post_processing(height: int, width: int) -> None:
    """At the published size: 256 cells, 1024 px. SAM crops to whole pixels of its frame, we to those of the picture."""
    coarse = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    logits = F.interpolate(coarse, size=(256, 256), mode="bicubic")
    sized = build_sam(SamShape(width=8, layers=1, heads=1, global_attention=[], prompt_width=16))
    published = PublishedSam(sized.image_encoder, sized.prompt_encoder, sized.mask_decoder)
    input_size = frame(Image.new("RGB", (width, height)), 1024)[1]
    theirs = published.postprocess_masks(logits, input_size, (height, width))[:, 0] > 0
    ours = masks_from_frame(logits[:, 0], height=height, width=width)
    for mine, published_mask in zip(ours.numpy(), theirs.numpy(), strict=True):
        assert iou(mine, published_mask) > 0.99
