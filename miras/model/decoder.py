"""SAM's mask decoder over a whole batch: one call for all prompts of all pictures.

`segment_anything`'s own forward assumes one picture per call; here every prompt names its picture.
Letters: B pictures, n prompts, P sparse tokens per prompt, D prompt width, g embedding side, 4g mask side.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder
from torch import Tensor


def decode_masks(
    decoder: MaskDecoder,
    prompt_encoder: PromptEncoder,
    *,
    image_embeddings: Tensor,
    prompts: Tensor,
    image_index: Tensor,
) -> Tensor:
    """Mask logits [n, 4g, 4g], SAM's first (single-mask) output.

    Args:
        image_embeddings: [B, D, g, g].
        prompts: [n, P, D] sparse prompt embeddings; no type or position is added.
        image_index: int [n], the picture of each prompt.
    """
    count, grid, device = prompts.shape[0], image_embeddings.shape[-1], prompts.device
    # Embeddings are called, not read: under ZeRO-3 a weight exists only while its module runs.
    dense = prompt_encoder.no_mask_embed(torch.zeros(1, dtype=torch.long, device=device)).reshape(1, -1, 1, 1)
    position = prompt_encoder.get_dense_pe().to(image_embeddings.dtype)
    own = torch.cat(
        [
            decoder.iou_token(torch.zeros(1, dtype=torch.long, device=device)),
            decoder.mask_tokens(torch.arange(decoder.num_mask_tokens, device=device)),
        ]
    )
    tokens = torch.cat([own.expand(count, -1, -1), prompts.to(own.dtype)], dim=1)
    hidden, source = decoder.transformer(
        (image_embeddings + dense)[image_index], position.expand(count, -1, -1, -1), tokens
    )
    source = source.transpose(1, 2).reshape(count, -1, grid, grid)
    upscaled = decoder.output_upscaling(source)
    kernel = decoder.output_hypernetworks_mlps[0](hidden[:, 1])  # token 0 is the IoU token
    return torch.einsum("nc,nchw->nhw", kernel, upscaled)
