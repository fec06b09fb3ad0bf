"""The project's own code: finds the root and makes just `jobs` and `reports` importable from there.

Not the root itself goes on `sys.path` (a project's `email.py` must not shadow the standard library), and nothing is
loaded by path: a class has one identity.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from overnight import __version__
from overnight.errors import ConfigError

if TYPE_CHECKING:
    from overnight.jobs import Job

FILE = "schedule.yaml"
PACKAGES = ("jobs", "reports")


def find(start: Path) -> Path:
    """The schedule.yaml of the nearest folder upwards. Raises ConfigError."""
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise ConfigError(
        f"no {FILE} in {start} or above it; go to your project, name one with --config, or make one: overnight init DIR"
    )


def code_version(root: Path, source: Path) -> str:
    """What a run is made from, `0.1.0+5d0c8f1a.93b1e07c`: our version, then hashes of the job's file and of templates/.

    With the hash of the schedule it tells two runs apart of which somebody has edited code, a prompt or a mail between.
    """
    folder, templates = root / "templates", hashlib.sha256()
    for path in sorted(folder.rglob("[!.]*")):
        if path.is_file():
            templates.update(f"{path.relative_to(folder)}\0{_hash(path)}\n".encode())
    return f"{__version__}+{_hash(source)[:8]}.{templates.hexdigest()[:8]}"


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Finder:
    """Finds the packages of one project and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in PACKAGES or path is not None:
            return None
        spec = PathFinder.find_spec(name, [str(self.root)], target)
        if spec is None:  # who goes on looking finds somebody else's package of that name
            raise ModuleNotFoundError(f"there is no {name}/ in {self.root}", name=name)
        return spec


def attach(root: Path) -> None:
    """Make `jobs` and `reports` of this project importable, in front of any other package of that name."""
    for finder in [f for f in sys.meta_path if isinstance(f, _Finder)]:
        if finder.root == root:
            return
        sys.meta_path.remove(finder)
    for name in [m for m in sys.modules if m.partition(".")[0] in PACKAGES]:
        if not _below(sys.modules[name], root):
            del sys.modules[name]
    sys.meta_path.insert(0, _Finder(root))


def load_job(name: str, target: str) -> "Job[Any, Any]":
    """Import `module:function` of the attached project. Raises ConfigError naming the file and the cause."""
    from overnight.jobs import Job  # noqa: PLC0415  the database library is behind it

    module, _, attribute = target.partition(":")
    found = getattr(_import(module, f"job {name}"), attribute or name, None)
    if not isinstance(found, Job):
        kind = "is not there" if found is None else f"is a {type(found).__name__}"
        raise ConfigError(
            f"job {name}: {attribute or name} in {module} {kind}; it must be a function decorated with @job"
        )
    return found


def load_tool(target: str) -> Any:
    """Import `module:function` of the attached project, whatever it is. Raises ConfigError when it is not there."""
    module, _, attribute = target.partition(":")
    found = getattr(_import(module, f"tool {target}"), attribute, None)
    if found is None:
        raise ConfigError(f"own_tools: {attribute} in {module} is not there")
    return found


def load_reports() -> tuple[list[Any], dict[str, ConfigError]]:
    """All reports of the project's `reports` package, and why which file cannot be loaded. Raises ConfigError.

    As they are now: a scheduler lives for weeks, and whoever has mended a report does not think of restarting it.
    """
    try:
        importlib.util.find_spec("reports")
    except ModuleNotFoundError:
        return [], {}
    from overnight.report import Report  # noqa: PLC0415  pandas is behind it

    package = _import("reports", "reports")
    folders = [Path(p) for p in package.__path__]
    names = sorted(f.stem for folder in folders for f in folder.glob("*.py") if f.stem != "__init__")
    found: list[Any] = []
    broken: dict[str, ConfigError] = {}
    importlib.invalidate_caches()
    for name in names:
        sys.modules.pop(f"reports.{name}", None)
        try:
            module = _import(f"reports.{name}", f"report {name}")
        except ConfigError as error:
            broken[name] = error
        else:
            found += [value for value in vars(module).values() if isinstance(value, Report)]
    return found, broken


def _import(module: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(f"{missing}."):
            path = module.replace(".", "/")
            raise ConfigError(f"{what}: there is no {path}.py in the project; write it, or fix `run:`") from error
        raise ConfigError(f"{what}: {module} needs the module {missing!r}, which is not installed") from error
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}:{error.offset}"
        raise ConfigError(f"{place}: error: {what}: {error.msg}") from error
    except Exception as error:
        raise ConfigError(
            f"{what}: importing {module} failed: {type(error).__name__}: {error}{_where(error)}"
        ) from error


def _where(error: BaseException) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "importlib" not in code.co_filename and not code.co_filename.startswith(str(Path(__file__).parent)):
            place = f" ({code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _below(module: ModuleType, root: Path) -> bool:
    folders = [Path(p) for p in getattr(module, "__path__", [])] or [Path(getattr(module, "__file__", None) or "/")]
    return any(folder.is_relative_to(root) for folder in folders)
