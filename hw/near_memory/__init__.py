"""Parts of the near-memory engine, joined by streams."""

from hw.near_memory.adders import Adders
from hw.near_memory.fixed_state import FixedSums, FixedTerms, FixedUpdate
from hw.near_memory.half_state import HalfTerms, HalfUpdate
from hw.near_memory.join import Join
from hw.near_memory.repairs import Repairs
from hw.near_memory.results import Results
from hw.near_memory.rows import Rows
from hw.near_memory.scoreboard import Scoreboard
from hw.near_memory.words import Words

__all__ = [
    "Adders",
    "FixedSums",
    "FixedTerms",
    "FixedUpdate",
    "HalfTerms",
    "HalfUpdate",
    "Join",
    "Repairs",
    "Results",
    "Rows",
    "Scoreboard",
    "Words",
]
