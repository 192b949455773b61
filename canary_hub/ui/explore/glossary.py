"""The field's words, each with a plain explanation that opens where the word stands."""

from __future__ import annotations

import re
from typing import NamedTuple

EVERYWHERE = {
    r"tokens?": "A piece of text, often a word or a part of one: what the LLM reads and writes.",
    r"embeddings?": "A vector of numbers that stands for one token, or for one piece of the audio.",
    r"embedding table": "One vector of numbers for every token of the vocabulary.",
    r"adapters?": "Small added matrices that were trained, while the model around them stayed as it was.",
    r"LoRA": "Low-rank adaptation: training two thin matrices beside a weight instead of the weight itself.",
    r"[KMG]iB": "Binary units: 1 KiB is 1,024 bytes, 1 MiB 1,024 KiB, 1 GiB 1,024 MiB.",
    r"placeholder": "A token that only marks the place in the prompt where the audio goes.",
}
OF_NORMS = "The length of a vector: the square root of the sum of its squared numbers. For a matrix likewise."
SPECIAL = {
    "structure": {
        r"query heads?": "Attention looks back in several ways at once, its heads. A query is what one of them asks.",
        r"key-value heads?|heads of keys and values": "What a query can find: keys to match it, and values to take "
        "from there. Sharing them between query heads (GQA) saves memory.",
        r"shar(?:ing|ed) heads|without sharing": "Several query heads use the same keys and values (GQA): "
        "fewer have to be kept.",
        r"norms?": "A step that brings every vector to a standard length. It keeps training stable.",
        r"feed-forward(?: network)?": "A small network that every position goes through by itself, after attention.",
        r"attention": "The step in which a position looks at those before it and takes what it needs from them.",
        r"lm_head": "The last layer. It gives every token of the vocabulary a score for coming next.",
        r"tied": "One table serves twice: tokens become vectors with it, and vectors become scores of tokens.",
        r"rotary base": "Positions are told to the model by turning its vectors; the base says how slowly.",
        r"KV cache": "What attention keeps of every earlier position, so that no step computes it again.",
        r"positions?": "A place in the sequence that the LLM reads and continues.",
        r"parameters?": "The numbers of the model that training sets.",
        r"bfloat16|float32": "How one number is stored: bfloat16 in 2 bytes, float32 in 4.",
    },
    "lora": {
        r"rank": "The thin side of the two matrices: how many directions the update can have.",
        r"alpha": "A fixed number that says, divided by the rank, how strongly the update counts.",
        r"frozen": "Not changed by training.",
        r"trainable": "Changed by training.",
        r"singular values?|directions": "How strongly a matrix acts along each of its own directions, strongest first.",
        r"norms?": OF_NORMS,
        r"float64": "Numbers of 8 bytes, exact enough to compare with.",
        r"rounding": "A stored number has few digits; the last one is rounded.",
        r"confidence": "The geometric mean of the probabilities of the tokens that were written.",
        r"linear": "A layer that multiplies by a matrix, its weight.",
        r"[qv]_proj": "q_proj makes the queries of attention, v_proj its values.",
        r"audio embeddings": "The vectors that the encoder and the projector make of the sound, one for 80 ms of it.",
    },
    "weights": {
        r"tensors?": "A named block of numbers in the file.",
        r"dtypes?": "How one number is stored. BF16 and F16 take 2 bytes, F32 takes 4, I64 is a whole number of 8.",
        r"safetensors": "A file format for weights: a list of names and shapes, then nothing but the numbers.",
        r"header": "The beginning of the file: names, dtypes, shapes, and where each tensor lies.",
        r"tied": "Two modules use one tensor, which stands in the file once.",
        r"missing": "The stack asks for it and the file does not have it.",
        r"unused": "The file has it and the stack does not ask for it.",
        r"wrongly shaped": "It is there, with other dimensions than the stack asks for.",
        r"perception": "The part that hears: preprocessor, encoder and projector.",
    },
    "injection": {
        r"ids?": "A token's number in the vocabulary.",
        r"audio frames?": "One audio embedding. It stands for a short stretch of sound.",
        r"attention mask": "A list of ones and zeros that says which positions the LLM looks at.",
        r"padding": "Positions that hold nothing. They make the rows of a batch equally long.",
        r"batch": "Several clips that go through the LLM at once.",
        r"norms?": OF_NORMS,
        r"positions?": "A place in the sequence that the LLM reads.",
        r"piece": "The text that a token stands for; \u2423 is a space, \\n a new line.",
    },
    "generation": {
        r"greedy": "Always taking the most probable token. The same audio gives the same text.",
        r"draw(?:n|ing)": "Taking a token by chance, the probable ones more often.",
        r"temperature": "0 is greedy. The higher it is, the more often improbable tokens are drawn.",
        r"seed": "The number that the drawing starts from: the same seed draws the same tokens.",
        r"max_new_tokens": "After so many tokens the answer is cut, finished or not.",
        r"do_sample": "The name in transformers for drawing tokens instead of taking the most probable one.",
        r"entropy": "How undecided the model was. 0 bits: certain; 1 bit: as undecided as between two equals.",
        r"end token|eos": "A token that means: the answer ends here.",
        r"pad": "A token that only fills up shorter rows of a batch.",
        r"ids?": "A token's number in the vocabulary.",
        r"input_ids": "The prompt as numbers of tokens: B rows of L each.",
        r"inputs_embeds": "The prompt as vectors: B rows of L vectors of H numbers each.",
        r"positions?": "A place in the sequence that the LLM reads and continues.",
        r"instead": "The most probable tokens that were not taken.",
        r"as greedy": "How many tokens at the beginning are those of the greedy answer.",
        r"repetition": "The same few tokens over and over: a loop that would not end by itself.",
    },
}
"""Exploration -> pattern -> what it means. Longer matches win, so that "audio embeddings" is no "embeddings"."""


class Explained(NamedTuple):
    """A stretch of text; with a meaning, it is a word that is explained in the tip of that id."""

    text: str
    meaning: str = ""
    id: str = ""


class Words:
    """Cuts texts so that a word is explained at its first use. One for every section of a page.

    name: the exploration. prefix: makes the ids unique on the page.
    """

    def __init__(self, name: str, prefix: str) -> None:
        known = {**EVERYWHERE, **SPECIAL[name]}
        self._known = [(re.compile(pattern, re.IGNORECASE), meaning) for pattern, meaning in known.items()]
        every = "|".join(sorted(known, key=len, reverse=True))
        self._any = re.compile(rf"(?<![\w|<-])(?:{every})(?![\w|-])", re.IGNORECASE)
        self._prefix = prefix
        self._explained: set[str] = set()

    def __call__(self, text: str) -> list[Explained]:
        """The text in pieces, with those explained that have not been yet."""
        pieces, end = [], 0
        for found in self._any.finditer(text):
            meaning = next(meaning for pattern, meaning in self._known if pattern.fullmatch(found[0]))
            if meaning not in self._explained:
                id = f"{self._prefix}-{len(self._explained)}"
                self._explained.add(meaning)
                pieces += [Explained(text[end : found.start()]), Explained(found[0], meaning, id)]
                end = found.end()
        return [*pieces, Explained(text[end:])] if text else []
