"""A strategy document as Markdown: sections, in them labels with what stands after them, each with its line.

What a section or a label means is not known here, only that a table is whole and that nothing is hidden by Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tidegate.errors import StrategyError

#: No quotes, no underlined headings, no indented code: `- >= 80 %` would lose its comparison, and a field before `---`
#: would become a heading. A line that begins with `>` is a remark to the reader.
_MARKDOWN = MarkdownIt("zero", {"html": True}).enable(
    [
        "table",
        "list",
        "heading",
        "hr",
        "fence",
        "html_block",
        "emphasis",
        "backticks",
        "escape",
        "link",
        "html_inline",
        "newline",
        "entity",
    ]
)
_BLANK = re.compile(r"\[fill in|^\[[^\]]+\]$|^$", re.I)
_BOX = re.compile(r"\[([ xX])\]\s+")


@dataclass(frozen=True)
class Entry:
    """What was written, and in which line of the file."""

    text: str
    line: int

    @property
    def blank(self) -> bool:
        """Whether it is still to be filled in."""
        return _BLANK.search(self.text) is not None


@dataclass(frozen=True)
class Item(Entry):
    """An item of a list; `checked` is None where it has no box, `label` empty where it names nothing."""

    checked: bool | None = None
    label: str = ""


@dataclass(frozen=True)
class Problem:
    """Something that cannot be read as it stands; `advice` is what to do about it."""

    line: int
    found: str
    expected: str
    advice: str

    def __str__(self) -> str:
        return f"line {self.line}: found {self.found}, expected {self.expected}; {self.advice}"


@dataclass(frozen=True)
class Row:
    """A row of a table, by the columns' names as they are written."""

    line: int
    cells: dict[str, Entry]


@dataclass
class Block:
    """A label and what stands after it, down to the next label."""

    label: str
    line: int
    texts: list[Entry] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def value(self) -> Entry:
        """All its text, from the line in which it begins."""
        told = [entry for entry in self.texts if entry.text]
        return Entry("\n".join(entry.text for entry in told), told[0].line if told else self.line)


@dataclass
class Section:
    """A section; its first block has no label, and holds what comes before any."""

    title: str
    line: int
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Document:
    """The whole file: `head` is what comes before the first section, `end` the number of its last line."""

    title: Entry
    head: list[Entry]
    sections: list[Section]
    end: int
    problems: list[Problem]


def key(name: str) -> str:
    """Return a heading or label as it is compared: without number, remarks in brackets, case and punctuation."""
    bare = re.sub(r"\([^)]*\)|^\s*\d+(\.\d+)*\.?\s", " ", name)
    return " ".join(re.findall(r"[\w/&+]+", bare.casefold()))


