"""Pushing: make the Space on the Hub hold what was staged, in one commit, safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import HubError
from .staging import Staged

if TYPE_CHECKING:
    from huggingface_hub import HfApi, SpaceInfo
    from huggingface_hub.errors import HfHubHTTPError

TOKENS = "https://huggingface.co/settings/tokens"
PRICING = "https://huggingface.co/pricing"
AGAIN = "The Space's files are as they were. Run the same command again: what has arrived is not sent twice."
OURS = "canary_hub/__init__.py"
FRESH = {".gitattributes", "README.md"}
"""What a Space holds that was only just created."""

Say = Callable[[str], None]


def push(
    staged: Staged,
    repo: str,
    *,
    private: bool = False,
    hardware: str | None = None,
    secrets: Mapping[str, str] | None = None,
    say: Say = lambda line: None,
) -> str:
    """Create or update a Space; returns its address.

    All files go in one commit, so whatever fails in the middle leaves the Space as it was; pushing again
    sends only what is missing. Files of the Space that are not staged are deleted.

    Args:
        repo: "user/name", or "name" for the token's own user.
        private: make it private; without it a new Space is public, and an old one stays as it is.
        hardware: such as "zero-a10g" or "cpu-basic"; without it what the Space has is kept.
        secrets: names and values to set; others are left alone.
        say: called with a line before each step.

    Raises: HubError for a missing or weak token, a taken name, a plan that does not allow it, no network.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise HubError(
            "There is no Hugging Face token on this machine.",
            f"Make one that may write at {TOKENS}, then run `hf auth login` or set HF_TOKEN.",
        )
    api = HfApi()
    with _explained("reading who you are"):
        me = api.whoami()
    if (me.get("auth") or {}).get("accessToken", {}).get("role") == "read":
        raise HubError("Your Hugging Face token may only read.", f"Make one that may write at {TOKENS}.")
    repo = repo if "/" in repo else f"{me['name']}/{repo}"
    with _explained(f"looking for {repo}"):
        there = _space(api, repo)
    if there is None:
        say(f"Creating Space {repo}")
        with _explained(f"creating {repo}", str(me["name"]), hardware):
            api.create_repo(
                repo, repo_type="space", space_sdk="gradio", private=private or None,
                space_hardware=hardware,  # type: ignore[arg-type, unused-ignore]
            )  # fmt: skip
    else:
        say(f"Updating Space {repo}")
        _refuse_foreign(there, repo)
        with _explained(f"changing the settings of {repo}", str(me["name"]), hardware):
            if private and not there.private:
                api.update_repo_settings(repo, repo_type="space", private=True)
            if hardware and api.get_space_runtime(repo).requested_hardware != hardware:
                api.request_space_hardware(repo, hardware)  # type: ignore[arg-type, unused-ignore]
    for name, value in (secrets or {}).items():
        say(f"Setting secret {name}")
        with _explained(f"setting secret {name}", str(me["name"])):
            api.add_space_secret(repo, name, value)
    with _explained(f"uploading to {repo}", str(me["name"])):
        _commit(api, staged, repo, [] if there is None else _names(there), say)
    return f"{api.endpoint}/spaces/{repo}"


def _space(api: HfApi, repo: str) -> SpaceInfo | None:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.space_info(repo)
    except RepositoryNotFoundError:
        return None


def _names(space: SpaceInfo) -> list[str]:
    return [file.rfilename for file in space.siblings or ()]


def _refuse_foreign(space: SpaceInfo, repo: str) -> None:
    """Pushing deletes what is not staged, so another Space's files must never be met."""
    names = set(_names(space))
    if names - FRESH and OURS not in names:
        raise HubError(
            f"The name {repo} is taken: that Space holds something else.",
            "Choose another --repo, or delete that Space in its settings first.",
        )


def _commit(api: HfApi, staged: Staged, repo: str, names: list[str], say: Say) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    gone = sorted(set(names) - set(staged.files) - {".gitattributes"})
    say(f"Uploading {len(staged.files)} files, {staged.nbytes / 1e6:.1f} MB; what the Space has already is not sent")
    if gone:
        say(f"Deleting {len(gone)} that are no longer there")
    api.create_commit(
        repo,
        [
            *(CommitOperationAdd(name, staged.folder / name) for name in staged.files),
            *(CommitOperationDelete(name, is_folder=False) for name in gone),
        ],
        commit_message="Update canary_hub",
        repo_type="space",
    )


@contextmanager
def _explained(doing: str, user: str = "", hardware: str | None = None) -> Iterator[None]:
    """Turn what the Hub or the network answers while `doing` something into a HubError."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The base of httpx's errors, or of httpx2's from huggingface_hub 2.0 on.
    connection: type[Exception] = HfHubHTTPError.__mro__[1]
    try:
        yield
    except HfHubHTTPError as error:
        raise HubError(*_refusal(error, doing, user, hardware)) from error
    except HFValidationError as error:
        raise HubError(f"That is no name for a Space: {error}", 'It looks like "user/name".') from error
    except (connection, OSError, RuntimeError) as error:
        if isinstance(error.__cause__, HfHubHTTPError):  # of one file among several
            raise HubError(*_refusal(error.__cause__, doing, user, hardware)) from error
        raise HubError(f"It failed while {doing}: {error.__cause__ or error}.", AGAIN) from error
    except ValueError as error:
        raise HubError(f"The Hub refused it while {doing}: {error}.", "Mend the README's front matter.") from error


def _refusal(error: HfHubHTTPError, doing: str, user: str, hardware: str | None) -> tuple[str, str]:
    status = error.response.status_code
    answer = (error.server_message or f"status {status}").rstrip(".")
    what = f"The Hub refused it while {doing}: {answer}."
    if status == 401:
        return "The Hub does not accept your token.", f"Make a new one at {TOKENS}, then run `hf auth login`."
    if status == 402 or (hardware and status in (400, 403) and _is_about_the_plan(answer)):
        wish, instead = "a Gradio Space", "; `canary-hub serve --share` needs no plan"
        if hardware:
            wish, instead = f"hardware {hardware}", "; or push without --hardware, or with another one"
        return f"Your plan does not allow {wish}. The Hub says: {answer}.", f"See {PRICING}{instead}."
    if status in (403, 404):
        return what, f"The token of {user} needs write access there: see {TOKENS}, or push to {user}/NAME."
    if status == 409:
        return what, "The name is taken: choose another --repo."
    if status == 429 or status >= 500:
        return what, AGAIN
    return what, "Check the name, the hardware and the README's front matter."


def _is_about_the_plan(answer: str) -> bool:
    return any(
        word in answer.lower() for word in ("pro ", "subscri", "plan", "billing", "payment", "upgrade", "credit")
    )
