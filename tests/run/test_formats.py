from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from canary_hub.errors import HubError, OptionError, UnknownNameError
from canary_hub.run.formats import FORMATS, PER_FILE, cues, render, to_csv, to_json, to_srt, to_txt, to_vtt


@dataclass
class Segment:
    start: float
    end: float
    text: str
    note: str | None = None


@dataclass
class Result:
    file: str = "a.wav"
    duration: float = 61.5
    segments: list[Segment] = field(default_factory=list)
    stack: str = "nano"
    seconds: dict[str, float] = field(default_factory=lambda: {"encoder": 0.12345, "llm": 1.5})

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.text)


TWO = Result(segments=[Segment(0.0, 1.25, "one two"), Segment(1.25, 3.9996, "three", note="stopped: a loop")])
TIME = re.compile(r"^(\d\d):(\d\d):(\d\d)[,.](\d{3}) --> (\d\d):(\d\d):(\d\d)[,.](\d{3})$", re.MULTILINE)


def cue_times(text: str) -> list[tuple[int, int]]:
    def total(parts: tuple[str, ...]) -> int:
        h, m, s, ms = map(int, parts)
        assert m < 60
        assert s < 60
        return ((h * 60 + m) * 60 + s) * 1000 + ms

    return [(total(found[:4]), total(found[4:])) for found in TIME.findall(text)]


def test_txt_of_one_result_is_its_text_alone() -> None:
    assert to_txt([TWO]) == "one two three\n"


def test_txt_of_several_names_each_file_on_one_line() -> None:
    other = Result("b.wav", segments=[Segment(0, 1, "line\nbreak")])
    assert to_txt([TWO, other, Result("c.wav")]) == "a.wav: one two three\nb.wav: line break\nc.wav:\n"


def test_json_has_the_promised_keys_and_a_note_only_where_there_is_one() -> None:
    rows = json.loads(to_json([TWO, Result("ü.wav")]))
    assert [set(row) for row in rows] == [{"file", "duration", "text", "segments", "stack", "seconds"}] * 2
    assert rows[0]["segments"] == [
        {"start": 0.0, "end": 1.25, "text": "one two"},
        {"start": 1.25, "end": 4.0, "text": "three", "note": "stopped: a loop"},
    ]
    assert rows[0]["seconds"] == {"encoder": 0.1235, "llm": 1.5}
    assert (rows[0]["stack"], rows[0]["duration"], rows[0]["text"]) == ("nano", 61.5, "one two three")
    assert "ü.wav" in to_json([Result("ü.wav")])


def test_json_keeps_an_undecodable_file_name_and_can_be_written_as_utf8() -> None:
    text = to_json([Result("bad\udcff.wav")])
    assert json.loads(text.encode("utf-8"))[0]["file"] == "bad\udcff.wav"


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_format_can_be_written_as_utf8(format: str) -> None:
    odd = Result("bad\udcff.wav", segments=[Segment(0, 1, "x\udcff")])
    assert render([odd], format).encode("utf-8")


def test_csv_round_trips_quotes_commas_newlines_and_formulas() -> None:
    texts = ['say "hi", now', "two\nlines", "=1+1"]
    result = Result("a,b.wav", segments=[Segment(i, i + 0.5, text) for i, text in enumerate(texts)])
    rows = list(csv.DictReader(io.StringIO(to_csv([result, TWO]), newline="")))
    assert list(rows[0]) == ["file", "start", "end", "text"]
    assert [row["text"] for row in rows] == [*texts, "one two", "three"]
    assert (rows[1]["file"], rows[1]["start"], rows[1]["end"]) == ("a,b.wav", "1.000", "1.500")


def test_csv_does_not_lose_a_file_without_segments() -> None:
    assert to_csv([Result("silence.wav", 2.0)]).splitlines()[1:] == ["silence.wav,0.000,2.000,"]


def test_srt_exactly() -> None:
    assert to_srt([TWO]) == ("1\n00:00:00,000 --> 00:00:01,250\none two\n\n2\n00:00:01,250 --> 00:00:04,000\nthree\n")


