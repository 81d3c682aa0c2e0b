"""A film as a file: GIF with one palette for all frames, or MP4."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from worker.play.film import Film

_COLORS = 128
_SAMPLE = 12  # frames that the palette is made from
_HOLD = 1.0  # seconds that an episode's last frame stays


def as_gif(film: Film) -> bytes:
    """All frames with one palette, so that a frame's bytes are only what has changed in it."""
    images = [frame.image for frame in film.frames]
    palette = _palette(images)
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    # A GIF counts in hundredths of a second, and viewers slow down what has less than two of them.
    usual = max(20, round(film.seconds * 100) * 10)
    durations = [round(_HOLD * 1000) if frame.last else usual for frame in film.frames]
    buffer = io.BytesIO()
    flat[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=flat[1:],
        duration=durations,
        loop=0,
        disposal=1,
        optimize=False,
    )
    return buffer.getvalue()


def _palette(images: Sequence[Image.Image]) -> Image.Image:
    sample = images[:: -(-len(images) // _SAMPLE)]
    width, height = sample[0].size
    mosaic = Image.new("RGB", (width, height * len(sample)))
    for place, image in enumerate(sample):
        mosaic.paste(image, (0, place * height))
    return mosaic.quantize(_COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def as_mp4(film: Film) -> bytes:
    """H.264, as every browser plays it.

    Raises:
        ImportError: imageio-ffmpeg is not installed.
        OSError: FFmpeg cannot be run, or has failed.
    """
    from imageio_ffmpeg import write_frames

    size = film.frames[0].image.size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        writer = write_frames(
            str(path),
            size,
            fps=1 / film.seconds,
            codec="libx264",
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=["-movflags", "+faststart"],
        )
        writer.send(None)
        for frame in film.frames:
            for _ in range(round(_HOLD / film.seconds) if frame.last else 1):
                writer.send(frame.image.tobytes())
        writer.close()
        return path.read_bytes()
