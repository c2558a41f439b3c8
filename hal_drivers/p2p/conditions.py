# SPDX-License-Identifier: Apache-2.0
"""A condition of Qiskit's as pairs of bit and value, all of which must hold. Runs in a guarded child only.

Taken are equality of a bit or a register with a number, a bit alone, its negation, and what *and* makes of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from qiskit.circuit import ClassicalRegister, Clbit
from qiskit.circuit.classical import expr

Condition: TypeAlias = tuple[tuple[int, int], ...]
Cases: TypeAlias = tuple[Condition, ...]
"""None of them: it never holds."""
Number: TypeAlias = Callable[[Clbit], int]


def branches(condition: Any, number: Number) -> tuple[Cases | None, Cases | None]:
    """When the condition holds and when not; None where pairs can't say it."""
    met = _met(condition, number)
    if met is None:
        return None, None
    if not met:
        return met, ((),)
    pairs = met[0]
    if not pairs:
        return met, ()
    return met, ((((pairs[0][0], 1 - pairs[0][1]),),) if len(pairs) == 1 else None)


def both(one: Condition, other: Condition) -> Condition | None:
    """Both conditions at once; None where that can't be."""
    made = dict(one)
    for bit, value in other:
        if made.setdefault(bit, value) != value:
            return None
    return tuple(sorted(made.items()))


def _met(condition: Any, number: Number) -> Cases | None:
    match condition:
        case (Clbit() as bit, value):
            return _equal([number(bit)], int(value))
        case (ClassicalRegister() as register, value):
            return _equal([number(bit) for bit in register], int(value))
        case expr.Expr():
            return _expression(condition, number)
    return None


def _expression(node: Any, number: Number) -> Cases | None:
    match node:
        case expr.Var(var=Clbit() as bit):
            return _equal([number(bit)], 1)
        case expr.Cast(operand=inner) if _is_boolean(node) and _is_boolean(inner):
            return _expression(inner, number)
        case expr.Unary(op=expr.Unary.Op.LOGIC_NOT | expr.Unary.Op.BIT_NOT, operand=inner) if _is_boolean(inner):
            return branches(inner, number)[1]
        case expr.Binary(op=expr.Binary.Op.LOGIC_AND | expr.Binary.Op.BIT_AND, left=left, right=right) if _is_boolean(
            left
        ):
            return _and(_expression(left, number), _expression(right, number))
        case expr.Binary(op=expr.Binary.Op.EQUAL, left=left, right=right):
            return _equality(left, right, number)
        case expr.Binary(op=expr.Binary.Op.NOT_EQUAL, left=left, right=right):
            met = _equality(left, right, number)
            if met is None:
                return None
            if not met:
                return ((),)
            return (((met[0][0][0], 1 - met[0][0][1]),),) if len(met[0]) == 1 else None
    return None


def _is_boolean(node: Any) -> bool:
    return bool(node.type == expr.lift(True).type)


def _and(left: Cases | None, right: Cases | None) -> Cases | None:
    if left is None or right is None:
        return None
    if not left or not right:
        return ()
    whole = both(left[0], right[0])
    return () if whole is None else (whole,)


def _equality(left: Any, right: Any, number: Number) -> Cases | None:
    if isinstance(left, expr.Value):
        left, right = right, left
    while isinstance(left, expr.Cast):
        left = left.operand
    if not isinstance(right, expr.Value) or not isinstance(left, expr.Var):
        return None
    if isinstance(left.var, Clbit):
        return _equal([number(left.var)], int(right.value))
    if isinstance(left.var, ClassicalRegister):
        return _equal([number(bit) for bit in left.var], int(right.value))
    return None


def _equal(bits: list[int], value: int) -> Cases:
    if not 0 <= value < 1 << len(bits):
        return ()
    return (tuple(sorted((bit, value >> place & 1) for place, bit in enumerate(bits))),)
