"""Roles: what an agent may be, which models play it, and its prompt in `templates/roles/<role>.md.j2`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from overnight.errors import Stop


@dataclass(frozen=True, slots=True)
class Role:
    """An agent's part.

    `models` are asked in this order, the next when one fails; `max_tokens` bounds an answer, `max_turns` a talk with
    tools. `tools` are those it may use, by name, each with its limits.
    """

    name: str
    models: tuple[str, ...]
    max_tokens: int = 1_000
    max_turns: int = 8
    tools: Mapping[str, Any] = field(default_factory=dict)


class Roles:
    """The roles of schedule.yaml, with their prompts below `root`."""

    def __init__(self, root: Path, roles: Mapping[str, Role]) -> None:
        self._folder = root / "templates" / "roles"
        self._roles = roles
        self._environment: Any = None

    def role(self, name: str) -> Role:
        """Return the role called `name`. Raises Stop when schedule.yaml does not define it."""
        if name in self._roles:
            return self._roles[name]
        close = get_close_matches(name, self._roles, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        known = ", ".join(self._roles) or "none"
        raise Stop(f"schedule.yaml defines no role {name!r}: {hint}it defines {known}", code="unknown_role")

    def system(self, name: str) -> str:
        """Return the system prompt of a role: its template, which may use `role` and nothing else.

        It is read again when the file has changed. Raises Stop, naming file and line, when it is missing or broken.
        """
        import jinja2  # noqa: PLC0415  late: most commands render nothing

        role = self.role(name)
        path = self._folder / f"{name}.md.j2"
        try:
            text: str = self._templates().get_template(path.name).render(role=role)
        except jinja2.TemplateNotFound as error:
            raise Stop(f"the prompt of the role {name!r} is missing: write {path}", code="template") from error
        except jinja2.TemplateSyntaxError as error:
            raise Stop(f"{path}:{error.lineno}: {error.message}", code="template") from error
        except jinja2.TemplateError as error:
            raise Stop(f"{path}:{_line(error, path)}: {error.message}", code="template") from error
        except (OSError, UnicodeDecodeError) as error:
            raise Stop(f"{path} cannot be read as UTF-8 text: {error}", code="template") from error
        except Exception as error:  # what the author's expressions raise
            raise Stop(f"{path}:{_line(error, path)}: {type(error).__name__}: {error}", code="template") from error
        return text.strip()

    def _templates(self) -> Any:
        import jinja2  # noqa: PLC0415  late

        if self._environment is None:
            self._environment = jinja2.Environment(
                loader=jinja2.FileSystemLoader(self._folder),
                undefined=jinja2.StrictUndefined,
                autoescape=False,  # noqa: S701  text for a model, not HTML
            )
        return self._environment


def _line(error: BaseException, path: Path) -> int:
    """Find the line of a template in which `error` arose; jinja2 puts template lines into the traceback."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines[-1] if lines else 0
