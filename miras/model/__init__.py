"""The network: vision, mining, language, region alignment, mask decoder; its losses and its weights.

Importing this package makes torchvision importable beside a CPU-only torch (see `torchvision_compat`).
"""

from miras.model.torchvision_compat import ensure_torchvision

ensure_torchvision()
