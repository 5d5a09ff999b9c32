"""A new strategy from the template: package, registration, configuration, page, tests and names of its variables.

Every file is prepared in a folder beside the tree, the tree is then changed by renames alone, and each step knows how
to undo itself. An error or an interrupt on the way therefore leaves the tree as it was. The registration comes last:
until then nothing refers to the new files.
"""

from __future__ import annotations

import keyword
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from slipstream.errors import SlipstreamError, UsageError

TEMPLATE = "template"
STRATEGIES = Path("src/slipstream/strategies")
REGISTRY = STRATEGIES / "__init__.py"
EXAMPLE_ENVIRONMENT = Path(".env.example")
MARK = '            # "slipstream new-strategy" registers above this line\n'
MAX_SLUG = 20
MAX_TITLE = 32
MAX_DESCRIPTION = 90
LINE_LENGTH = 120
TEMPLATE_ONLY = re.compile(r"<!-- template only -->\n.*?<!-- end -->\n+", re.DOTALL)
NAMES = re.compile(
    r"(?P<package>(?<=slipstream[./]strategies[./])template\b|(?<=test_)template\b)"
    r"|(?P<class>\bTemplateConfig\b)|(?P<title>\bTemplate\b)|(?P<slug>\btemplate\b)"
)
"""What the template calls itself: as a module, as a class, for people, and in commands and paths."""
TAKEN_STEMS = ("global", "federation")
"""Names of configuration files that are not a strategy's."""


class ScaffoldError(UsageError):
    """A strategy that cannot be created; the message says why and what to do."""


@dataclass(frozen=True)
class NewStrategy:
    """How the new strategy is called.

    Attributes:
        slug: lower-case words joined by hyphens, such as ``cross-momentum``.
        title: a short name for people.
        description: one sentence, shown in lists.
    """

    slug: str
    title: str
    description: str

    @classmethod
    def named(cls, slug: str, title: str | None = None, description: str | None = None) -> NewStrategy:
        """A checked name; the title defaults to the slug's words.

        Raises:
            ScaffoldError: the slug, title or description cannot be used.
        """
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", slug) or len(slug) > MAX_SLUG:
            raise ScaffoldError(
                f"slug {slug!r}: use lower-case letters, digits and single hyphens, at most {MAX_SLUG}, such as my-idea"
            )
        if keyword.iskeyword(slug) or slug in TAKEN_STEMS:
            raise ScaffoldError(f"slug {slug!r} means something else here; choose another")
        given = title if title is not None else slug.replace("-", " ").capitalize()
        sentence = description if description is not None else "A copy of the template: say here what it harvests."
        for name, text, most in (("title", given, MAX_TITLE), ("description", sentence, MAX_DESCRIPTION)):
            if not 0 < len(text.strip()) <= most or re.search(r'["\\\n\r{}|`<>]', text):
                raise ScaffoldError(
                    f"{name} {text!r}: write 1 to {most} characters in one line, without quotes, braces or backslashes"
                )
        return cls(slug, given.strip(), sentence.strip())

    @property
    def package(self) -> str:
        return self.slug.replace("-", "_")

    @property
    def class_stem(self) -> str:
        return "".join(word.capitalize() for word in self.slug.split("-"))

    def renamed(self, text: str) -> str:
        """A text of the template, speaking of this strategy; what is true of the template alone is left out."""
        words = {
            "package": self.package,
            "class": f"{self.class_stem}Config",
            "title": self.title,
            "slug": self.slug,
        }
        return NAMES.sub(lambda match: words[str(match.lastgroup)], TEMPLATE_ONLY.sub("", text))

    def registration(self) -> str:
        """The line, or lines, of the registry's table, in the formatter's layout."""
        words = [f'"{self.slug}"', f'"{self.title}"', f'"{self.description}"']
        line = f"            _bar_strategy({', '.join(words)}),\n"
        if len(line) <= LINE_LENGTH + 1:
            return line
        inner = "".join(f"                {word},\n" for word in words)
        return f"            _bar_strategy(\n{inner}            ),\n"


def create_strategy(root: Path, new: NewStrategy) -> tuple[Path, ...]:
    """Create a strategy in a checkout: all of it or nothing.

    Args:
        root: the checkout.
        new: what it is called.

    Returns:
        The paths that were created or changed, relative to ``root``.

    Raises:
        ScaffoldError: ``root`` is no checkout, or something of that name exists.
        SlipstreamError: the tree cannot be written; it is as it was.
    """
    _require_checkout(root)
    _refuse_existing(root, new)
    try:
        with tempfile.TemporaryDirectory(prefix=".new-strategy-", dir=root) as folder:
            draft = Path(folder)
            created = _draft_new_files(root, draft, new)
            changed = _draft_changed_files(root, draft, new)
            _commit(root, draft, created, changed)
    except OSError as problem:
        raise SlipstreamError(f"{root}: the strategy cannot be written ({problem}); nothing was changed") from problem
    return (*created, *changed)


