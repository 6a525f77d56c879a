"""Layer-wise relevance propagation on the autograd graph: any model, op by op, no change to it."""

from . import plot, testing
from .api import Coverage, Run, coverage, propagate, relevance, top_k
from .attributors import integrated, occlusion, smooth
from .captum_like import LRP
from .capture import capture
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
from .ledger import Ledger
from .mark import stop_relevance
from .op import Op
from .packs.hookspecs import hookimpl
from .packs.plugins import load_rules, preset
from .rule import Row, Rule, Value
from .rules.backprop import DeconvReLU, GuidedReLU, PlainGradient, SmoothReLU
from .rules.defaults import Pass, Product
from .rules.first_layer import Flat, WSquare, ZBox, first_layer
from .rules.layered import Epsilon, Norm
from .rules.ratio import Filter, Identity, LinearRatio, ProductRatio, Ratio
from .rules.signed import AlphaBeta, Gamma, ZPlus
from .table import Rules, override
from .values.record import Recording, record
from .values.statistics import Promises

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
