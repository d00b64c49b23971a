"""The engine, imported in this one place; untyped, since its stubs have drifted from its code."""

from __future__ import annotations

from typing import Any

import qdrant_edge

edge: Any = qdrant_edge
