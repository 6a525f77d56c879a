"""Layer-wise relevance propagation on the autograd graph: any model, op by op, no change to it."""

from . import testing
from .api import Coverage, Run, coverage, propagate, relevance, top_k
from .captum_like import LRP
from .defaults import Product
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
from .hookspecs import hookimpl
from .layered import Epsilon, Gamma, ZPlus
from .ledger import Ledger
from .op import Op
from .plugins import load_rules, preset
from .ratio import Filter, Identity, LinearRatio, ProductRatio, Ratio
from .record import Recording, record
from .rule import Row, Rule, Rules, Value, override
from .statistics import Promises

__all__ = [
    "LRP",
    "BadRule",
    "BrokenPack",
    "CompiledGraph",
    "Coverage",
    "DuplicateRule",
    "DynamicLRPError",
    "Epsilon",
    "Filter",
    "FreedGraph",
    "Gamma",
    "Identity",
    "InvalidInput",
    "InvalidSeed",
    "Ledger",
    "LinearRatio",
    "MissingRule",
    "ModifiedInPlace",
    "NoGraph",
    "NonFinite",
    "Op",
    "Product",
    "ProductRatio",
    "Promises",
    "Ratio",
    "Recording",
    "Row",
    "Rule",
    "Rules",
    "Run",
    "Sweep",
    "UnreachableInput",
    "Unrecoverable",
    "Value",
    "ZPlus",
    "coverage",
    "hookimpl",
    "load_rules",
    "override",
    "preset",
    "propagate",
    "record",
    "relevance",
    "testing",
    "top_k",
]
