"""Mutation tests of `hami_dra/core`: which changes of the code no test notices."""

from hacklib.mutation.scores import Score, scores, table
from hacklib.mutation.workplace import refresh

__all__ = ["Score", "refresh", "scores", "table"]
