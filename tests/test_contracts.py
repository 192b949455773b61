"""What fits what, on plain ports."""

from __future__ import annotations

from canary_hub.contracts import check_stack, describe
from canary_hub.specs import Contract, Port, Stage

NAMES = {stage: f"x/{stage.name.lower()}" for stage in Stage}


def stack(**changed: Contract) -> dict[Stage, Contract]:
    contracts = {
        Stage.PREPROCESSOR: Contract((Port("audio", rate_hz=16000.0),), (Port("features", 128, 100.0, "B F T"),)),
        Stage.ENCODER: Contract((Port("features", 128),), (Port("hidden", 1024, 12.5, tag="a"),)),
        Stage.PROJECTOR: Contract((Port("hidden", 1024, tag="a"),), (Port("embeds", 2048, tag="a"),)),
        Stage.PROMPT_TEMPLATE: Contract((), (Port("prompt", token="<a>"),)),
        Stage.LLM: Contract((Port("embeds", 2048, tag="a"), Port("prompt", token="<a>")), (Port("text"),)),
    }
    return contracts | {Stage[name.upper()]: contract for name, contract in changed.items()}


def test_a_stack_that_fits() -> None:
    fit = check_stack(stack(), NAMES)
    assert (fit.problems, fit.warnings) == ((), ())


def test_every_mismatch_at_once_in_words() -> None:
    fit = check_stack(
        stack(
            encoder=Contract((Port("features", 80),), (Port("hidden", 512, 12.5),)),
            prompt_template=Contract((), (Port("prompt", token="<b>"),)),
        ),
        NAMES,
    )
    assert fit.problems == (
        "preprocessor x/preprocessor gives 128-dim features at 100 Hz laid out B F T, "
        "encoder x/encoder expects 80-dim features",
        "encoder x/encoder gives 512-dim hidden at 12.5 Hz, projector x/projector expects 1024-dim hidden",
        "prompt-template x/prompt_template gives prompt with placeholder <b>, "
        "llm x/llm expects prompt with placeholder <a>",
    )


def test_training_provenance_warns() -> None:
    other = Contract((Port("features", 128),), (Port("hidden", 1024, 12.5, tag="b"),))
    (warning,) = check_stack(stack(encoder=other), NAMES).warnings
    assert warning == "encoder x/encoder (b) and projector x/projector (a) fit, but were not trained together"
    untold = Contract((Port("features", 128),), (Port("hidden", 1024, 12.5),))
    (warning,) = check_stack(stack(encoder=untold), NAMES).warnings
    assert "training not stated" in warning


def test_a_part_that_nothing_feeds() -> None:
    fit = check_stack(stack(llm=Contract((Port("codes"),))), NAMES)
    assert fit.problems == ("llm x/llm expects codes, which no part before it gives",)


def test_ports_in_words() -> None:
    assert describe(Port("hidden", 512, 12.5)) == "512-dim hidden at 12.5 Hz"
