"""Layer-wise relevance propagation on the autograd graph: any model, op by op, no change to it."""

from . import plot, testing
from .api import Coverage, Run, coverage, propagate, relevance, top_k
from .attributors import integrated, occlusion, smooth
from .backprop import DeconvReLU, GuidedReLU, PlainGradient, SmoothReLU
from .captum_like import LRP
from .capture import capture
from .defaults import Pass, Product
from .engine import Sweep
from .errors import (
    BadRule,
    BrokenPack,
    CompiledGraph,
    DuplicateRule,
    DynamicLRPError,
    FreedGraph,
    InvalidInput,
    InvalidSeed,
    MissingRule,
    ModifiedInPlace,
    NoGraph,
    NonFinite,
    UnreachableInput,
    Unrecoverable,
)
from .first_layer import Flat, WSquare, ZBox, first_layer
from .hookspecs import hookimpl
from .layered import Epsilon, Norm
from .ledger import Ledger
from .mark import stop_relevance
from .op import Op
from .plugins import load_rules, preset
from .ratio import Filter, Identity, LinearRatio, ProductRatio, Ratio
from .record import Recording, record
from .rule import Row, Rule, Value
from .signed import AlphaBeta, Gamma, ZPlus
from .statistics import Promises
from .table import Rules, override

__all__ = [
    "LRP",
    "AlphaBeta",
    "BadRule",
    "BrokenPack",
    "CompiledGraph",
    "Coverage",
    "DeconvReLU",
    "DuplicateRule",
    "DynamicLRPError",
    "Epsilon",
    "Filter",
    "Flat",
    "FreedGraph",
    "Gamma",
    "GuidedReLU",
    "Identity",
    "InvalidInput",
    "InvalidSeed",
    "Ledger",
    "LinearRatio",
    "MissingRule",
    "ModifiedInPlace",
    "NoGraph",
    "NonFinite",
    "Norm",
    "Op",
    "Pass",
    "PlainGradient",
    "Product",
    "ProductRatio",
    "Promises",
    "Ratio",
    "Recording",
    "Row",
    "Rule",
    "Rules",
    "Run",
    "SmoothReLU",
    "Sweep",
    "UnreachableInput",
    "Unrecoverable",
    "Value",
    "WSquare",
    "ZBox",
    "ZPlus",
    "capture",
    "coverage",
    "first_layer",
    "hookimpl",
    "integrated",
    "load_rules",
    "occlusion",
    "override",
    "plot",
    "preset",
    "propagate",
    "record",
    "relevance",
    "smooth",
    "stop_relevance",
    "testing",
    "top_k",
]
