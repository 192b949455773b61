"""What an evaluation found: error rates with intervals, comparisons, and every utterance."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..compare.scoring import NORMALISERS, Edits, Errors, Normalise, errors
from .bootstrap import RESAMPLES, Difference, Interval, difference, interval
from .results import UtteranceResult

Unit = Literal["wer", "cer"]
Measure = tuple[Unit, Normalise]

MEASURES: dict[Measure, str] = {
    ("wer", "whisper"): "WER",
    ("cer", "whisper"): "CER",
    ("wer", "raw"): "WER raw",
    ("cer", "raw"): "CER raw",
}
"""What is measured, and its name in tables; without "raw" after Whisper's English normaliser."""

CAPTION = "WER, CER and word counts after Whisper's English normaliser, with 95 % bootstrap intervals"


@dataclass(frozen=True)
class ErrorRate:
    """An error rate over many utterances: its edits, and its 95 % bootstrap interval."""

    edits: Edits
    interval: Interval


@dataclass(frozen=True)
class LaneReport:
    """One stack's results.

    lane: the stack and what differs in it, as one line; file: its results file.
    rows: every utterance in the manifest's order.
    errors: by normaliser and then index, of the rows that have a transcript; rates: of those rows together, and
        empty where there is none.
    """

    lane: str
    file: str
    rows: tuple[UtteranceResult, ...]
    errors: dict[Normalise, dict[int, Errors]]
    rates: dict[Measure, ErrorRate]

    @property
    def failed(self) -> list[UtteranceResult]:
        """The utterances without a transcript; they count in no rate."""
        return [row for row in self.rows if row.error is not None]

    @property
    def noted(self) -> list[UtteranceResult]:
        """The transcripts that are doubtful: cut off, repeated, silence."""
        return [row for row in self.rows if row.note is not None]

    @property
    def audio_seconds(self) -> float:
        """Audio that was transcribed."""
        return sum(row.duration for row in self.rows)

    @property
    def work_seconds(self) -> float:
        """Time that took, decoding the audio included; loading the stack is not in it."""
        return sum(row.seconds for row in self.rows)

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of work."""
        return self.audio_seconds / self.work_seconds if self.work_seconds else 0.0


@dataclass(frozen=True)
class PairedTest:
    """A stack against another, over the utterances that both have a transcript of."""

    lane: str
    against: str
    utterances: int
    measure: Measure
    difference: Difference


def lane_report(lane: str, file: str, rows: Sequence[UtteranceResult]) -> LaneReport:
    """Score a stack's rows."""
    scored: dict[Normalise, dict[int, Errors]] = {
        normalise: {
            row.index: errors(row.reference, row.hypothesis, normalise) for row in rows if row.hypothesis is not None
        }
        for normalise in NORMALISERS
    }
    rates = {}
    for measure in MEASURES:
        edits = _edits(scored, measure, scored["raw"])
        if edits:
            rates[measure] = ErrorRate(sum(edits, Edits()), interval(edits))
    return LaneReport(lane, file, tuple(rows), scored, rates)


def paired_tests(lane: LaneReport, against: LaneReport) -> list[PairedTest]:
    """The paired bootstrap of two stacks by every measure; empty where no utterance is in both."""
    both = [index for index in lane.errors["raw"] if index in against.errors["raw"]]
    found = []
    for measure in MEASURES if both else ():
        edits = (_edits(report.errors, measure, both) for report in (lane, against))
        found.append(PairedTest(lane.lane, against.lane, len(both), measure, difference(*edits)))
    return found


def _edits(
    scored: dict[Normalise, dict[int, Errors]], measure: Measure, indices: Sequence[int] | dict[int, Errors]
) -> list[Edits]:
    unit, normalise = measure
    chosen = (scored[normalise][index] for index in indices)
    return [each.words if unit == "wer" else each.characters for each in chosen]


