"""The items; the pipeline reads the field `image_urls` and fills the field `images`."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Product:
    """One product of the shop."""

    name: str
    image_urls: list[str] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
