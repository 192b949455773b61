"""From a `WeightsRef` to its files: a local folder, the Hugging Face cache, or a download from the Hub."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..specs import WeightsRef
from .tensors import TensorFiles, read_json, weight_map

FIRST_BYTES = 1 << 20
"""How much of a file counts in a fingerprint; the header of a model of 1,700 tensors has a fifth of that."""

Resolver = Callable[[WeightsRef], "Path | None"]


class Checkpoint:
    """The files behind one `WeightsRef`; nothing is read or fetched before it is asked for.

    Looked up in order: the resolvers (plugin hooks: an offline folder, a mirror), the ref's own
    path, the Hugging Face cache, then the Hub.
    """

    def __init__(self, ref: WeightsRef, resolvers: Iterable[Resolver] = ()) -> None:
        self.ref = ref
        self._resolvers = tuple(resolvers)
        self._configs: dict[Path, dict[str, Any]] = {}

    def with_files(self, files: tuple[str, ...]) -> Checkpoint:
        """The same repository or folder, asked for other files, looked up in the same places."""
        return Checkpoint(replace(self.ref, files=files, gib=None), self._resolvers)

    @property
    def name(self) -> str:
        """A short name for messages and provenance tags."""
        return self.ref.name

    @cached_property
    def _local(self) -> Path | None:
        for resolve in self._resolvers:
            found = resolve(self.ref)
            if found is not None:
                return Path(found)
        if self.ref.path is None:
            return None
        if not self.ref.path.is_dir():
            raise WeightsError(
                f"No folder {str(self.ref.path)!r} to read weights from.",
                "Give the folder that holds config.json and model.safetensors.",
            )
        return self.ref.path

    def _cached(self, name: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        assert self.ref.repo is not None
        found = try_to_load_from_cache(self.ref.repo, name, revision=self.ref.revision)
        return Path(found) if isinstance(found, str) else None

    @property
    def available(self) -> bool:
        """Whether loading needs no download."""
        if self._local is not None:
            return True
        if "*.safetensors" not in self.ref.files:
            return all(self._cached(name) is not None for name in ("config.json", *self.ref.files))
        if self._cached("config.json") is None:
            return False
        if self._cached("model.safetensors") is not None:
            return True
        index = self._cached("model.safetensors.index.json")
        if index is None:
            return False
        return all(self._cached(name) is not None for name in weight_map(index).values())

    @property
    def config(self) -> dict[str, Any]:
        """config.json as a dict: local, cached, the copy a plugin ships, or else fetched. Each file is read once.

        Raises: WeightsError when it is missing or not JSON.
        """
        path = self._file("config.json", shipped=self.ref.config)  # a download replaces the copy that was shipped
        if path not in self._configs:
            self._configs[path] = read_json(path)
        return self._configs[path]

    def file(self, name: str) -> Path:
        """The path of one file, fetched when it has to be.

        Raises: WeightsError.
        """
        return self._file(name)

    def _file(self, name: str, shipped: Path | None = None) -> Path:
        if self._local is not None:
            path = self._local / name
            if not path.is_file():
                raise WeightsError(
                    f"{name} is missing in {str(self._local)!r}.",
                    "The folder must hold what the published repository holds.",
                )
            return path
        path_or_none = self._cached(name) or shipped
        return path_or_none if path_or_none is not None else self.folder() / name

    def folder(self) -> Path:
        """The folder with all files of the ref, downloaded with progress when needed.

        Raises: WeightsError that tells offline, wrong repository, gated and disk full apart.
        """
        if self._local is not None:
            return self._local
        return snapshot(self.ref)

    def tensors(self) -> TensorFiles:
        """The safetensors files of the checkpoint, opened and mapped."""
        return TensorFiles(self.folder())

    def fingerprint(self) -> str:
        """What tells these weights from all others: a repository's commit, or a folder's files.

        A file counts with its name, size, time and first megabyte, which holds a config whole and the header of
        safetensors: a model of many gigabytes is not read to the end. The folder's own name and place do not count.
        So weights that were moved, or copied with their times, are the same; what was rewritten or touched is not.
        Raises: WeightsError, as `folder` does where the commit is not pinned.
        """
        if self._local is None:
            pinned = re.fullmatch("[0-9a-f]{40}", self.ref.revision or "")
            return f"{self.ref.repo}@{self.ref.revision if pinned else self.folder().name}"
        digest = hashlib.sha256()
        patterns = ("*.json", "*.safetensors", *self.ref.files)
        for path in sorted({path for pattern in patterns for path in self._local.glob(pattern) if path.is_file()}):
            found = path.stat()
            digest.update(f"{path.relative_to(self._local)}\n{found.st_size} {found.st_mtime_ns}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(FIRST_BYTES))
        return digest.hexdigest()


def snapshot(ref: WeightsRef) -> Path:
    """Download config.json and the ref's files at its revision; returns the cached folder.

    Raises: WeightsError for an unknown or gated repository, no network, or no room on the disk.
    """
    from huggingface_hub import constants, errors, snapshot_download

    assert ref.repo is not None
    # The base of httpx's errors, or of httpx2's from huggingface_hub 2.0 on: a connection that breaks in the middle.
    connection: type[Exception] = errors.HfHubHTTPError.__mro__[1]
    _check_room(ref, Path(constants.HF_HUB_CACHE))
    try:
        return Path(snapshot_download(ref.repo, revision=ref.revision, allow_patterns=["config.json", *ref.files]))
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"{ref.repo} is gated: its owner has to grant you access.",
            f"Accept the conditions on https://huggingface.co/{ref.repo}, then run `hf auth login`.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"{ref.repo} has no revision {ref.revision!r}.", "Check the revision.") from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"The Hub has no repository {ref.repo!r}, or it is private.",
            "Check the spelling; for a private one run `hf auth login`.",
        ) from error
    except errors.HFValidationError as error:
        raise WeightsError(f"{ref.repo!r} is not a repository name.", 'It looks like "owner/name".') from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise WeightsError(
            f"{ref.repo} is not on this machine and the Hub cannot be reached.",
            "Connect to the internet for the first run, or give a local folder. Stack nano needs no download.",
        ) from error
    except errors.HfHubHTTPError as error:
        raise WeightsError(f"The Hub refused to send {ref.repo}: {error}.", "Try again later.") from error
    except (OSError, connection) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise WeightsError(*_no_room(ref, Path(constants.HF_HUB_CACHE))) from error
        raise WeightsError(
            f"{ref.repo} could not be downloaded: {error}.",
            "Try again: what has arrived is kept.",
        ) from error
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise WeightsError(
            f"The Hub's answer about {ref.repo} makes no sense.",
            "Is there a proxy or login page between this machine and the Hub? Try again later.",
        ) from error


def downloaded_bytes(ref: WeightsRef) -> int:
    """Bytes of a repository in the Hugging Face cache, what is still arriving included."""
    from huggingface_hub import constants

    if ref.repo is None:
        return 0
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{ref.repo.replace('/', '--')}" / "blobs"
    total = 0
    for file in blobs.iterdir() if blobs.is_dir() else ():
        try:
            total += file.stat().st_size
        except OSError:  # renamed this moment
            continue
    return total


def _check_room(ref: WeightsRef, cache: Path) -> None:
    if ref.gib is None:
        return
    there = next(p for p in (cache, *cache.parents) if p.exists())
    to_come = ref.gib * 0.98 * 2**30 - downloaded_bytes(ref)  # the size is a rounded one
    if shutil.disk_usage(there).free < to_come:
        raise WeightsError(*_no_room(ref, cache))


def _no_room(ref: WeightsRef, cache: Path) -> tuple[str, str]:
    size = f"its {ref.gib:.1f} GB" if ref.gib else "it"
    return (
        f"The disk that holds {os.fspath(cache)!r} has no room for {ref.repo}: {size} must fit.",
        "Free some space, or set HF_HOME to a folder on a larger disk.",
    )
