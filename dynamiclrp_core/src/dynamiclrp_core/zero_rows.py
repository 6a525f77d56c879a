"""Rows of a coefficient that are zero need no product."""

from __future__ import annotations

from torch import Tensor

ROWS_PAY = 2**15


class ExplainedRows:
    """Rows of a matrix that are not all zero, for one run: called with each coefficient in turn.

    One explained position of a language model leaves all but one row of the head and of the last block
    zero. Relevance only spreads on its way down, so the first dense matrix ends the search (``over``); a
    few rows tell it, and a matrix below ``ROWS_PAY`` entries is not worth a look.
    """

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False

    def __call__(self, c: Tensor) -> Tensor | None:
        """Numbers of those rows, if most rows of ``c`` (rows x columns) are zero; else None."""
        if self.over or c.numel() < ROWS_PAY or c.dim() != 2 or c.requires_grad:
            return None
        few = c[:: max(1, c.shape[0] // 8)]
        if int((few != 0).any(1).sum()) * 2 > few.shape[0]:
            self.over = True
            return None
        # Largest and smallest entry, where there is an order: several times faster than to compare all.
        dense = (c != 0).any(1) if c.is_complex() else (c.amax(1) != 0) | (c.amin(1) != 0)
        rows = dense.nonzero().squeeze(1)
        return rows if rows.numel() * 2 <= c.shape[0] else None
