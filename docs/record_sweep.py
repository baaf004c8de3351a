"""Record the live table of a running sweep as an animated GIF.

    python docs/record_sweep.py [--out docs/sweep.gif] [--seconds 2] [--speed 12] [-- run FILE ...]

The command runs in a pseudo-terminal, in a temporary folder. A terminal emulator (pyte, in the extra `docs`) keeps the
screen, which is copied every few seconds and drawn with the monospaced font that matplotlib ships.
"""

import argparse
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib
import pyte
from PIL import Image, ImageColor, ImageDraw, ImageFont

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "digits.yaml"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FONT_SIZE = 14
LINE_HEIGHT = FONT_SIZE + 4
MARGIN = 10
FIRST_FRAME_SECONDS, LAST_FRAME_SECONDS = 1.0, 6.0
FOREGROUND, BACKGROUND = "#d4d4d4", "#1e1e1e"
COLORS = {
    "default": FOREGROUND,
    "black": "#1e1e1e",
    "red": "#f48771",
    "green": "#89d185",
    "brown": "#e5c07b",  # pyte's name of yellow
    "blue": "#61afef",
    "magenta": "#c678dd",
    "cyan": "#56c8d8",
    "white": "#ffffff",
}


@dataclass(frozen=True)
class Frame:
    """The screen at one moment.

    Attributes:
        seconds: since the command was started.
        lines: the characters of each row, with their attributes.
    """

    seconds: float
    lines: tuple[tuple[pyte.screens.Char, ...], ...]


def record(
    command: list[str], shown: str, folder: Path, columns: int, rows: int, seconds_between: float
) -> Iterator[Frame]:
    """Run a command in a pseudo-terminal and copy its screen at regular intervals, and at the end.

    Args:
        command: the program and its arguments.
        shown: the command as it appears on the screen.
        folder: working folder of the command.
        columns: width of the terminal in characters.
        rows: height of the terminal in characters.
        seconds_between: seconds between two copies of the screen.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    stream.feed(f"$ {shown}\r\n".encode())
    terminal, process = start(command, folder, columns, rows)
    began = time.monotonic()
    due = began
    while output := read(terminal):
        stream.feed(output)
        now = time.monotonic()
        if now >= due:
            due = now + seconds_between
            yield copy_of(screen, now - began)
    yield copy_of(screen, time.monotonic() - began)
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, command)


def start(command: list[str], folder: Path, columns: int, rows: int) -> tuple[int, subprocess.Popen[bytes]]:
    """Start a command on a new pseudo-terminal; return the terminal's other end and the process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-color", "MLFLOW_TRACKING_URI": ""}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    return ours, process


def read(terminal: int) -> bytes:
    """Return what the command has written; nothing once it has ended."""
    select.select([terminal], [], [])
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux reports a closed terminal as an input/output error
        return b""


def copy_of(screen: pyte.Screen, seconds: float) -> Frame:
    """Copy the screen."""
    rows = (tuple(screen.buffer[row][column] for column in range(screen.columns)) for row in range(screen.lines))
    return Frame(seconds, tuple(rows))


def draw(frame: Frame) -> Image.Image:
    """Draw the characters of a frame, in the colors of `palette`."""
    regular, bold = (
        ImageFont.truetype(FONTS / name, FONT_SIZE) for name in ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf")
    )
    cell = regular.getlength("m")
    size = round(2 * MARGIN + cell * len(frame.lines[0])), 2 * MARGIN + LINE_HEIGHT * len(frame.lines)
    image = Image.new("RGB", size, BACKGROUND)
    canvas = ImageDraw.Draw(image)
    for row, line in enumerate(frame.lines):
        for column, char in enumerate(line):
            if char.data.strip():
                place = MARGIN + cell * column, MARGIN + LINE_HEIGHT * row
                color = COLORS.get(char.fg, FOREGROUND)
                canvas.text(place, char.data, font=bold if char.bold else regular, fill=color)
    return image.quantize(palette=palette(), dither=Image.Dither.NONE)


def palette() -> Image.Image:
    """Return an image whose palette has every color in several blends with the background."""
    background = ImageColor.getrgb(BACKGROUND)
    shades: list[int] = []
    for color in map(ImageColor.getrgb, COLORS.values()):
        for part in (0.25, 0.5, 0.75, 1.0):
            shades += [round(part * ink + (1 - part) * paper) for ink, paper in zip(color, background, strict=True)]
    image = Image.new("P", (1, 1))
    image.putpalette([*background, *shades])
    return image


def save(frames: list[Frame], speed: float, path: Path) -> None:
    """Write the frames as an animation that runs `speed` times as fast as the sweep did."""
    images = [draw(frame) for frame in frames]
    durations = [(after.seconds - before.seconds) / speed for before, after in pairwise(frames)]
    durations = [FIRST_FRAME_SECONDS, *durations[1:], LAST_FRAME_SECONDS]
    milliseconds = [max(50, round(1000 * seconds)) for seconds in durations]
    images[0].save(path, save_all=True, append_images=images[1:], duration=milliseconds, loop=0, optimize=True)


def main() -> None:
    """Record, and print the size of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "sweep.gif")
    parser.add_argument("--seconds", type=float, default=2.0, help="between two frames")
    parser.add_argument("--speed", type=float, default=12.0, help="of the animation, relative to the sweep")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("command", nargs="*", default=["run", str(SPACE)], help="arguments of sfd-sweep")
    asked = parser.parse_args()
    command = [sys.executable, "-m", "sfd_sweep", *asked.command]
    shown = " ".join(["sfd-sweep", *asked.command]).replace(f"{SPACE.parent.parent}/", "")
    with tempfile.TemporaryDirectory() as folder:
        frames = list(record(command, shown, Path(folder), asked.columns, asked.rows, asked.seconds))
    save(frames, asked.speed, asked.out)
    print(f"{asked.out}: {len(frames)} frames, {asked.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
