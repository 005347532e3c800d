from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tunesmith.methods.base import registry
from tunesmith.retention.base import registry as retentions

DOCS = Path(__file__).parents[2] / "docs"
PAGES = runpy.run_path(str(DOCS / "method_pages.py"))


@pytest.mark.parametrize("name", registry.names())
def test_a_methods_page_says_what_the_method_does(name: str) -> None:
    file = DOCS / "methods" / f"{name}.md"
    assert file.is_file(), "run: python docs/method_pages.py"
    assert file.read_text(encoding="utf-8") == PAGES["page"](name), "run: python docs/method_pages.py"


@pytest.mark.parametrize("name", registry.names())
def test_a_page_has_idea_cost_choice_and_source(name: str) -> None:
    page = registry.page(name)
    for heading in ("## Idea", "## Cost", "## When to choose it", "## Source"):
        assert heading in page
    assert "arXiv" in page
    assert registry.get(name).learning_rate > 0
    assert registry.get(name).learning_rate_source


def test_no_page_is_left_of_a_method_that_is_gone() -> None:
    assert {f.stem for f in (DOCS / "methods").glob("*.md")} == set(registry.names())


@pytest.mark.parametrize("name", retentions.names())
def test_a_retentions_page_says_what_it_does(name: str) -> None:
    file = DOCS / "retentions" / f"{name}.md"
    assert file.is_file(), "run: python docs/method_pages.py"
    assert file.read_text(encoding="utf-8") == PAGES["page"](name, "retention"), "run: python docs/method_pages.py"
    for heading in ("## Idea", "## Cost", "## When to choose it", "## Source"):
        assert heading in retentions.page(name)
    for option, field in retentions.get(name).model_json_schema().get("properties", {}).items():
        assert field.get("description"), option


@pytest.mark.parametrize("name", registry.names())
def test_every_option_has_limits_and_a_meaning(name: str) -> None:
    for option, field in registry.get(name).model_json_schema().get("properties", {}).items():
        assert field.get("description"), option
        for part in field.get("anyOf", [field]):
            if part.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & set(part), option
                assert {"maximum", "exclusiveMaximum"} & set(part), option
