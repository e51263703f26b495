"""A command in a pseudo-terminal, as a person starts it: keys pressed, and the screen read."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from contextlib import suppress
from typing import Any, Self

from tests.support.forks import start

COLUMNS = 120
GIVE_UP_S = 600.0  # for what takes some seconds and, where it does not come, never comes


class Terminal:
    """`beam_runner.py ARGS`, until the block ends.

    Args:
      args: of the command. options: as `forks.start` has them.

    Attributes:
      screen: all that was written to it.
      process: the number of the process.
    """

    def __init__(self, *args: str, **options: Any) -> None:
        self._args, self._options, self.screen = args, options, ""

    def __enter__(self) -> Self:
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        # Linux sends the signal before it shows ^C, which a busy machine may do after all else.
        mode = termios.tcgetattr(theirs)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, mode)
        options = {"env": os.environ, "stdout": theirs, "stderr": theirs} | self._options
        options["env"] = {**options["env"], "TERM": "xterm"}
        main = "alignset.beam_runner:main"
        self._command = start(main, *self._args, stdin=theirs, **options)
        os.close(theirs)
        self.process = self._command.pid
        return self

    def __exit__(self, *_: object) -> None:
        self._command.kill()
        os.close(self._terminal)

    def wait_for(self, text: str) -> None:
        """Until the text was written to the screen."""
        until = time.monotonic() + GIVE_UP_S
        while text not in self.screen:
            assert time.monotonic() < until, self.screen
            assert self._read(), self.screen

    def press_control_c(self) -> None:
        os.write(self._terminal, b"\x03")

    def end(self) -> int:
        """Until the command ends; its exit status."""
        while self._read():
            pass
        return self._command.wait()

    def lines(self) -> list[str]:
        """What a person sees at last, and what has scrolled away above it; no empty lines below."""
        rows, row, column = [""], 0, 0
        for part in re.split(r"(\x1b\[\d*[A-Za-z]|[\r\n])", self.screen):
            if part == "\r":
                column = 0
            elif part == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif part == "\x1b[A":
                row -= 1
            elif part == "\x1b[J":
                rows[row:] = [rows[row][:column]]
            elif part == "\x1b[K":
                rows[row] = rows[row][:column]
            else:
                assert not part.startswith("\x1b"), part
                rows[row] = (
                    rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
                )
                column += len(part)
        lines = [text.rstrip() for text in rows]
        return lines[: max((n for n, line in enumerate(lines, 1) if line), default=0)]

    def _read(self) -> bool:
        """Takes what is there, or waits a little for it; False where the command has ended."""
        if select.select([self._terminal], [], [], 1.0)[0]:
            written = b""
            with suppress(OSError):  # Linux's way to say that nobody writes there any more
                written = os.read(self._terminal, 1 << 16)
            self.screen += written.decode(errors="replace")
            return bool(written)
        return True
