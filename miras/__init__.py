"""miras: from pictures to a registered, chat-able model for pixel-level reasoning segmentation.

The library runs without any orchestrator; `flows/` and `tasks/` drive it.
"""

from miras.torchvision_compat import install

__version__ = "0.1.0"

install()
