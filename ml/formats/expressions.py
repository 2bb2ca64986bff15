"""Judges the two little languages in an exported program that torch hands to eval and exec.

Sizes are written as SymPy's constructors ("Mul(Integer(2), Symbol('s0', integer=True))"), guards
as Python on the inputs ("L['x'].size()[0] <= 64"). What is not named here is refused.
"""

import ast
import re
from collections.abc import Callable

MAX_CHARACTERS = 4_000
MAX_POWER = 16
UNSEEN = re.compile(r"[#\\\n\r\0]")
"""What ast overlooks or folds, but who pastes the text into code does not."""
WORD = re.compile(r"\w{1,200}", re.ASCII)
NUMBER = re.compile(r"-?[\d.]{1,40}(e[+-]?\d{1,3})?", re.ASCII)
OPERATORS = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow,
    ast.USub, ast.Not, ast.And, ast.Or, ast.Load,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip
PLAIN = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, *OPERATORS)
ARITHMETIC = frozenset({
    "Add", "Mul", "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv",
    "ModularIndexing", "Where", "Abs", "floor", "ceiling", "CeilToInt", "FloorToInt", "IntTrueDiv",
    "FloatTrueDiv", "TruncToFloat", "TruncToInt", "RoundToInt", "ToFloat", "Identity",
    "IsNonOverlappingAndDenseIndicator", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality",
    "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan", "And", "Or",
    "Not",
})  # fmt: skip
ASSUMPTIONS = frozenset({"integer", "positive", "nonnegative", "real", "finite"})


def symbol_of(text: str) -> str | None:
    """The name, where a size is one free size and nothing else."""
    found = re.fullmatch(r"Symbol\('(\w+)'[\w ,=]*\)|([A-Za-z_]\w*)", text, re.ASCII)
    return found and (found[1] or found[2])


def is_size(text: str) -> bool:
    """Whether it only computes a size from sizes; SymPy evaluates what it is given."""
    return _is_made_of(text, _is_size_node)


def is_guard(text: str) -> bool:
    """Whether it only compares sizes and plain values of inputs; torch makes a function of it."""
    return _is_made_of(text, _is_guard_node)


def _is_made_of(text: str, is_allowed: Callable[[ast.AST], bool]) -> bool:
    if len(text) > MAX_CHARACTERS or UNSEEN.search(text):
        return False
    try:
        tree = ast.parse(text, mode="eval")
        return all(map(is_allowed, ast.walk(tree)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_size_node(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(op=ast.Pow(), right=power):
            return _is_small(power)
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]):
            return bool(WORD.fullmatch(name)) and _are_assumptions(node.keywords)
        case ast.Call(func=ast.Name(id="Integer" | "Rational" | "Float"), args=values):
            return all(_is_number(value) for value in values) and _are_precisions(node.keywords)
        case ast.Call(func=ast.Name(id="Pow" | "PowByNatural"), args=[_, power]):
            return not node.keywords and _is_small(power)
        case ast.Call(func=ast.Name(id=name)):
            return name in ARITHMETIC and not node.keywords
        case ast.Constant(value=value):
            # A text is the name of a Symbol or the digits of a Float, judged with their call.
            return isinstance(value, bool | int | float) or _is_word_or_number(value)
        case ast.Name(id=name):
            return bool(WORD.fullmatch(name)) and not name.startswith("_")
    return isinstance(node, (*PLAIN, ast.keyword))


def _is_guard_node(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(op=ast.Pow(), right=power):
            return _is_small(power)
        case ast.Call(func=ast.Attribute(attr="size"), args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr="isnan"), keywords=[]):
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in ARITHMETIC and not node.keywords
        case ast.Attribute(value=ast.Name(id="math")):
            return node.attr in ("isnan", "inf", "nan")
        case ast.Attribute(attr=name):
            return name == "size"
        case ast.Constant(value=value):
            return value is None or isinstance(value, int | float) or _is_word_or_number(value)
        case ast.Name(id=name):
            return name in ("L", "math", "inf") or name in ARITHMETIC
        case ast.Compare(ops=operators):
            return all(isinstance(each, (*OPERATORS, ast.Is, ast.IsNot)) for each in operators)
    return isinstance(node, (*PLAIN, ast.Subscript, ast.Is, ast.IsNot))


def _is_word_or_number(value: object) -> bool:
    return isinstance(value, str) and bool(WORD.fullmatch(value) or NUMBER.fullmatch(value))


def _is_number(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    match node:
        case ast.Constant(value=str(digits)):
            return bool(NUMBER.fullmatch(digits))
        case ast.Constant(value=int() | float()):
            return True
    return False


def _is_small(node: ast.AST) -> bool:
    """A power of a power could take all memory."""
    match node:
        case ast.Call(func=ast.Name(id="Integer"), args=[inner]):
            return _is_small(inner)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _is_small(inner)
        case ast.Constant(value=int(power)):
            return power <= MAX_POWER
    return False


def _are_assumptions(keywords: list[ast.keyword]) -> bool:
    return all(
        each.arg in ASSUMPTIONS and isinstance(each.value, ast.Constant) for each in keywords
    )


def _are_precisions(keywords: list[ast.keyword]) -> bool:
    return all(each.arg == "precision" and _is_small_precision(each.value) for each in keywords)


def _is_small_precision(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value <= 256