def _pages(package: str, slug: str) -> tuple[Path, ...]:
    """The files and folders a strategy consists of, its package first."""
    return (
        STRATEGIES / package,
        Path("config") / f"{slug}.yml",
        Path("docs/strategies") / slug,
        Path("tests/strategies") / f"test_{package}.py",
    )


def _require_checkout(root: Path) -> None:
    needed = (*_pages(TEMPLATE, TEMPLATE), REGISTRY, EXAMPLE_ENVIRONMENT)
    missing = [path for path in needed if not (root / path).exists()]
    if missing:
        raise ScaffoldError(f"{root}: no Slipstream checkout, {missing[0]} is missing; run it there or give --root")
    if (root / REGISTRY).read_text(encoding="utf-8").count(MARK) != 1:
        raise ScaffoldError(f"{root / REGISTRY}: the line {MARK.strip()!r} must stand there once; put it back")


def _refuse_existing(root: Path, new: NewStrategy) -> None:
    """Also what differs only in case or spelling: one package, one configuration file and one test module per name."""
    taken = [path for path in _pages(new.package, new.slug) if (root / path).exists()]
    taken += [path for path in (STRATEGIES / f"{new.package}.py",) if (root / path).exists()]
    taken += [path.relative_to(root) for path in (root / "tests").rglob(f"test_{new.package}.py")]
    if f'"{new.slug}"' in (root / REGISTRY).read_text(encoding="utf-8"):
        taken.append(REGISTRY)
    if taken:
        raise ScaffoldError(f"strategy {new.slug!r}: {taken[0]} has it already; choose another slug")


def _draft_new_files(root: Path, draft: Path, new: NewStrategy) -> tuple[Path, ...]:
    created = _pages(new.package, new.slug)
    for source, target in zip(_pages(TEMPLATE, TEMPLATE), created, strict=True):
        files = [source] if (root / source).is_file() else _text_files(root, source)
        for file in files:
            place = draft / (target if file == source else target / file.relative_to(source))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(new.renamed((root / file).read_text(encoding="utf-8")), encoding="utf-8")
    return created


def _text_files(root: Path, folder: Path) -> list[Path]:
    return [
        path.relative_to(root)
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def _draft_changed_files(root: Path, draft: Path, new: NewStrategy) -> tuple[Path, ...]:
    registry = (root / REGISTRY).read_text(encoding="utf-8").replace(MARK, new.registration() + MARK)
    prefix = f"SLIPSTREAM_{new.package.upper()}_"
    example = (root / EXAMPLE_ENVIRONMENT).read_text(encoding="utf-8").rstrip("\n") + (
        f"\n\n# {new.title}: no secrets. A variable {prefix}<NAME> sets the key <name> of config/{new.slug}.yml:\n"
        f"# {prefix}TOP_N=3\n"
    )
    for path, text in ((EXAMPLE_ENVIRONMENT, example), (REGISTRY, registry)):
        place = draft / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        shutil.copymode(root / path, place)
    return EXAMPLE_ENVIRONMENT, REGISTRY


def _commit(root: Path, draft: Path, created: tuple[Path, ...], changed: tuple[Path, ...]) -> None:
    """Rename the drafts into place; if anything stops it, undo what was done, newest first."""
    with ExitStack() as undo:
        for path in created:
            if (root / path).exists():
                raise ScaffoldError(f"{path} has come to be meanwhile; look at it, then choose another slug")
            _make_parents(root, (root / path).parent, undo.callback)
            # Registered first: an interrupt between the rename and its registration must not leave the file behind.
            undo.callback(_remove, root / path)
            (draft / path).rename(root / path)
        for path in changed:
            before = draft / f"{path.name}.before"
            shutil.copy2(root / path, before)
            undo.callback(before.replace, root / path)
            (draft / path).replace(root / path)
        undo.pop_all()


def _make_parents(root: Path, folder: Path, on_failure: Callable[..., object]) -> None:
    for place in [*reversed(folder.relative_to(root).parents), folder.relative_to(root)]:
        if not (root / place).is_dir():
            on_failure(_remove, root / place)
            (root / place).mkdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
