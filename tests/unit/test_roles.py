"""Roles and their prompts."""

from pathlib import Path

import pytest

from overnight.errors import Stop
from overnight.roles import Role, Roles

PROJECT = Path(__file__).parents[2]
EDITOR = Role("editor", ("claude-haiku-5-5",), max_tokens=1_500)


def written(root: Path, text: str) -> Roles:
    """Roles with one prompt, the editor's."""
    folder = root / "templates" / "roles"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "editor.md.j2").write_text(text, encoding="utf-8")
    return Roles(root, {"editor": EDITOR})


def test_a_prompt_may_use_its_role(tmp_path: Path) -> None:
    roles = written(tmp_path, "You are the {{ role.name }}: at most {{ role.max_tokens }} tokens & <no> markup.\n")
    assert roles.system("editor") == "You are the editor: at most 1500 tokens & <no> markup."


def test_an_edited_prompt_is_read_again(tmp_path: Path) -> None:
    roles = written(tmp_path, "One.")
    assert roles.system("editor") == "One."
    written(tmp_path, "Two, longer.")
    (tmp_path / "templates" / "roles" / "editor.md.j2").touch()
    assert roles.system("editor") == "Two, longer."


@pytest.mark.parametrize(
    ("text", "line"),
    [("fine\n{% if %}", 2), ("{{ role.name }}\n\n{{ nonesuch }}", 3), ("{{ role.name", 1)],
)
def test_a_broken_prompt_stops_and_names_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(Stop, match=rf"templates/roles/editor\.md\.j2:{line}: "):
        written(tmp_path, text).system("editor")


@pytest.mark.parametrize("wrong", ["role.max_tokens + role.name", "1 // 0", "role.name()"])
def test_an_expression_of_a_prompt_that_cannot_be_worked_out_is_no_bug_of_ours(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(Stop, match=r"editor\.md\.j2:2: [A-Z]\w+Error: ") as caught:
        written(tmp_path, f"Fine.\n{{{{ {wrong} }}}}").system("editor")
    assert caught.value.code == "template"


def test_a_missing_prompt_stops_and_names_the_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=r"the role 'editor' is missing: write .*editor\.md\.j2"):
        Roles(tmp_path, {"editor": EDITOR}).system("editor")


def test_a_prompt_that_is_no_text_stops(tmp_path: Path) -> None:
    roles = written(tmp_path, "")
    (tmp_path / "templates" / "roles" / "editor.md.j2").write_bytes(b"\xff\xfe")
    with pytest.raises(Stop, match="UTF-8"):
        roles.system("editor")


def test_an_unknown_role_stops_with_a_guess(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="did you mean 'editor'"):
        Roles(tmp_path, {"editor": EDITOR}).role("editer")
    with pytest.raises(Stop, match="it defines none"):
        Roles(tmp_path, {}).role("editor")


@pytest.mark.parametrize("name", ["editor", "analyst", "reviewer"])
def test_the_prompts_of_the_project_render(name: str) -> None:
    prompt = Roles(PROJECT, {name: Role(name, ("claude-haiku-5-5",))}).system(name)
    assert prompt.startswith("You are")
    assert "instructions" in prompt or "change these" in prompt
