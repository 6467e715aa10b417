"""Pages from templates. Everything that comes from a model or a data set is escaped, and what slips through anyway
finds a policy that lets only the page's own script and style run, and nothing be fetched."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from . import numbers

if TYPE_CHECKING:
    from jinja2 import Environment, Template


@cache
def environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("evalkit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("score", "interval", "count", "percent", "seconds", "size", "flops", "clock"):
        made.filters[name] = getattr(numbers, name)
    made.filters["md"] = markdown
    return made


def markdown(text: object) -> str:
    """Text that Markdown shows as it is; what means something in HTML is escaped after that, as everywhere."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", " ".join(str(text).split()))


def template(name: str) -> Template:
    return environment().get_template(name)


def page(name: str, style: tuple[str, ...], script: str, **values: object) -> str:
    """A whole HTML page with its style and script inside, and the content security policy that fits them."""
    return template(name).render({**_frame(style, script), **values})


def write_page(file: Path, name: str, style: tuple[str, ...], script: str, values: Mapping[str, object]) -> None:
    """The same into a file, piece by piece: the page is never whole in memory. A failure leaves the old file."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as out:
            out.writelines(template(name).generate({**_frame(style, script), **values}))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _frame(style: tuple[str, ...], script: str) -> dict[str, object]:
    """What every page needs beside its contents."""
    from markupsafe import Markup

    css = "".join(_source(part) for part in ("colours.css", *style))
    js = _source(script)
    return {"css": Markup(css), "js": Markup(js), "policy": policy(css, js)}


def policy(css: str, js: str) -> str:
    """No network; pictures beside the page or inside it; the one script and the one style with these hashes."""
    return (
        f"default-src 'none'; img-src 'self' file: data:; style-src {_hash(css)}; script-src {_hash(js)}; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _source(name: str) -> str:
    loader = environment().loader
    assert loader is not None
    return loader.get_source(environment(), name)[0]


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
