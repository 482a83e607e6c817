"""The API's description as one page of HTML: no scripts, nothing loaded from anywhere."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, Final

from app.api.problems import PROBLEM_MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1e21; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-bottom: 1px solid #ccd0d5; margin-top: 3rem; }
h3 { margin: 2rem 0 .25rem; font: 600 1rem ui-monospace, monospace; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
pre { background: #f4f5f6; padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border: 1px solid #ccd0d5; padding: .25rem .5rem; text-align: left; vertical-align: top; }
th { background: #f4f5f6; font-weight: 600; }
.method { display: inline-block; min-width: 4.5rem; color: #0b57a4; }
@media (prefers-color-scheme: dark) {
  body { color: #e4e6eb; background: #18191a; }
  pre, th { background: #242526; }
  th, td, h2 { border-color: #3e4042; }
  .method { color: #7db7f0; }
}
"""

_INTRODUCTION: Final = (
    "<p>The same for programs: <code>/openapi.json</code>. Requests say whom they act for with the header "
    "<code>Authorization: Bearer …</code>; <code>lm token new</code> makes the token.</p>"
)


def reference_page(description: Mapping[str, Any]) -> str:
    """Return an OpenAPI description as a page of HTML."""
    title = f"{description['info']['title']} {description['info']['version']}"
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}: API</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}: API</h1>",
            _INTRODUCTION,
            *_operations(description),
            "<h2>Problems</h2><p>Every route may answer with a problem instead.</p>",
            *_problems(description),
            "<h2>Schemas</h2>",
            *_schemas(description),
            "</body></html>",
        ]
    )


def _operations(description: Mapping[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation.get("tags", ["other"])[0], []).append((method.upper(), path, operation))
    for tag, operations in sorted(by_tag.items()):
        yield f"<h2>{escape(tag)}</h2>"
        for method, path, operation in operations:
            yield f'<h3><span class="method">{escape(method)}</span> {escape(path)}</h3>'
            yield f"<p>{_text(operation.get('description', ''))}</p>"
            yield from _parameters(operation.get("parameters", []))
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"<p>Body, <code>{escape(media_type)}</code>: {_type(content.get('schema', {}))}</p>"
            for status, answer in operation["responses"].items():
                for media_type, content in answer.get("content", {}).items():
                    if media_type != PROBLEM_MEDIA_TYPE:
                        shape = _type(content.get("schema", {}))
                        yield f"<p>{escape(status)}, <code>{escape(media_type)}</code>: {shape}</p>"
                if "content" not in answer:
                    yield f"<p>{escape(status)}, without a body</p>"


def _parameters(parameters: list[Mapping[str, Any]]) -> Iterator[str]:
    if not parameters:
        return
    yield "<table><tr><th>parameter</th><th>in</th><th>type</th><th>meaning</th></tr>"
    for parameter in parameters:
        name = escape(parameter["name"]) + ("" if parameter.get("required") else " (optional)")
        yield (
            f"<tr><td><code>{name}</code></td><td>{escape(parameter['in'])}</td>"
            f"<td>{_type(parameter.get('schema', {}))}</td><td>{_text(parameter.get('description', ''))}</td></tr>"
        )
    yield "</table>"


def _problems(description: Mapping[str, Any]) -> Iterator[str]:
    meanings: dict[str, str] = {}
    for methods in description["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if PROBLEM_MEDIA_TYPE in answer.get("content", {}):
                    meanings[status] = answer["description"]
    yield "<table><tr><th>status</th><th>meaning</th></tr>"
    for status, meaning in sorted(meanings.items()):
        yield f"<tr><td>{escape(status)}</td><td>{_text(meaning)}</td></tr>"
    yield "</table>"


def _schemas(description: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in sorted(description.get("components", {}).get("schemas", {}).items()):
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
        yield f"<p>{_text(schema.get('description', ''))}</p>"
        if properties := schema.get("properties"):
            yield "<table><tr><th>field</th><th>type</th><th>meaning</th></tr>"
            required = schema.get("required", [])
            for field, each in properties.items():
                shown = escape(field) + ("" if field in required else " (optional)")
                yield (
                    f"<tr><td><code>{shown}</code></td><td>{_type(each)}</td>"
                    f"<td>{_text(each.get('description', ''))}</td></tr>"
                )
            yield "</table>"
        for example in schema.get("examples", []):
            yield f"<pre>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"


def _type(schema: Mapping[str, Any]) -> str:
    """Return a schema's type as HTML: a link to a named one, the choices of an enumeration, or a word."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(_type(each) for each in schema[several])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(each))}</code>" for each in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(f"{kind} ({schema['format']})" if "format" in schema else str(kind))


def _text(markdown: str) -> str:
    return escape(" ".join(markdown.split()))
