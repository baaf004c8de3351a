"""A picture of samples: a labeled row for each condition, of which some are marked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

WHITE = (255, 255, 255)
INK = (40, 40, 40)
MARK = (200, 30, 30)
GAP = 2
MARGIN = 8
FONT_SIZE = 13


@dataclass(frozen=True)
class GridRow:
    """A row of the picture.

    Attributes:
        label: left of the images.
        images: (n, C, H, W) in [-1, 1], gray or RGB.
        marked: whether label and frame are red.
    """

    label: str
    images: Tensor
    marked: bool = False


def sample_grid(rows: Sequence[GridRow], *, scale: int) -> bytes:
    """Return the rows, one below the other, as a PNG file: the same rows give the same bytes.

    Args:
        rows: with images of one shape; their numbers may differ.
        scale: pixels of the picture for one of an image, along each side.
    """
    font = ImageFont.load_default(FONT_SIZE)
    left = 2 * MARGIN + round(max(font.getlength(row.label) for row in rows))
    tiles = [[_tile(image, scale) for image in row.images] for row in rows]
    width, height = tiles[0][0].width + 2 * GAP, tiles[0][0].height + 2 * GAP
    size = (left + max(map(len, tiles)) * width + MARGIN, len(rows) * (height + GAP) + 2 * MARGIN)
    picture = Image.new("RGB", size, WHITE)
    pen = ImageDraw.Draw(picture)
    for index, (row, images) in enumerate(zip(rows, tiles, strict=True)):
        top = MARGIN + index * (height + GAP)
        color = MARK if row.marked else INK
        pen.text((left - MARGIN, top + height / 2), row.label, fill=color, font=font, anchor="rm")
        if row.marked:
            pen.rectangle((left, top, left + len(images) * width - 1, top + height - 1), fill=MARK)
        for column, image in enumerate(images):
            picture.paste(image, (left + column * width + GAP, top + GAP))
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def shrunk(images: Tensor, largest: int) -> Tensor:
    """Return images (n, C, H, W) of at most so many pixels a side, averaged where they have more."""
    height, width = images.shape[-2:]
    longest = max(height, width)
    if longest <= largest:
        return images
    size = [max(1, round(side * largest / longest)) for side in (height, width)]
    return interpolate(images.clamp(-1, 1), size, mode="bilinear", antialias=True)


def _tile(image: Tensor, scale: int) -> Image.Image:
    levels = ((image.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    colors = levels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    tile = Image.fromarray(colors)
    return tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)
