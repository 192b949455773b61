"""The phones in which text-to-speech programs tell what they said when: frame-wise targets for free."""

from __future__ import annotations

_ARPABET = """
pau aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh
"""
PHONES = tuple(_ARPABET.split())
"""ARPAbet, as flite and festival use it."""
PAUSE, UNKNOWN = 0, -1
"""Indices: no speech; and a phone that is not in the list."""

_ESPEAK = """
aa: 0 A: A@ aa | ae: a | ah: @ @- @2 @5 a# V | ao: O: O@ O O2 o@ | aw: aU | ay: aI aI2 aI3 aI@ | b: b | ch: tS | d: d
dh: D | eh: E e@ | er: 3 3: VR IR | ey: eI | f: f | g: g | hh: h x | ih: I I2 I# i@ | iy: i i: i@3 | jh: dZ | k: k
l: l @L | m: m | n: n n- | ng: N | ow: oU | oy: OI | p: p | r: r r- | s: s | sh: S | t: t t# t2 t[ ? | th: T
uh: U U@ | uw: u: | v: v | w: w w# | y: j ; | z: z | zh: Z | pau: _ _: _| _!
"""
_OTHER = {"ax": "ah", "axr": "er", "el": "l", "em": "m", "en": "n", "dx": "t", "nx": "n", "hv": "hh", "h#": "pau"}
_INDEX = {phone: index for index, phone in enumerate(PHONES)}
_FROM_ESPEAK = {
    name: _INDEX[phone.strip()]
    for entry in _ESPEAK.strip().replace("\n", " | ").split(" | ")
    for phone, _, names in (entry.strip().partition(": "),)
    for name in names.split()
}


def from_espeak(mnemonic: str) -> int:
    """Index in PHONES of espeak-ng's mnemonic in any of its English accents, UNKNOWN for none."""
    return _FROM_ESPEAK.get(mnemonic, UNKNOWN)


def from_arpabet(name: str) -> int:
    """Index in PHONES of a phone of flite's or festival's American English, UNKNOWN for none."""
    return _INDEX.get(_OTHER.get(name, name), UNKNOWN)
