"""How much the models of the fake service write and think, and how it counts what it receives."""

import math
import random
from dataclasses import dataclass, field

# Thought tokens of one answer by level. Flash-Lite models think only on request, others by default.
_THOUGHTS = {"MINIMAL": 0, "LOW": 200, "MEDIUM": 500, "HIGH": 1000}
_SPREAD = 0.15  # sigma of the lognormal factor of thoughts


@dataclass(frozen=True)
class UsageStyle:
    """By default short answers without thoughts, counted at the published rates.

    Attributes:
        words: minimum and maximum words of a text.
        entries: entries that a list can have beyond its minimum.
        thinks: whether models think, as their thinking settings say.
        factors: factors of the input tokens of a modality, e.g. {"VIDEO": 2}.
        thought_factor: factor of thought tokens.
    """

    words: tuple[int, int] = (1, 4)
    entries: int = 3
    thinks: bool = False
    factors: dict = field(default_factory=dict)
    thought_factor: float = 1.0

    def counted(self, tokens):
        """Return {modality: tokens} as this service counts them."""
        return {name: math.ceil(count * self.factors.get(name, 1)) for name, count in tokens.items()}

    def thoughts(self, model, config, seed):
        """Return the thought tokens of one answer, generated from a seed string."""
        if not self.thinks:
            return 0
        thinking = config.get("thinkingConfig", {})
        level = thinking.get("thinkingLevel") or ("MINIMAL" if "lite" in model else "MEDIUM")
        budget = thinking.get("thinkingBudget")
        tokens = _THOUGHTS[level] if budget is None else budget / 2
        return round(tokens * self.thought_factor * random.Random(seed).lognormvariate(0, _SPREAD))


# Sentences instead of a few words, and thoughts: what models write about media.
TALKATIVE = UsageStyle(words=(8, 13), entries=4, thinks=True)
