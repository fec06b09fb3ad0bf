"""The project's own code: just `jobs` and `reports`, of this project and no other."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from overnight import __version__, project
from overnight.errors import ConfigError

JOB = "from overnight import Run, job\n@job\nasync def {name}(slot: str, run: Run) -> str:\n    return {text!r}\n"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """What these tests import does not stay."""
    finders, path = list(sys.meta_path), list(sys.path)
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in project.PACKAGES}
    yield
    sys.meta_path[:], sys.path[:] = finders, path
    for name in [name for name in sys.modules if name.partition(".")[0] in project.PACKAGES]:
        del sys.modules[name]
    sys.modules.update(modules)


def made(root: Path, **jobs: str) -> Path:
    """A project with these jobs: their texts, or their whole source."""
    (root / "jobs").mkdir(parents=True)
    (root / "schedule.yaml").write_text("version: 1\njobs: {}\n")
    for name, text in jobs.items():
        source = text if "\n" in text else JOB.format(name=name, text=text)
        (root / "jobs" / f"{name}.py").write_text(source)
    return root


async def said_by(job: str) -> str:
    found = project.load_job(job, f"jobs.{job}:{job}")
    said: str = await found("2026-11-22", None)  # type: ignore[arg-type]
    return said


def test_the_nearest_schedule_upwards_is_the_project(tmp_path: Path) -> None:
    outer = made(tmp_path / "outer")
    inner = made(outer / "sub" / "inner")
    deep = inner / "content" / "2026"
    deep.mkdir(parents=True)
    assert project.find(deep) == inner / "schedule.yaml"
    assert project.find(outer / "sub") == outer / "schedule.yaml"


def test_outside_of_a_project_the_way_in_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="or make one: overnight init DIR"):
        project.find(tmp_path)


async def test_nothing_but_jobs_and_reports_is_importable_from_a_project(tmp_path: Path) -> None:
    root = made(tmp_path, hello="hi")
    for name in ("email", "templates_of_mine", "json"):
        (root / f"{name}.py").write_text("raise RuntimeError('this must not be imported')\n")
    (root / "jobs" / "email.py").write_text(JOB.format(name="email", text="a job, no standard library"))
    project.attach(root)
    assert await said_by("hello") == "hi"
    assert await said_by("email") == "a job, no standard library"
    del sys.modules["email"]
    import email

    assert str(root) not in str(email.__file__)
    assert str(root) not in sys.path
    with pytest.raises(ModuleNotFoundError):
        __import__("templates_of_mine")


async def test_a_jobs_package_elsewhere_does_not_win(tmp_path: Path) -> None:
    elsewhere = made(tmp_path / "elsewhere", hello="wrong")
    (elsewhere / "jobs" / "__init__.py").touch()
    sys.path.insert(0, str(elsewhere))
    project.attach(made(tmp_path / "mine", hello="right"))
    assert await said_by("hello") == "right"


async def test_a_jobs_package_that_was_imported_before_does_not_stay(tmp_path: Path) -> None:
    project.attach(made(tmp_path / "first", hello="first"))
    assert await said_by("hello") == "first"
    project.attach(made(tmp_path / "second", hello="second"))
    assert await said_by("hello") == "second"


def test_attaching_twice_keeps_one_identity_of_every_class(tmp_path: Path) -> None:
    root = made(tmp_path, hello="hi")
    project.attach(root)
    first = project.load_job("hello", "jobs.hello:hello")
    project.attach(root)
    assert project.load_job("hello", "jobs.hello:hello") is first


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import a_module_nobody_has\n\n", "jobs.ill needs the module 'a_module_nobody_has', which is not installed"),
        ("def ill(:\n    pass\n", "jobs/ill.py:1:9: error: job ill: invalid syntax"),
        ("x = 1\ny = x / 0\n", "importing jobs.ill failed: ZeroDivisionError: division by zero"),
        ("\n\n", "ill in jobs.ill is not there; it must be a function decorated with @job"),
        ("\nasync def ill(slot, run): ...\n", "ill in jobs.ill is a function; it must be a function decorated with"),
    ],
    ids=["missing library", "syntax", "broken", "empty", "not decorated"],
)
def test_a_broken_job_is_named_with_its_cause(tmp_path: Path, source: str, said: str) -> None:
    project.attach(made(tmp_path, ill=source))
    with pytest.raises(ConfigError, match="ill") as error:
        project.load_job("ill", "jobs.ill:ill")
    assert said in str(error.value)


INVOICES = """from dataclasses import dataclass
from overnight import Run, job

