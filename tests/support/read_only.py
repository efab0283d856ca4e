"""Make the folder of a cache read-only, and run programs that cannot write it."""

from collections.abc import Callable
from pathlib import Path

from tests.support.commands import clean_environment
from tests.support.confinement import (
    READ_ONLY_MOUNT,
    WITHOUT_POWERS,
    allow_writing,
    forbid_writing,
)
from tests.support.forking import run_python, start
from tests.support.waiting import PATIENCE


class ReadOnlyFolder:
    """A folder that other programs write, and confined programs can only read.

    Attributes:
        path: the folder.
        environment: variables for the programs that can only read it.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.environment = {WITHOUT_POWERS: "1"}
        self._kind = kind
        if kind == "mount":
            self.environment = {READ_ONLY_MOUNT: str(path)}

    def lock(self) -> None:
        """Make the folder read-only."""
        if self._kind == "folder":
            forbid_writing(self.path)

    def unlock(self) -> None:
        """Let the owner write again."""
        if self.path.exists():
            allow_writing(self.path)

    def run(self, home: Path, code: str, meanwhile: Callable[[Path], object] | None = None) -> str:
        """Run Python code that can only read the folder; its path is `sys.argv[1]`.

        Args:
            home: the working folder.
            code: the code.
            meanwhile: called while the code runs, with the file that it prints to.

        Returns:
            What the code printed.
        """
        out = home / "out"
        out.write_bytes(b"")
        process = start(
            run_python,
            code,
            [str(self.path)],
            folder=home,
            environment=clean_environment() | self.environment,
            out=out,
        )
        if meanwhile is not None:
            meanwhile(out)
        process.join(PATIENCE)
        process.kill()
        process.join()
        assert process.exitcode == 0, out.read_text()
        return out.read_text()
