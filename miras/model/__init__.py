"""The network: vision, mining, language, region alignment, mask decoder; its losses and its weights."""
