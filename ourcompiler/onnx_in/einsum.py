"""Einsum: two operands at a time become a product of matrices, or elementwise where nothing is summed."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters

from ourcompiler.ir.index import Space
from ourcompiler.ir.index_map import index_map
from ourcompiler.onnx_in.site import Convert, Site
from ourcompiler.onnx_in.value import Value, names, operand

DOTS = "..."
EXAMPLE = "an equation looks like bij,bjk->bik"


@dataclass(frozen=True, slots=True)
class Term:
    """An operand and the letter of each of its axes."""

    value: Value
    letters: str

    def in_order(self, letters: str) -> Value:
        """With its axes in the order of these letters."""
        return self.value.transpose(*(self.letters.index(one) for one in letters))

    def summed(self, kept: Collection[str]) -> "Term":
        """Without the letters that are not kept."""
        gone = [axis for axis, one in enumerate(self.letters) if one not in kept]
        if not gone:
            return self
        left = "".join(one for one in self.letters if one in kept)
        return Term(self.value.reduce("ReduceSum", gone, keep=False), left)


def _einsum(site: Site) -> Sequence[str]:
    terms, wanted = _read(site, site.attribute("equation", "").replace(" ", ""))
    sizes = _sizes(site, terms)
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(sizes):
        raise site.error(f"a result of {wanted!r}", "each letter once, and only those of the operands")
    whole = [_wide(_diagonal(one), sizes) for one in terms]
    found = whole[0].summed({*wanted, *_letters(whole[1:])})
    for number, one in enumerate(whole[1:], 1):
        later = {*wanted, *_letters(whole[number + 1 :])}
        found = _product(found, one.summed({*later, *found.letters}), later, sizes)
    return names(found.summed(wanted).in_order(wanted))


def _letters(terms: Sequence[Term]) -> str:
    return "".join(one.letters for one in terms)


def _read(site: Site, equation: str) -> tuple[list[Term], str]:
    """The operands and the letters of the result; dots become letters that the equation has not."""
    left, arrow, right = equation.partition("->")
    written = left.split(",")
    if len(written) != len(site.inputs):
        raise site.error(f"{len(written)} terms in {equation!r} for {len(site.inputs)} operands", EXAMPLE)
    values = [operand(site, number) for number in range(len(written))]
    hidden = [_hidden(text, value) for text, value in zip(written, values, strict=True)]
    widest = max(hidden)
    dots = [one for one in ascii_letters if one not in equation][:widest]
    if not arrow:
        counts = Counter(left.replace(DOTS, "").replace(",", ""))
        right = DOTS * (DOTS in left) + "".join(sorted(one for one, count in counts.items() if count == 1))
    terms = [
        Term(value, text.replace(DOTS, "".join(dots[widest - count :])))
        for text, value, count in zip(written, values, hidden, strict=True)
    ]
    return terms, right.replace(DOTS, "".join(dots))


def _hidden(text: str, value: Value) -> int:
    """How many axes stand behind the dots."""
    plain = text.replace(DOTS, "", 1)
    count = value.rank - len(plain)
    if any(one not in ascii_letters for one in plain) or count < 0 or (count and DOTS not in text):
        raise value.site.error(f"the term {text!r} for an operand of {value.shape}", EXAMPLE)
    return count


def _sizes(site: Site, terms: Sequence[Term]) -> dict[str, int]:
    """The size of each letter; axes of size 1 are repeated."""
    found: dict[str, int] = {}
    for term in terms:
        for one, size in zip(term.letters, term.value.shape, strict=True):
            before = found.get(one, 1)
            if 1 not in (before, size) and before != size:
                raise site.error(f"sizes {before} and {size} of one letter", EXAMPLE)
            found[one] = size if before == 1 else before
    return found


def _diagonal(term: Term) -> Term:
    """A letter that stands twice walks along both axes: a view."""
    once = "".join(dict.fromkeys(term.letters))
    if once == term.letters:
        return term
    source = term.value.shape
    if any(source[term.letters.index(one)] != size for one, size in zip(term.letters, source, strict=True)):
        raise term.value.site.error(f"a diagonal {term.letters!r} of {source}", "both axes are as long")
    shape = tuple(source[term.letters.index(one)] for one in once)
    dims = Space(shape).dims()
    view = index_map(shape, source, [dims[once.index(one)] for one in term.letters])
    return Term(term.value.seen(view), once)


def _wide(term: Term, sizes: Mapping[str, int]) -> Term:
    """With axes of size 1 repeated."""
    return Term(term.value.expand(*(sizes[one] for one in term.letters)), term.letters)


def _product(left: Term, right: Term, kept: Collection[str], sizes: Mapping[str, int]) -> Term:
    """Both multiplied; letters that both have and nobody needs later are summed."""
    both = [one for one in left.letters if one in right.letters]
    batch = "".join(one for one in both if one in kept)
    summed = "".join(one for one in both if one not in kept)
    rows = "".join(one for one in left.letters if one not in both)
    columns = "".join(one for one in right.letters if one not in both)

    def of(letters: str) -> tuple[int, ...]:
        return tuple(sizes[one] for one in letters)

    letters = batch + rows + columns
    if not summed:
        first = left.in_order(batch + rows).reshape(*of(batch + rows), *[1] * len(columns))
        second = right.in_order(batch + columns).reshape(*of(batch), *[1] * len(rows), *of(columns))
        return Term(first * second, letters)
    inner = prod(of(summed))
    first = left.in_order(batch + rows + summed).reshape(*of(batch), prod(of(rows)), inner)
    second = right.in_order(batch + summed + columns).reshape(*of(batch), inner, prod(of(columns)))
    return Term((first @ second).reshape(*of(letters)), letters)


ROWS: dict[str, Convert] = {"Einsum": _einsum}