@dataclass(frozen=True)
class EvalReport:
    """An evaluation's results; every stack but the first is compared with the first."""

    manifest: str
    lanes: tuple[LaneReport, ...]
    comparisons: tuple[PairedTest, ...] = ()

    def table(self) -> list[list[str]]:
        """Rows of cells: a heading with the lanes, then a line per measure."""
        words = [lane.rates["wer", "whisper"].edits if lane.rates else Edits() for lane in self.lanes]
        kinds = ("substitutions", "deletions", "insertions")
        return [
            ["", *(lane.lane for lane in self.lanes)],
            ["utterances", *(str(len(lane.errors["raw"])) for lane in self.lanes)],
            ["failed", *(str(len(lane.failed)) for lane in self.lanes)],
            ["with a note", *(str(len(lane.noted)) for lane in self.lanes)],
            *([name, *(_cell(lane.rates.get(measure)) for lane in self.lanes)] for measure, name in MEASURES.items()),
            ["words", *(str(edits.reference) for edits in words)],
            *([kind, *(str(getattr(edits, kind)) for edits in words)] for kind in kinds),
            ["audio, s", *(f"{lane.audio_seconds:.1f}" for lane in self.lanes)],
            ["RTFx", *(f"{lane.rtfx:.2f}" for lane in self.lanes)],
        ]

    def sentences(self) -> list[str]:
        """The comparisons by WER and CER, in words."""
        return [
            f"{c.lane} against {c.against}: {MEASURES[c.measure]} {c.difference.value * 100:+.2f} points "
            f"(95 %: {c.difference.low * 100:+.2f} to {c.difference.high * 100:+.2f}) on {c.utterances} utterances; "
            f"better in {c.difference.better:.1%} of {RESAMPLES} resamples"
            for c in self.comparisons
            if c.measure[1] == "whisper"
        ]

    def to_markdown(self) -> str:
        """The table and the comparisons, to be pasted into an issue."""
        head, *lines = ([cell.replace("|", "\\|") for cell in line] for line in self.table())
        rule = ["---", *["---:"] * len(self.lanes)]
        sentences = [f"- {sentence}" for sentence in self.sentences()]
        return "\n".join(
            [f"{self.manifest}: {CAPTION}", "", *(f"| {' | '.join(line)} |" for line in (head, rule, *lines))]
            + (["", *sentences] if sentences else [])
            + [""]
        )

    def to_json(self) -> dict[str, Any]:
        """Rates (fractions, not percent) with their 95 % intervals, counts, speed, and the comparisons."""
        return {
            "manifest": self.manifest,
            "resamples": RESAMPLES,
            "stacks": [
                {
                    "stack": lane.lane,
                    "file": lane.file,
                    "utterances": len(lane.errors["raw"]),
                    "failed": [{"id": row.id, "error": row.error} for row in lane.failed],
                    "noted": [{"id": row.id, "note": row.note} for row in lane.noted],
                    "audio_seconds": round(lane.audio_seconds, 3),
                    "work_seconds": round(lane.work_seconds, 3),
                    "rtfx": round(lane.rtfx, 3),
                    "rates": [
                        _measure(measure)
                        | {"value": rate.edits.rate, "low": rate.interval.low, "high": rate.interval.high}
                        | asdict(rate.edits)
                        | {"reference": rate.edits.reference}
                        for measure, rate in lane.rates.items()
                    ],
                }
                for lane in self.lanes
            ],
            "comparisons": [
                {"stack": c.lane, "against": c.against, "utterances": c.utterances}
                | _measure(c.measure)
                | c.difference._asdict()
                for c in self.comparisons
            ],
        }

    def to_csv(self) -> str:
        r"""A row per stack and utterance, counts and rates after Whisper's normaliser. Lines end in "\n"."""
        kinds = ("hits", "substitutions", "deletions", "insertions")
        texts = ("reference", "hypothesis", "note", "error")
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["stack", "index", "id", "duration", "seconds", *kinds, "wer", "cer", *texts])
        for lane in self.lanes:
            for row in lane.rows:
                found = lane.errors["whisper"].get(row.index)
                scores = [""] * 6
                if found is not None:
                    counts = (str(getattr(found.words, kind)) for kind in kinds)
                    scores = [*counts, f"{found.wer:.4f}", f"{found.cer:.4f}"]
                written = (getattr(row, text) for text in texts)
                writer.writerow(
                    [lane.lane, row.index, row.id, f"{row.duration:.3f}", f"{row.seconds:.4f}", *scores, *written]
                )
        return out.getvalue()

    def files(self) -> dict[str, str]:
        """What belongs beside the results: file name -> content."""
        return {
            "report.json": json.dumps(self.to_json(), indent=2) + "\n",
            "report.md": self.to_markdown(),
            "utterances.csv": self.to_csv(),
        }


def _cell(rate: ErrorRate | None) -> str:
    if rate is None:
        return "-"
    return f"{rate.edits.rate:.2%} ({rate.interval.low * 100:.2f} to {rate.interval.high * 100:.2f})"


def _measure(measure: Measure) -> dict[str, str]:
    return {"rate": measure[0], "normalise": measure[1]}
