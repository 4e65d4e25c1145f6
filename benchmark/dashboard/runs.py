"""Run folders as they are now: which there are, their states, and their files, of which only what is new is read."""

from pathlib import Path

from starlette.exceptions import HTTPException

ROUTES: list = []


class Runs:
    """The runs below some folders. A run's id is its folder's name among `folders` and its path below it."""

    def __init__(self, folders: list[Path]):
        self.folders = folders
        self.known: dict[str, Path] = {}

    def folder(self, name: str) -> Path:
        """The folder of the run with an id. Raises HTTPException (404) for any other text."""
        if name not in self.known:
            raise HTTPException(404, "there is no such run (any more)")
        return self.known[name]
