"""What torch would evaluate: arithmetic on sizes goes through, code does not."""

import pytest

from ml.formats.expressions import is_guard, is_size, symbol_of


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Mul(Integer(48), Symbol('s27', positive=True, integer=True), Symbol('s77'))",
        "Pow(Symbol('s27', positive=True, integer=True), Integer(2))",
        "Min(Integer(16), Mul(Integer(16), Symbol('s77', positive=True, integer=True)))",
        "FloorDiv(Add(Symbol('s0'), Integer(-1)), Integer(2))",
        "Float('0.5', precision=53)",
        "2*s0 + s1//4",
        "s0 >= 2",
    ],
)
def test_sizes_are_computed(text: str) -> None:
    assert is_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "L['x'].size()[1] == 4",
        "((L['x'].size()[1]*L['x'].size()[0]) % (2*L['x'].size()[0])) != 0",
        "L['inputs']['mask'].size()[0] <= 64 and L['x'].size()[0] >= 2",
        "L['scale'] is None",
        "math.isnan(L['rate'])",
        "FloorDiv(L['x'].size()[0], 2) == 3",
    ],
)
def test_guards_are_compared(text: str) -> None:
    assert is_guard(text)


ATTACKS = [
    "__import__('os').system('id')",
    "open('/etc/passwd').read()",
    "Symbol('s0').func.__globals__",
    "Symbol('s0); import os; (')",
    "(lambda: 1)()",
    "[x for x in (1,)]",
    "L['x'].__class__",
    "L['x'].tolist()",
    "L['x\\'].size(); evil(\\'']",
    "f'{1}'",
    "math.__loader__",
    "math.isnan.__self__",
    "9**9**9",
    "Pow(Integer(9), Integer(999999999))",
    "1 # comment",
    "(1\n)",
    "Max(key=print)",
    "Integer('__import__(\"os\")')",
    "s0 if s0 else s1",
    "(a := 1)",
    "x" * 5000,
    "(" * 3000 + ")" * 3000,
    "b'1'",
    "eval",
    "",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_code_is_neither_a_size_nor_a_guard(text: str) -> None:
    assert not is_guard(text)
    if text != "eval":  # a name by itself is a size that is free
        assert not is_size(text)


def test_a_free_size_has_a_name() -> None:
    assert symbol_of("Symbol('s77', positive=True, integer=True)") == "s77"
    assert symbol_of("s0") == "s0"
    assert symbol_of("Mul(Integer(2), Symbol('s0', integer=True))") is None