@dataclass
class Invoice:
    id: str

@job(items=lambda run: [Invoice("a")], key=lambda invoice: invoice.id)
async def invoices(inv{type}, run):
    return inv.id
"""


def test_a_job_whose_items_have_no_type_is_refused_with_what_to_write(tmp_path: Path) -> None:
    project.attach(made(tmp_path, invoices=INVOICES.format(type="")))
    found = project.load_job("invoices", "jobs.invoices:invoices")
    with pytest.raises(ConfigError) as raised:
        found.codec()
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'jobs' / 'invoices.py'}:8: error: job invoices: inv has no type")
    assert said.endswith("async def invoices(inv: TYPE, run: Run)")


@pytest.mark.parametrize("type_", [": Invoice", ": object", ": 'Invoice'"])
def test_a_job_whose_items_have_any_type_is_taken(tmp_path: Path, type_: str) -> None:
    project.attach(made(tmp_path, invoices=INVOICES.format(type=type_)))
    project.load_job("invoices", "jobs.invoices:invoices").codec()


def test_the_line_that_fails_is_named(tmp_path: Path) -> None:
    project.attach(made(tmp_path, ill="x = 1\ny = x / 0\n"))
    with pytest.raises(ConfigError, match=r"jobs/ill\.py:2\)$"):
        project.load_job("ill", "jobs.ill:ill")


def test_a_job_without_a_file_is_named_with_the_file_to_write(tmp_path: Path) -> None:
    project.attach(made(tmp_path))
    with pytest.raises(ConfigError, match=r"job hello: there is no jobs/hello\.py in the project"):
        project.load_job("hello", "jobs.hello:hello")


def test_every_file_that_prompts_and_mails_are_made_from_is_in_the_version(tmp_path: Path) -> None:
    job = made(tmp_path, one="one") / "jobs" / "one.py"
    versions = [project.code_version(tmp_path, job)]
    for name in ("one.txt.j2", "roles/editor.md.j2", "roles/other.md.j2"):
        (tmp_path / "templates" / name).parent.mkdir(parents=True, exist_ok=True)
        for text in ("first", "second"):
            (tmp_path / "templates" / name).write_text(text)
            versions.append(project.code_version(tmp_path, job))
    (tmp_path / "templates/one.txt.j2").rename(tmp_path / "templates/two.txt.j2")
    versions.append(project.code_version(tmp_path, job))
    job.write_text(job.read_text() + "# edited\n")
    versions.append(project.code_version(tmp_path, job))
    assert len(set(versions)) == len(versions)
    assert {version.partition("+")[0] for version in versions} == {__version__}
    (tmp_path / "templates/.two.txt.j2.swp").write_text("what an editor leaves")
    assert project.code_version(tmp_path, job) == versions[-1]


def test_a_project_without_reports_has_none(tmp_path: Path) -> None:
    project.attach(made(tmp_path))
    assert project.load_reports() == ([], {})


def test_a_broken_report_is_named_and_stops_no_other(tmp_path: Path) -> None:
    root = made(tmp_path)
    (root / "reports").mkdir()
    (root / "reports" / "cost.py").write_text("1 / 0\n")
    (root / "reports" / "runs.py").write_text("from overnight.report import Report\nruns = Report('runs', None, {})\n")
    project.attach(root)
    found, broken = project.load_reports()
    assert [each.name for each in found] == ["runs"]
    assert "report cost: importing reports.cost failed: ZeroDivisionError" in str(broken["cost"])