def text_of(path: Path) -> str:
    """Return what a file says.

    Raises:
        StrategyError: there is none, or it is no text in UTF-8, or empty.
    """
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise StrategyError(f"{path}: found a folder, expected a strategy document: name the file in it") from None
    except OSError as error:
        advice = "`team strategy new` writes one to fill in"
        raise StrategyError(
            f"{path}: found nothing that can be read ({error.strerror}), expected a strategy document: {advice}"
        ) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = f"the byte 0x{content[error.start]:02x}"
        raise StrategyError(f"{path}:{line}: found {found}, expected text in UTF-8: save the file as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise StrategyError(f"{path}:{line}: found a NUL, expected text in UTF-8: save the file as UTF-8")
    if not text.strip():
        advice = "`team strategy new` writes one to fill in"
        raise StrategyError(f"{path}:1: found an empty file, expected a strategy document: {advice}")
    return text


def parse(text: str) -> Document:
    """Return the document that a text is; what is not whole in it is among its problems."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return _Parser(lines).run()


class _Parser:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.document = Document(Entry("", 1), [], [], max(len(lines) - (lines[-1] == ""), 1), [])
        self.block = Block("", 1)

    def run(self) -> Document:
        tokens = _MARKDOWN.parse("\n".join(self.lines))
        at = 0
        while at < len(tokens):
            token = tokens[at]
            closing = token.type.replace("_open", "_close")
            end = at
            if token.nesting == 1:
                end = next(
                    n for n in range(at, len(tokens)) if tokens[n].type == closing and tokens[n].level == token.level
                )
            inside = tokens[at : end + 1]
            match token.type:
                case "heading_open":
                    self._heading(token.tag, tokens[at + 1])
                case "paragraph_open":
                    self._paragraph(tokens[at + 1])
                case "bullet_list_open" | "ordered_list_open":
                    self._items(inside)
                case "table_open":
                    self._table(inside)
                case "fence":
                    self.block.texts.append(Entry(token.content.strip(), _line(token)))
                case _:
                    pass  # a rule, or a remark in HTML
            at = end + 1
        return self.document

    def _heading(self, tag: str, inline: Token) -> None:
        name, line = _plain(inline.children or []), _line(inline)
        if tag == "h1" and not self.document.title.text:
            self.document.title = Entry(name, line)
        elif tag in ("h1", "h2"):
            self.block = Block("", line)
            self.document.sections.append(Section(name, line, [self.block]))
        else:
            self._open(name, line)

    def _open(self, label: str, line: int) -> None:
        self.block = Block(label, line)
        if self.document.sections:
            self.document.sections[-1].blocks.append(self.block)

    def _paragraph(self, inline: Token) -> None:
        first = _line(inline)
        for number, tokens in enumerate(_by_line(inline.children or [])):
            line, raw = first + number, _plain(tokens).strip()
            if not self.document.sections:
                self.document.head.append(Entry(raw.removeprefix(">").strip(), line))
            elif raw.startswith("|"):
                self._problem(line, "a row of a table that has no head", "a head and a line of dashes above it, with as many columns",
                              "correct the table's first two lines")  # fmt: skip
            elif not raw.startswith(">") and not _is_emphasised(tokens):
                label, said = _labelled(tokens)
                if label:
                    self._open(label, line)
                self.block.texts.append(Entry(said, line))

    def _items(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if token.type != "inline":
                continue
            children = token.children or []
            box = _BOX.match(token.content)
            if box:
                children = _without(children, len(box.group()))
            label, said = _labelled(children)
            checked = box[1] in "xX" if box else None
            self.block.items.append(Item(" ".join(said.split()), _line(token), checked, label))

    def _table(self, tokens: Sequence[Token]) -> None:
        rows: list[list[Token]] = []
        for token in tokens:
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(token)
        columns = [_plain(cell.children or []).strip() for cell in rows[0]]
        if self.block.columns:
            self._open("", _line(rows[0][0]))
        self.block.columns = columns
        for cells in rows[1:]:
            line = _line(cells[0])
            count = _cells(self.lines[line - 1])
            if count != len(columns):
                self._problem(line, f"a row of {count} cells", f"{len(columns)}: {' | '.join(columns)}",
                              r"add or remove a `|`; one inside a cell is written `\|`")  # fmt: skip
                continue
            entries = [Entry(_plain(cell.children or []).strip(), line) for cell in cells]
            self.block.rows.append(Row(line, dict(zip(columns, entries, strict=True))))

    def _problem(self, line: int, found: str, expected: str, advice: str) -> None:
        self.document.problems.append(Problem(line, found, expected, advice))


def _line(token: Token) -> int:
    assert token.map is not None
    return token.map[0] + 1


def _cells(line: str) -> int:
    bare = re.sub(r"\\\|", "", line.strip()).removeprefix("|")
    return bare.removesuffix("|").count("|") + 1


def _plain(tokens: Sequence[Token]) -> str:
    shown = (token for token in tokens if not (token.type == "html_inline" and token.content.startswith("<!--")))
    return "".join("\n" if token.type in ("softbreak", "hardbreak") else token.content for token in shown)


def _by_line(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    line: list[Token] = []
    for token in tokens:
        if token.type in ("softbreak", "hardbreak"):
            yield line
            line = []
        else:
            line.append(token)
    yield line


def _without(tokens: Sequence[Token], characters: int) -> list[Token]:
    """Return the tokens of an item without the box that they begin with."""
    said, *rest = [token for token in tokens if token.content or token.nesting]
    bare = said.copy()
    bare.content = said.content[characters:].lstrip() if len(said.content) >= characters - 1 else ""
    return [bare, *rest]


def _labelled(tokens: Sequence[Token]) -> tuple[str, str]:
    """Return the label of `**Label** (remark): text`, empty where there is none, and the text."""
    shown = [token for token in tokens if token.content or token.nesting]
    if not shown or shown[0].type != "strong_open":
        return "", _plain(tokens).strip()
    end = next(n for n, token in enumerate(shown) if token.type == "strong_close")
    label = _plain(shown[:end]).strip()
    rest = re.match(r"\s*(?:\([^)]*\))?\s*(:?)\s*(.*)", _plain(shown[end + 1 :]), re.S)
    assert rest is not None
    if rest[2] and not rest[1] and not label.endswith(":"):
        return "", _plain(tokens).strip()
    return label.rstrip(": "), rest[2].strip()


def _is_emphasised(tokens: Sequence[Token]) -> bool:
    """Whether the whole line is in italics, as closing words are."""
    shown = [token for token in tokens if token.content.strip() or token.nesting]
    return bool(shown) and shown[0].type == "em_open" and shown[-1].type == "em_close"
