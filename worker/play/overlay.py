"""One frame: the environment's picture, and above it how the episode stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from trialfleet.study.measures import as_score

_NARROWEST = 240  # pixels; less has no room for the text
_STRIP = 24  # pixels above the picture
_MARGIN = 8
_FONT_SIZE = 13
_DARK, _LIGHT, _DIM, _END = (24, 26, 32), (245, 246, 248), (158, 164, 176), (255, 196, 61)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the text says."""

    title: str
    episode: int  # from 1
    episodes: int
    step: int  # environment steps done
    total: float  # sum of the rewards so far
    ended: bool

    @property
    def text(self) -> str:
        """How the episode stands."""
        number = f"episode {self.episode}/{self.episodes}   " if self.episodes > 1 else ""
        total = f"{self.total:,.0f}" if self.total == round(self.total) else as_score(self.total)
        return f"{number}step {self.step:,}   return {total}"


def draw(picture: NDArray[np.uint8], told: Told, *, width: int) -> Image.Image:
    """The picture [H, W, 3], scaled to at most `width` pixels, under a strip of text.

    Both sides of what comes out are even, as videos want them.
    """
    image = _scaled(Image.fromarray(picture), width)
    frame = Image.new("RGB", (image.width, image.height + _STRIP), _DARK)
    frame.paste(image, (0, _STRIP))
    pen = ImageDraw.Draw(frame)
    font = ImageFont.load_default(_FONT_SIZE)
    right = frame.width - _MARGIN
    color = _END if told.ended else _LIGHT
    pen.text((right, _STRIP // 2), told.text, color, font, anchor="rm")
    room = right - pen.textlength(told.text, font) - 2 * _MARGIN
    if _MARGIN + pen.textlength(told.title, font) <= room:
        pen.text((_MARGIN, _STRIP // 2), told.title, _DIM, font, anchor="lm")
    return frame


def _scaled(image: Image.Image, width: int) -> Image.Image:
    if image.width < _NARROWEST:  # a grid of a few pixels: its edges stay sharp
        factor, how = -(-_NARROWEST // image.width), Image.Resampling.NEAREST
        size = image.width * factor, image.height * factor
    else:
        share, how = min(1.0, width / image.width), Image.Resampling.BILINEAR
        size = round(image.width * share), max(1, round(image.height * share))
    even = size[0] // 2 * 2, max(2, size[1] // 2 * 2)
    return image if image.size == even else image.resize(even, how)
