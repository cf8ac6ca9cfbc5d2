"""miras: from pictures to a registered, chat-able model for pixel-level reasoning segmentation.

The library runs without any orchestrator; `flows/` and `tasks/` drive it. `from miras import Miras` opens an exported
model.
"""

from typing import TYPE_CHECKING, Any

from miras.torchvision_compat import install

if TYPE_CHECKING:
    from miras.pretrained import Miras

__all__ = ["Miras", "__version__"]
__version__ = "0.1.0"

install()


def __getattr__(name: str) -> Any:
    """`Miras`, imported at first use: it brings torch and transformers, which take seconds."""
    if name == "Miras":
        from miras.pretrained import Miras

        return Miras
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
