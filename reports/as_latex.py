r"""Draw tables as LaTeX: booktabs, footnotes under the table, and a paragraph about the experimental setup.

The text compiles by itself with a plain installation (article, booktabs, graphicx), and can be read into a
paper with \input: then it begins no document of its own.
"""

from collections.abc import Sequence
from dataclasses import replace

from reports.table import Style, Table, TableCell, one_line

OPENING = r"""% Made by `bench report --format latex`. It compiles by itself; in a paper, write
% \usepackage{booktabs,graphicx} and \input{this file}.
\expandafter\ifx\csname @nodocument\endcsname\relax
\let\benchends\relax
\else
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\begin{document}
\def\benchends{\end{document}}
\fi
\providecommand{\benchstruck}[1]{%
\begingroup\setbox0=\hbox{#1}\rlap{\raisebox{.5ex}{\rule{\wd0}{.4pt}}}\box0\endgroup}
"""
ROWS_A_PAGE = 40
WRAPPERS = {
    Style.PLAIN: "{}",
    Style.BEST: r"\textbf{{{}}}",
    Style.STRUCK: r"\benchstruck{{{}}}",
    Style.MISSING: r"\emph{{{}}}",
}
ESCAPES = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "–": "--",
    "—": "---",
    "×": r"$\times$",
    "±": r"$\pm$",
    "÷": r"$\div$",
    "µ": r"$\mu$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "…": r"\ldots{}",
    "’": "{'}",
    "²": r"\textsuperscript{2}",
}
"""What else has a meaning in LaTeX, or no place in its usual fonts."""


def latex_document(tables: Sequence[Table], setup: str) -> str:
    """All tables after the paragraph `setup`, as one file."""
    parts = [OPENING, r"\paragraph{Experimental setup.}", _text(setup), "", *map(latex_table, tables)]
    return "\n".join(parts) + "\n\\benchends\n"


def latex_table(table: Table) -> str:
    """One table: scaled to the text's width where it is wider, cut into parts where it is long."""
    caption = r"\caption{" + _text(table.title) + "}"
    parts = [table.rows[start : start + ROWS_A_PAGE] for start in range(0, len(table.rows), ROWS_A_PAGE)]
    drawn = []
    for number, rows in enumerate(parts or [()], 1):
        last = number == max(len(parts), 1)
        head = caption if number == 1 else r"\caption{" + _text(f"{table.title} (continued)") + "}"
        below = _below(table) if last else []
        footers = table.footers if last else ()
        drawn += [r"\begin{table}[p]", r"\centering", head, *_tabular(table, rows, footers), *below]
        drawn += [r"\end{table}", ""]
    return "\n".join(drawn)


def _tabular(
    table: Table, rows: Sequence[tuple[TableCell, ...]], footers: Sequence[tuple[TableCell, ...]]
) -> list[str]:
    columns = "".join("l" if index < table.text_columns else "r" for index in range(len(table.columns)))
    lines = [
        # Only ever smaller: a narrow table keeps its size.
        r"\sbox0{\footnotesize",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line(table.columns),
        r"\midrule",
        *map(_line, rows),
    ]
    if footers:
        lines += [r"\midrule", *(_line([_bold(cell) for cell in row]) for row in footers)]
    ending = r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi"
    return [*lines, r"\bottomrule", r"\end{tabular}}%", ending]


def _bold(cell: TableCell) -> TableCell:
    return replace(cell, style=Style.BEST) if cell.text else cell


def _below(table: Table) -> list[str]:
    """Remarks and numbered footnotes."""
    notes = [rf"\textsuperscript{{{number}}} {_text(text)}" for number, text in enumerate(table.notes, 1)]
    lines = [*map(_text, table.remarks), *notes]
    if not lines:
        return []
    opening = r"\begin{minipage}{\linewidth}\scriptsize\raggedright"
    return ["", r"\vspace{1ex}", opening, r"\\ ".join(lines), r"\end{minipage}"]


def _line(row: Sequence[TableCell]) -> str:
    return " & ".join(map(_cell, row)) + r" \\"


def _cell(cell: TableCell) -> str:
    text = _text(cell.text)
    drawn = WRAPPERS[cell.style].format(text) if text else ""
    marks = ",".join(map(str, sorted(cell.notes)))
    # After the \\ of the row before it, a [ would be its argument and a * its star.
    guard = "{}" if drawn.startswith(("[", "*")) else ""
    return guard + drawn + (rf"\textsuperscript{{{marks}}}" if marks else "")


def _text(text: str) -> str:
    parts = one_line(text).split("--")  # an option's two hyphens would become a dash
    return "-{}-".join("".join(map(_character, part)) for part in parts)


def _character(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    known = character.isascii() or "À" <= character <= "ÿ"
    return character if known else rf"\texttt{{U+{ord(character):04X}}}"