def test_vtt_exactly_with_its_note() -> None:
    assert to_vtt([TWO]) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\none two\n\n"
        "NOTE stopped: a loop\n\n00:00:01.250 --> 00:00:04.000\nthree\n"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (59.9996, "00:01:00,000"),
        (0.9994, "00:00:00,999"),
        (3599.9995, "01:00:00,000"),
        (360000.001, "100:00:00,001"),
        (1.0005, "00:00:01,001"),
    ],
)
def test_times_are_rounded_without_a_thousandth_millisecond(seconds: float, shown: str) -> None:
    assert f"\n{shown} --> " in to_srt([Result(segments=[Segment(seconds, seconds + 5, "x")])])


def test_segments_without_text_are_left_out_and_the_numbers_stay_consecutive() -> None:
    result = Result(segments=[Segment(0, 1, "a"), Segment(1, 2, " \n"), Segment(2, 3, ""), Segment(3, 4, "b")])
    assert re.findall(r"^\d+$", to_srt([result]), re.MULTILINE) == ["1", "2"]
    assert len(cue_times(to_vtt([result]))) == 2
    assert to_srt([Result()]) == ""
    assert to_vtt([Result()]) == "WEBVTT\n"


def test_a_long_segment_becomes_cues_that_share_its_time_by_characters() -> None:
    words = [f"word{i:03}" for i in range(100)]
    text = to_srt([Result(segments=[Segment(10.0, 50.0, " ".join(words))])])
    times = cue_times(text)
    assert len(times) > 5
    assert (times[0][0], times[-1][1]) == (10_000, 50_000)
    assert all(left[1] == right[0] for left, right in pairwise(times))
    bodies = [block.split("\n")[2:] for block in text.strip().split("\n\n")]
    assert all(1 <= len(lines) <= 2 and max(map(len, lines)) <= 42 for lines in bodies)
    assert " ".join(" ".join(lines) for lines in bodies).split() == words
    sizes = [sum(map(len, lines)) for lines in bodies]
    for (start, end), size in zip(times, sizes, strict=True):
        assert end - start == pytest.approx(40_000 * size / sum(sizes), abs=2)


def test_a_short_cue_gets_a_short_time() -> None:
    assert list(cues([Segment(0, 10, "aaaaaaaa bb")], 8, 1)) == [
        (0, 8000, ["aaaaaaaa"]),
        (8000, 10_000, ["bb"]),
    ]


def test_line_sizes_are_parameters_and_lines_are_even() -> None:
    result = Result(segments=[Segment(0, 4, "aaaa bbbb cccc dddd e")])
    assert "\naaaa\nbbbb\ncccc\n" in to_srt([result], max_line_chars=4, max_lines=3)
    [(_, _, lines)] = cues([Segment(0, 1, "the quick brown fox jumps over the lazy dog")], 42)
    assert lines == ["the quick brown fox", "jumps over the lazy dog"]
    [(_, _, lines)] = cues([Segment(0, 1, "x" * 50)], 42)
    assert "".join(lines) == "x" * 50
    with pytest.raises(OptionError):
        to_srt([result], max_lines=0)


def test_cues_of_a_segment_too_short_for_them_are_still_in_order() -> None:
    got = list(cues([Segment(1.0, 1.0, "a b c d")], 1, 1))
    assert [(start, end) for start, end, _ in got] == [(1000 + i, 1001 + i) for i in range(4)]


def test_text_that_looks_like_markup_cannot_break_the_file() -> None:
    result = Result(segments=[Segment(0, 1, "a --> b & <i>c", note="see --> <b>\n\n00:00 --> 00:01")])
    vtt = to_vtt([result])
    assert "a --&gt; b &amp; &lt;i&gt;c" in vtt
    assert vtt.count("-->") == 1
    assert len(vtt.strip().split("\n\n")) == 3
    assert to_srt([result]).count("-->") == 1


@pytest.mark.parametrize("format", sorted(PER_FILE))
@pytest.mark.parametrize("count", [0, 2])
def test_subtitles_hold_exactly_one_result(format: str, count: int) -> None:
    with pytest.raises(HubError, match=str(count)):
        render([TWO] * count, format)


def test_render_knows_its_formats_and_suggests_one() -> None:
    assert set(FORMATS) == {"txt", "json", "srt", "vtt", "csv"}
    assert render([TWO], "csv") == to_csv([TWO])
    with pytest.raises(UnknownNameError, match="Did you mean json"):
        render([TWO], "jsn")
    with pytest.raises(UnknownNameError, match="txt, json"):
        render([TWO], "docx")
