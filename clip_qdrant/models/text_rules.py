"""How a family of models was given its texts, where neither its config nor its tokenizer says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextRules:
    """How texts go in.

    Attributes:
        lower: in lower case.
        full_length: padded to the full length whatever their own, and the padding not masked.
        max_tokens: how long they were in training, where the positions would allow more; None for no such limit.
    """

    lower: bool = False
    full_length: bool = False
    max_tokens: int | None = None

    @property
    def padding(self) -> str:
        """As tokenizers name it."""
        return "max_length" if self.full_length else "longest"

    def prepare(self, text: str) -> str:
        """A text as the tokenizer is to see it."""
        return text.lower() if self.lower else text


_SIGLIP = TextRules(lower=True, full_length=True)
_RULES = {"siglip": _SIGLIP, "siglip2": _SIGLIP, "chinese_clip": TextRules(max_tokens=52)}


def text_rules(model_type: str) -> TextRules:
    """The rules of a family, by the `model_type` in its config.json."""
    return _RULES.get(model_type, TextRules())
