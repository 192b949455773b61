"""What the lane cards of the Compare tab hold, as plain data: forms, presets, and the way to lanes. No gradio here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...errors import HubError, OptionError
from ...hub import Hub
from ...lanes import Lane, parse_lane
from ...options import check_dtype
from ...specs import Stage

MERGED, LIVE, INT8 = "canary/qwen3", "canary/qwen3-peft", "canary/qwen3-int8"
PROMPT, PROMPT_AUDIO = "canary/chat-prompt", "canary/chat-prompt-audio"
SMALL, LARGE = "nano", "canary-qwen-2.5b"


@dataclass(frozen=True)
class LaneForm:
    """The fields of one card.

    components: ids of the stages, as picked; the stack's own where one is missing.
    dtype: "" for the stack's own.
    typed: options in lane syntax. Anything else that a lane can say may stand here too, up to a whole lane, and
        then overrules what is picked.
    """

    stack: str
    components: Mapping[Stage, str] = field(default_factory=dict)
    dtype: str = ""
    typed: str = ""

    def lane(self, hub: Hub) -> Lane:
        """Only what differs from the stack is said. Raises: UnknownNameError, OptionError, HubError."""
        typed = self.typed.strip()
        if typed and typed.split(maxsplit=1)[0] in hub.registry.stacks:
            return visitors_lane(hub, typed)
        own = hub.registry.stack(self.stack).components
        swapped = {stage: id for stage, id in self.components.items() if id and id != own[stage]}
        read = visitors_lane(hub, f"{self.stack} {typed}")
        return replace(read, components={**swapped, **read.components}, dtype=read.dtype or self.dtype or None)

    @classmethod
    def of(cls, hub: Hub, lane: Lane) -> LaneForm:
        """The form that shows a lane, with only options left in `typed`. Raises: UnknownNameError."""
        components = {stage: hub.registry.component(id, stage).id for stage, id in lane.components.items()}
        components = {**hub.registry.stack(lane.stack).components, **components}
        typed = str(Lane("", options=lane.options, window=lane.window, segmenter=lane.segmenter)).strip()
        return cls(lane.stack, components, lane.dtype or "", typed)


def visitors_lane(hub: Hub, text: str) -> Lane:
    """Read a lane that came over the network. Raises: OptionError, UnknownNameError, HubError.

    Folders of weights are refused: a visitor has no business in this machine's folders.
    """
    lane = parse_lane(text)
    hub.registry.stack(lane.stack)
    if lane.weights:
        raise OptionError(
            "Folders of weights cannot be chosen here.", "On the machine that has them, use `canary-hub compare`."
        )
    check_dtype(lane.dtype)
    return lane


def numbered(hub: Hub, forms: Sequence[LaneForm]) -> list[Lane]:
    """The lanes of all forms. Raises: HubError that names the lane."""
    lanes = []
    for number, form in enumerate(forms, 1):
        try:
            lanes.append(form.lane(hub))
        except HubError as error:
            raise HubError(f"Lane {number}: {error.message}", error.hint) from error
    return lanes


def known_options(hub: Hub, lane: Lane) -> list[tuple[str, str, str]]:
    """(name, default, meaning) of every option of the lane's components; "stage.name" where a name is not unique.

    Raises: UnknownNameError, OptionError.
    """
    spec = hub.stack(lane)
    found = [
        (stage.value, name, described)
        for stage, part in hub.components(spec).items()
        for model in (part.build_options, part.call_options)
        for name, described in model.model_fields.items()
    ]
    names = [name for _, name, _ in found]
    return [
        (
            name if names.count(name) == 1 else f"{stage}.{name}",
            "..." if described.is_required() else _written(described.get_default(call_default_factory=True)),
            described.description or "",
        )
        for stage, name, described in found
    ]


def _written(value: object) -> str:
    """An option's value as one types it: on one line, quoted where it has to be."""
    text = " ".join(str(value).split())
    if isinstance(value, bool) or value is None:
        return text.lower()
    return f'"{text}"' if " " in text or not text else text


PRESETS = ("LoRA merged / live / off", "float32 / bfloat16 / int8", "Two prompts", "Nano / Canary-Qwen")


def preset(hub: Hub, name: str, stack: str) -> list[LaneForm]:
    """The lanes of a preset, starting from a stack; empty where what it needs is not installed."""

    def lane(stage: Stage, id: str, dtype: str | None = None, **options: str) -> Lane:
        own = hub.registry.stack(stack).components[stage]
        return Lane(stack, {} if id == own else {stage: id}, options, dtype=dtype)

    llm, prompt = Stage.LLM, Stage.PROMPT_TEMPLATE
    try:
        if name == PRESETS[0]:
            lanes = [lane(llm, MERGED), lane(llm, LIVE), lane(llm, MERGED, adapter="false")]
        elif name == PRESETS[1]:
            lanes = [lane(llm, MERGED, "float32"), lane(llm, MERGED, "bfloat16"), lane(llm, INT8, "bfloat16")]
        elif name == PRESETS[2]:
            lanes = [lane(prompt, PROMPT), lane(prompt, PROMPT_AUDIO)]
        else:
            lanes = [Lane(SMALL), Lane(LARGE)]
        return [LaneForm.of(hub, each) for each in lanes]
    except HubError:
        return []
