"""The items; `image_urls` and `images` are the fields that the pipeline knows."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Product:
    """One product of the shop."""

    name: str
    image_urls: list[str] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
