"""Fetching a repository's files from the Hugging Face Hub, with errors a user can act on."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from ..errors import WeightsError
from ..specs import WeightsRef


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
