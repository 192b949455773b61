"""The stack that is explored: its configurations, and its components where the weights are here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HubError, OptionError
from ..models.canary_qwen.checkpoint import BASE_LLM, CHECKPOINT
from ..models.families.family import Family
from ..options import check_dtype
from ..specs import Options, StackSpec, Stage
from ..stages import Build, WeightFiles
from ..weights.headers import File, Tensor, read_headers
from .layout import CompositeLayout, Layout, PublishedLayout

if TYPE_CHECKING:
    import torch

    from ..audio.waveform import Waveform
    from ..hub import Hub
    from ..pipeline import Stack

ADAPTER_FILE = "adapter_model.safetensors"
"""What PEFT calls the tensors of an adapter."""

CLIP = Path(__file__).parents[1] / "clips" / "digits.flac"
"""Spoken digits, 2.6 s: the clip that is heard unless another is given."""


class Subject:
    """A stack to look at. Making one reads nothing.

    dtype, device: as for `Hub.load`; the stack's own dtype by default.

    Raises: UnknownNameError; HubError for another dtype.
    """

    def __init__(self, hub: Hub, stack: str | StackSpec, dtype: str | None = None, device: str | None = None) -> None:
        self.hub = hub
        self.assembly = hub.assemble(stack)
        self.spec = self.assembly.spec
        self.device = device
        self.dtype = dtype or self.spec.dtype
        check_dtype(self.dtype)
        self.llm = self.assembly.parts[Stage.LLM]

    @property
    def checkpoints(self) -> Mapping[str, WeightFiles]:
        """Role -> checkpoint of the LLM backend."""
        return self.resolved(Stage.LLM)[0].weights

    @cached_property
    def llm_config(self) -> Mapping[str, Any]:
        """The config.json of the language model, as transformers reads it.

        Raises: HubError when the LLM backend names none, or none that is on this machine.
        """
        if self.family is not None:
            _, tensors = self.headers()
            return CompositeLayout(self.family, self.config, [tensor.name for tensor in tensors]).llm_config
        for checkpoint in self.checkpoints.values():
            config = _config_here(checkpoint)
            # Neither a composite model nor, as Whisper, an encoder with its decoder.
            if "model_type" in config and not {"text_config", "encoder_layers"} & set(config):
                return config
        raise HubError(
            f"{self.llm.id} of stack {self.spec.name} names no config.json of a language model on this machine.",
            f"{self.missing}."
            if self.missing
            else "Choose a stack with a transformers LLM, such as nano or canary-qwen-2.5b.",
        )

    @property
    def in_published_layout(self) -> bool:
        """Whether the LLM is read from a checkpoint in the layout of nvidia/canary-qwen-2.5b."""
        return {CHECKPOINT, BASE_LLM} <= set(self.checkpoints) and "perception" in self.config

    @cached_property
    def family(self) -> Family | None:
        """The family of its LLM backend, where that takes a composite model apart whose config.json is here.

        Some plugins ship no more of it than contracts need: what does not even tell the vocabulary is not it.
        """
        family = self.llm.family
        if not isinstance(family, Family) or family.role not in self.checkpoints:
            return None
        config = _config_here(self.checkpoints[family.role])
        return family if "vocab_size" in config.get("text_config", {}) else None

    @property
    def speech(self) -> WeightFiles:
        """The checkpoint with the encoder in it, for a family or in the published layout."""
        return self.checkpoints[self.family.role if self.family else CHECKPOINT]

    @property
    def config(self) -> Mapping[str, Any]:
        """The config.json of the speech checkpoint; empty when it is not on this machine."""
        return _config_here(self.speech)

    def headers(self) -> tuple[tuple[File, ...], tuple[Tensor, ...]]:
        """The files and tensors of the speech checkpoint; empty when it is not on this machine.

        Raises: WeightsError for what cannot be read.
        """
        if not self.speech.available:
            return (), ()
        folder = self.speech.folder()
        files, tensors = read_headers(folder)
        adapter = folder / ADAPTER_FILE  # an index of shards does not list it
        if adapter.is_file() and adapter.name not in {file.name for file in files}:
            more, added = read_headers(adapter)
            files, tensors = (*files, *more), (*tensors, *added)
        return files, tensors

    def layout(self, names: Iterable[str] = ()) -> Layout | None:
        """How the speech checkpoint is laid out, where its files hold `names`; None where that is not known.

        Raises: HubError for a config.json that describes no model.
        """
        if self.family is not None:
            return CompositeLayout(self.family, self.config, names)
        return PublishedLayout(self.config, self.llm_config) if self.in_published_layout else None

    @property
    def assumed(self) -> tuple[str, ...]:
        """What a configuration leaves open as long as the weights are not here, as sentences."""
        layout = None if self.family is None or self.speech.available else self.layout()
        if layout is None or not layout.tied:
            return ()
        return ("The head is taken to be the embeddings, as the configuration says; one in the weights would be used.",)

    def resolved(self, stage: Stage) -> tuple[Build, Options]:
        """What a component is built from, and its call options. Raises: OptionError where they are unusable."""
        if stage not in self.assembly.builds:
            raise OptionError(" ".join(self.assembly.problems))
        return self.assembly.builds[stage], self.assembly.calls[stage]

    @cached_property
    def missing(self) -> str:
        """Why it cannot be loaded without a download, as one sentence; empty where it can."""
        absent = self.assembly.missing
        if not absent:
            return ""
        folders = " ".join(f"--weights {role}=DIR" for role, ref in self.spec.weights.items() if ref.path is None)
        return (
            f"{' and '.join(ref.name for ref in absent)} {'is' if len(absent) == 1 else 'are'} not on this machine: "
            f"`canary-hub transcribe FILE --stack {self.spec.name}` fetches, {folders or 'a folder'} reads them"
        )

    def load(self) -> Stack:
        """The built stack, from the hub's pool. Raises: what `Hub.load` raises."""
        return self.hub.load(self.assembly, dtype=self.dtype, device=self.device)


def _config_here(checkpoint: WeightFiles) -> Mapping[str, Any]:
    """The config.json, shipped or on this machine; empty where asking for it would fetch it."""
    return checkpoint.config if checkpoint.ref.config is not None or checkpoint.available else {}


def first_window(spec: StackSpec, rate: int, audio: Any | None) -> tuple[Waveform, tuple[str, ...]]:
    """The clip to hear at `rate` Hz, cut to the stack's trained window, and a sentence where it was cut.

    Raises: AudioError.
    """
    from ..audio.decode import load_audio

    wave = load_audio(CLIP if audio is None else audio, rate)
    most = int(spec.window_seconds * rate)
    if len(wave.samples) <= most:
        return wave, ()
    cut = f"{wave.name} lasts {wave.seconds:.0f} s: its first {spec.window_seconds:g} s are explored."
    return replace(wave, samples=wave.samples[:most]), (cut,)


def embedded(stack: Stack, waves: Sequence[Waveform]) -> list[torch.Tensor]:
    """The audio embeddings (N_i, H) of each clip, N_i 0 for one that is too short."""
    import torch

    x = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(wave.samples) for wave in waves], batch_first=True)
    lengths = torch.tensor([len(wave.samples) for wave in waves])
    for stage in (Stage.PREPROCESSOR, Stage.ENCODER, Stage.PROJECTOR):
        x, lengths = stack.component(stage)(x, lengths)
    if not int(lengths[0]):
        raise HubError(f"{waves[0].name} is shorter than one frame of audio.", "Give a longer clip.")
    return [row[:n] for row, n in zip(x, lengths.tolist(), strict=True)]
