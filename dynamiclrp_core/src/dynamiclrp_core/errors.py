"""Errors. Each names the node, the path to it, the cause and the cure."""

from __future__ import annotations


class DynamicLRPError(RuntimeError):
    """Base of every error this library raises on purpose."""


class NoGraph(DynamicLRPError):
    """An output or an input has no autograd graph to walk."""


class FreedGraph(DynamicLRPError):
    """The graph's saved tensors were freed by an earlier backward."""


class ModifiedInPlace(DynamicLRPError):
    """A saved tensor was changed in place after the forward."""


class CompiledGraph(DynamicLRPError):
    """The forward was compiled into one node; its operations are gone."""


class InvalidSeed(DynamicLRPError):
    """``output_relevance`` does not fit the outputs."""


class InvalidInput(DynamicLRPError):
    """``inputs`` or ``at`` names something that cannot be explained."""


class UnreachableInput(DynamicLRPError):
    """No path leads from the outputs to a requested input."""


class MissingRule(DynamicLRPError):
    """No installed rule covers a node."""


class Unrecoverable(DynamicLRPError):
    """A forward value that a rule asks for was kept nowhere and cannot be computed."""

    position: int = -1
    """Place in the graph of the node that lost it; the sweep adds the path to the message."""


class NonFinite(DynamicLRPError):
    """Relevance became NaN or infinite; the message names the first node where it did."""


class DuplicateRule(DynamicLRPError):
    """Two packs give a rule for the same node."""


class BrokenPack(DynamicLRPError):
    """A pack cannot be loaded, or was written for another pack API."""


class BadRule(DynamicLRPError):
    """A rule returned something that does not fit its node."""
