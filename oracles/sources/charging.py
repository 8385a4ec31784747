"""Devices that follow orders by limits: what an ordered change means for a charging connector or station."""

from pydantic import BaseModel, Field, model_validator


class Steered(BaseModel, extra="forbid", frozen=True):
    """What a connector or station draws without orders, and at most [W]."""

    reference_w: int = Field(gt=0)
    max_w: int = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "Steered":
        if self.reference_w > self.max_w:
            raise ValueError(f"reference_w {self.reference_w} is above max_w {self.max_w}")
        return self

    def limit_w(self, change_w: int) -> int:
        """Limit for an ordered change of net consumption [W]; positive means more, zero that there is no order."""
        return min(max(self.reference_w + change_w, 0), self.max_w) if change_w else self.max_w
