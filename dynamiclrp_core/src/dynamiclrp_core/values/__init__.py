"""Forward values: what autograd saved, what ``record()`` kept, what is recomputed."""
