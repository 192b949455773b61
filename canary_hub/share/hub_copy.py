"""A folder's copy in a private data set on the Hugging Face Hub: the disk of a Space does not outlive a restart."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import CommitScheduler

COMMIT_MINUTES = 5.0


class HubCopy:
    """Commits the files of `folder` that match `pattern` to the data set `repo` ("user/name") every few minutes.

    Every method raises what huggingface_hub raises.
    """

    def __init__(self, repo: str, folder: Path, pattern: str) -> None:
        self.repo, self.folder, self.pattern = repo, folder, pattern
        self._starting = threading.Lock()
        self._scheduler: CommitScheduler | None = None

    @property
    def scheduler(self) -> CommitScheduler:
        """What commits; started on first use. Its `lock` is held while files change, so that none is committed half."""
        from huggingface_hub import CommitScheduler

        with self._starting:
            if self._scheduler is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._scheduler = CommitScheduler(
                    repo_id=self.repo,
                    repo_type="dataset",
                    private=True,
                    folder_path=self.folder,
                    every=COMMIT_MINUTES,
                    allow_patterns=self.pattern,
                )
            return self._scheduler

    def push(self) -> None:
        """Commit what is new now, instead of within minutes."""
        self.scheduler.trigger().result()

    def delete(self, folder: str) -> None:
        """Remove a folder from the data set, if it was ever committed."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import EntryNotFoundError

        with suppress(EntryNotFoundError):
            HfApi().delete_folder(folder, self.repo, repo_type="dataset")

    @contextmanager
    def fetched(self, pattern: str, into: Path) -> Iterator[Path]:
        """The data set's files that match `pattern`, in the new folder `into`, which is removed after the block."""
        from huggingface_hub import snapshot_download

        try:
            snapshot_download(self.repo, repo_type="dataset", allow_patterns=pattern, local_dir=into)
            yield into
        finally:
            shutil.rmtree(into, ignore_errors=True)
