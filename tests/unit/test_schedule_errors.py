"""Every mistake in schedule.yaml is named at its place, all of them at once, and no secret is printed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overnight.errors import ConfigError
from overnight.schedule import ScheduleErrors, load, loads
from overnight.schedule.environment import environment
from overnight.schedule.watch import in_force, keep

HEAD = "version: 1\njobs:\n"  # two lines, so that a job stands in line 3
GOOD = HEAD + '  good: { cron: "0 7 * * *" }\n'  # three lines, so that more stands from line 4


def problems(text: str, **environ: str) -> list[str]:
    """Return the first line of each problem."""
    with pytest.raises(ScheduleErrors) as refusal:
        loads(text, environ)
    return [str(problem).partition("\n")[0] for problem in refusal.value.errors]


BAD = {
    "unknown key": (
        HEAD + "  good:\n    every: 1h\n    concurency: 20\n",
        "5:5: error: jobs.good.concurency: unknown key 'concurency'; did you mean 'concurrency'?",
    ),
    "unknown top-level key": (
        GOOD + "chanels: {}\n",
        "4:1: error: chanels: unknown key 'chanels'; did you mean 'channels'?",
    ),
    "an alert that is over before it begins": (
        GOOD + "alerts:\n  success_rate: { below: 95%, recover: 90% }\n",
        "5:40: error: alerts.success_rate.recover: it ends at 90.0%, below the 95.0% where it begins",
    ),
    "an alert that begins above where it is over by default": (
        GOOD + "alerts:\n  success_rate: { below: 99.5% }\n",
        "5:26: error: alerts.success_rate.below: it ends at 97.0%, below the 99.5% where it begins",
    ),
    "unknown nested key": (
        GOOD + "alerts:\n  success_rate: { bellow: 95% }\n",
        "5:19: error: alerts.success_rate.bellow: unknown key 'bellow'; did you mean 'below'?",
    ),
    "unknown key of an optional block": (
        HEAD + "  good: { every: 1h, retry: { atempts: 3 } }\n",
        "3:31: error: jobs.good.retry.atempts: unknown key 'atempts'; did you mean 'attempts'?",
    ),
    "a name of the code is no key": (GOOD + "mail: { sender: a@b.example }\n", "4:9: error: mail.sender: unknown key"),
    "unknown aliased key": (
        GOOD + "mail: { form: x }\n",
        "4:9: error: mail.form: unknown key 'form'; did you mean 'from'?",
    ),
    "wrong type": (
        HEAD + "  good: { every: 1h, concurrency: many }\n",
        "3:35: error: jobs.good.concurrency: 'many' is not a whole number",
    ),
    "a truth value is no number": (
        HEAD + "  good: { every: 1h, concurrency: true }\n",
        "3:35: error: jobs.good.concurrency: true is not a whole number",
    ),
    "an answer too long for one piece": (
        HEAD + "  good: { every: 1h }\nroles: { poet: { model: claude-haiku-5-5, max_tokens: 21334 } }\n",
        "4:55: error: roles.poet.max_tokens: an answer comes in one piece, of at most 21333 tokens",
    ),
    "an unknown tool": (
        GOOD + "roles:\n  a: { model: m, tools: { file.read: { root: x } } }\n",
        "5:27: error: roles.a.tools.file.read: unknown key 'file.read'; did you mean 'files.read'?",
    ),
    "an unknown limit of a tool": (
        GOOD + "roles:\n  a: { model: m, tools: { files.read: { root: x, max_cals: 3 } } }\n",
        "5:50: error: roles.a.tools.files.read.max_cals: unknown key 'max_cals'; did you mean 'max_calls'?",
    ),
    "a tool without the limit it needs": (
        GOOD + "roles:\n  a: { model: m, tools: { files.read: } }\n",
        "5:27: error: roles.a.tools.files.read.root: the key 'root' is missing",
    ),
    "a limit of the wrong form": (
        GOOD + "roles:\n  a: { model: m, tools: { github.issue: { repo: acme } }, secrets: GITHUB_TOKEN }\n",
        "5:49: error: roles.a.tools.github.issue.repo: 'acme' is no repository",
    ),
    "a tool without its secret": (
        GOOD + "roles:\n  a: { model: m, allow_mixed: true, tools: { github.issue: { repo: acme/site } } }\n",
        "5:46: error: roles.a.tools.github.issue: needs the secret GITHUB_TOKEN; add secrets: [GITHUB_TOKEN]",
    ),
    "untrusted text and a way outside": (
        GOOD + "roles:\n  a: { model: m, tools: { http.get: { hosts: [example.org] } } }\n",
        "5:3: error: roles.a: reads what others have written and reaches outside by http.get: an injected text could",
    ),
    "untrusted text and a secret": (
        GOOD + "roles:\n  a: { model: m, secrets: [DEPLOY_KEY] }\n",
        "5:3: error: roles.a: reads what others have written and may use DEPLOY_KEY: an injected text could use both",
    ),
    "tasks for a role that is not there": (
        GOOD + "roles:\n  a: { model: m, tools: { tasks.create: { roles: [b] } } }\n",
        "5:50: error: roles.a.tools.tasks.create: there is no role 'b'",
    ),
    "a role that could write its own tasks": (
        HEAD
        + "  good: { every: 1h, params: { tasks: ./a/tasks.jsonl } }\n"
        + "roles:\n  a: { model: m, tools: { files.write: { root: a } } }\n",
        "5:48: error: roles.a.tools.files.write.root: a/tasks.jsonl lies in it, from which good takes tasks",
    ),
    "a tool of one's own without a place": (
        GOOD + "roles:\n  a: { model: m, own_tools: { weather: {} } }\n",
        "5:40: error: roles.a.own_tools.weather.[key]: 'weather' is no tool of yours",
    ),
    "too small": (
        HEAD + "  good: { every: 1h, concurrency: 0 }\n",
        "3:35: error: jobs.good.concurrency: must be at least 1, not 0",
    ),
    "a retention that ends before the day does": (
        HEAD + "  good: { every: 1h, retention: 6h }\n",
        "3:33: error: jobs.good.retention: must be 2d at least: a day that has lost items has no new reports",
    ),
    "list instead of a mapping": (HEAD + "  good: [1]\n", "3:9: error: jobs.good: must be a mapping, not a list"),
    "text instead of a list": (
        GOOD + "alerts: { to: { ops: 1 } }\n",
        "4:15: error: alerts.to: must be a list, not a mapping",
    ),
    "no jobs": ("version: 1\n", "1:1: error: jobs: the key 'jobs' is missing"),
    "empty jobs": ("version: 1\njobs:\n", "2:1: error: jobs: must be a mapping, not nothing"),
    "other version": (GOOD.replace("1", "2", 1), "1:10: error: version: must be 1, not 2"),
    "unknown zone": (
        HEAD + "  good:\n    every: 1h\n    timezone: Europe/Pariss\n",
        "5:15: error: jobs.good.timezone: unknown time zone 'Europe/Pariss'; did you mean 'Europe/Paris'?",
    ),
    "zone outside the database": (
        GOOD + "timezone: ../../etc/passwd\n",
        "4:11: error: timezone: unknown time zone '../../etc/passwd'",
    ),
    "impossible cron": (
        HEAD + '  good: { cron: "0 0 31 2 *" }\n',
        "3:17: error: jobs.good.cron: cron '0 0 31 2 *' never fires: no month has such a day",
    ),
    "cron out of range": (
        HEAD + '  good: { cron: "61 * * * *" }\n',
        "3:17: error: jobs.good.cron: cron '61 * * * *' never fires: '61' is no minute 0-59",
    ),
    "bad time of day": (
        HEAD + '  good: { at: "25:00" }\n',
        "3:15: error: jobs.good.at: '25:00' is not a time of day; write HH:MM from 00:00 to 23:59, in quotes",
    ),
    "two of cron, every, at": (
        HEAD + '  good: { cron: "0 7 * * *", every: 1h }\n',
        "3:30: error: jobs.good.every: only one of cron, every or at, and 'cron' is already there",
    ),
    "none of cron, every, at": (
        HEAD + "  good: { timeout: 1h }\n",
        '3:3: error: jobs.good: needs one of cron, every or at; as in cron: "0 7 * * *"',
    ),
    "cron without a value": (
        HEAD + "  good:\n    cron:\n",
        '3:3: error: jobs.good: needs one of cron, every or at; as in cron: "0 7 * * *"',
    ),
    "duplicate key": (GOOD + "version: 1\n", "4:1: error: version: duplicate key 'version', first on line 1"),
    "duplicate job": (GOOD + "  good: { every: 1h }\n", "4:3: error: jobs.good: duplicate key 'good', first on line 3"),
    "tab": ("version: 1\njobs:\n\tgood: 1\n", "3:1: error: a tab cannot indent YAML; use spaces"),
    "quote never closed": (
        HEAD + '  good: { cron: "0 7 * * * }\n',
        "3:17: error: this quote is never closed",
    ),
    "two colons": ("version: 1\njobs: a: b\n", "2:8: error: a second `: ` in one line"),
    "wrong indentation": (GOOD + "drain: 1s\n  timezone: UTC\n", "5:11: error: a second `: ` in one line"),
    "wrong indentation below a block": (
        GOOD + "mail:\n    from: a@b.example\n  transport: x\n",
        "6:3: error: this does not fit the indentation of the lines above",
    ),
    "bracket never closed": (
        GOOD + "x-a: [1, 2\ndrain: 1s\n",
        "4:6: error: this bracket is never closed, or a comma is missing in it",
    ),
    "zone of another kind": (GOOD + "timezone: 5\n", "4:11: error: timezone: 5 is not a time zone; write one such as"),
    "two documents": (GOOD + "---\na: 1\n", "4:1: error: a second document begins here"),
    "a tag": (GOOD + "drain: !!python/name:os.system x\n", "4:8: error: drain: tags such as"),
    "undefined alias": (GOOD + "drain: *later\n", "4:8: error: this is not YAML: found undefined alias"),
    "a character beyond all that there are": (
        'version: 1\ndrain: "\\UFFFFFFFF"\n',
        "1:1: error: this is not YAML: Python int too large to convert to C int",
    ),
    "NUL": ("version: 1\ndr\x00ain: 1\n", "2:3: error: control character U+0000; remove it"),
    "missing variable": (
        GOOD + 'public_url: "https://${HOST}"\n',
        "4:22: error: public_url: the variable HOST is not set; set it in the environment or in .env",
    ),
    "variable with a message": (
        GOOD + "public_url: ${HOST:?say where the readers come from}\n",
        "4:13: error: public_url: HOST: say where the readers come from",
    ),
    "broken variable": (GOOD + "public_url: ${HO ST}\n", "4:13: error: public_url: this is no variable; write ${NAME}"),
    "negative money": (
        GOOD + "budget: { per_day: -$5 }\n",
        "4:20: error: budget.per_day: '-$5': an amount cannot be negative",
    ),
    "negative money, other order": (
        GOOD + "budget: { per_day: $-5 }\n",
        "4:20: error: budget.per_day: '$-5': an amount cannot be negative",
    ),
    "another currency": (
        GOOD + "budget: { per_day: 5 USD }\n",
        "4:20: error: budget.per_day: '5 USD' is not an amount in dollars; write $10 or $0.50",
    ),
    "money as a number": (
        GOOD + "budget: { per_day: 5.5 }\n",
        "4:20: error: budget.per_day: 5.5 is not an amount in dollars",
    ),
    "money that is no number": (
        GOOD + "budget: { per_day: .nan }\n",
        "4:20: error: budget.per_day: '.nan' is not an amount",
    ),
    "bad rate": (
        GOOD + "limits: { smtp: { messages: 20 per second } }\n",
        "4:29: error: limits.smtp.messages: '20 per second' is not a rate; write 50/min",
    ),
    "rate of nothing": (
        GOOD + "limits: { smtp: { messages: 0/s } }\n",
        "4:29: error: limits.smtp.messages: '0/s' is not a whole number above zero per s",
    ),
    "bad percent": (
        GOOD + "budget: { warn_at: 0.8 }\n",
        "4:20: error: budget.warn_at: 0.8 is not a percentage; write 80% or 99.5%",
    ),
    "percent above 100": (
        GOOD + "budget: { warn_at: 180% }\n",
        "4:20: error: budget.warn_at: '180%' is more than 100%",
    ),
    "bad duration": (GOOD + "drain: 30 seconds\n", "4:8: error: drain: '30 seconds' is not a duration; write 90s"),
    "duration without unit": (GOOD + "drain: 30\n", "4:8: error: drain: 30 is not a duration; write 90s"),
    "no time at all": (
        HEAD + "  good: { every: 0s }\n",
        "3:18: error: jobs.good.every: the duration must be longer than zero",
    ),
    "endless": (GOOD + "drain: 9999d\n", "4:8: error: drain: '9999d' is longer than ten years"),
    "wrong choice": (
        HEAD + "  good: { every: 1h, overlap: skp }\n",
        "3:31: error: jobs.good.overlap: must be skip, queue or replace, not 'skp'; did you mean 'skip'?",
    ),
    "unknown after": (
        GOOD + "  next: { every: 1h, after: goood }\n",
        "4:29: error: jobs.next.after: there is no job 'goood'; did you mean 'good'?",
    ),
    "an hourly job after a daily one": (
        GOOD + "  next: { every: 1h, after: good }\n",
        "4:29: error: jobs.next.after: waits for a job's run of the same day, and 'next' has several a day",
    ),
    "a daily job after one of every ten minutes": (
        HEAD + '  often: { cron: "*/10 * * * *" }\n  next: { at: "08:00", after: often }\n',
        "4:31: error: jobs.next.after: waits for a job's run of the same day, and 'often' has several a day",
    ),
    "a job after itself": (
        HEAD + "  good: { every: 1d, after: good }\n",
        "3:29: error: jobs.good.after: jobs wait for each other: good -> good",
    ),
    "a ring of jobs": (
        HEAD + "  a: { every: 1d, after: c }\n  b: { every: 1d, after: a }\n  c: { every: 1d, after: b }\n",
        "3:26: error: jobs.a.after: jobs wait for each other: a -> c -> b -> a",
    ),
    "unknown channel": (
        GOOD + "channels: { ops: { email: [a@b.example] } }\nalerts: { to: [opps] }\n",
        "5:16: error: alerts.to.0: there is no channel 'opps'; did you mean 'ops'?",
    ),
    "an empty channel": (GOOD + "channels: { ops: {} }\n", "4:13: error: channels.ops: needs `email` or `webhook`"),
    "no address": (
        GOOD + "channels: { ops: { email: [operations] } }\n",
        "4:28: error: channels.ops.email.0: 'operations' is not an e-mail address",
    ),
    "a job name with a dash": (
        HEAD + "  daily-email: { every: 1h }\n",
        "3:3: error: jobs.daily-email: 'daily-email' is no job name; use letters, digits and _",
    ),
    "a job named like a word of Python": (
        HEAD + "  class: { every: 1h }\n",
        "3:3: error: jobs.class: 'class' is no job name",
    ),
    "no function": (
        HEAD + "  good: { every: 1h, run: jobs/digest.py }\n",
        "3:27: error: jobs.good.run: must be module:function, as in jobs.digest:digest, not 'jobs/digest.py'",
    ),
    "unknown transport": (
        GOOD + "mail: { transport: smpt://relay }\n",
        "4:20: error: mail.transport: must begin with outbox:, smtp:, smtp+starttls: or smtps:, as in outbox:var",
    ),
    "a sender whom few servers know": (
        GOOD + 'mail: { from: "Die Mühle <mühle@müller.example>" }\n',
        "4:15: error: mail.from: 'Die Mühle <mühle@müller.example>' has letters before the @ that most mail servers do",
    ),
    "bounces that could not come back": (
        GOOD + "mail: { bounces_to: jörg@b.example }\n",
        "4:21: error: mail.bounces_to: 'jörg@b.example' has letters before the @ that most mail servers do not know",
    ),
    "smtp without host": (GOOD + "mail: { transport: 'smtp://' }\n", "4:20: error: mail.transport: names no host"),
    "unknown ledger": (GOOD + "ledger: mysql://h/db\n", "4:9: error: ledger: must begin with sqlite:, postgresql:"),
    "reports elsewhere": (GOOD + "reports: { to: gs://bucket }\n", "4:16: error: reports.to: must begin with s3:"),
    "spool elsewhere": (GOOD + "reports: { spool: s3://x }\n", "4:19: error: reports.spool: must be a local folder"),
    "no web address": (GOOD + "public_url: example.org\n", "4:13: error: public_url: is not a web address"),
    "a role without a model": (
        GOOD + "roles: { a: { model: [] } }\n",
        "4:22: error: roles.a.model: must name at least one",
    ),
    "an anchor in itself": (GOOD + "x-a: &a [*a]\n", "4:6: error: x-a.0: this anchor contains itself"),
    "a merge of itself": (GOOD + "x-a: &a { <<: *a }\n", "4:6: error: x-a: this anchor contains itself"),
    "a merge of a list": (GOOD + "x-a: { <<: [1] }\n", "4:13: error: x-a: `<<:` takes a mapping, as in `<<: *name`"),
    "a list as a key": (GOOD + "x-a: { [a]: 1 }\n", "4:8: error: x-a: a key must be a word"),
    "empty file": ("", "1:1: error: the file is empty"),
    "comments only": ("# nothing\n", "1:1: error: the file is empty"),
    "a list": ("- version: 1\n", "1:1: error: the file must be a mapping of `key: value` lines"),
    "a word": ("schedule\n", "1:1: error: the file must be a mapping of `key: value` lines"),
    "brackets without end": ("[" * 5000, "1:1: error: the file is nested too deeply"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_named_at_its_place(text: str, said: str) -> None:
    [first] = problems(text)
    assert first.startswith(f"schedule.yaml:{said}")


@pytest.mark.parametrize(
    "shape", ["[*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0}]", "{{<<: [*{0},*{0},*{0},*{0},*{0}]}}"]
)
def test_an_alias_bomb_is_bounded(shape: str) -> None:
    lines = ["x-0: &a0 {q: 1}"] + [f"x-{n}: &a{n} " + shape.format(f"a{n - 1}") for n in range(1, 12)]
    [first] = problems(GOOD + "\n".join(lines) + "\n")
    assert "more than 100,000 values once the aliases are expanded" in first


def test_the_printed_form_points_at_the_token() -> None:
    with pytest.raises(ConfigError) as refusal:
        loads(
            HEAD
            + "  daily_email:\n    every: 1h\n    x: 1\n    timezone: Europe/Pariss\n".replace(
                "    x: 1\n", "    concurrency: 4\n"
            ),
            {},
        )
    assert str(refusal.value) == (
        "schedule.yaml:6:15: error: jobs.daily_email.timezone: unknown time zone 'Europe/Pariss'; "
        "did you mean 'Europe/Paris'?\n"
        "  6 |     timezone: Europe/Pariss\n"
        "    |               ^^^^^^^^^^^^^"
    )


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = "version: 1\ntimezone: Pariss\njobs:\n  good: { every: 1x, after: goood, concurency: 1 }\n  two: {}\n"
    places = [one.split(" error: ")[1].split(":")[0] for one in problems(text)]
    assert places == ["timezone", "jobs.good.every", "jobs.good.after", "jobs.good.concurency", "jobs.two"]


def test_a_merged_value_is_reported_where_it_stands() -> None:
    text = "version: 1\nx-a: &a { timeout: soon }\njobs:\n  good: { <<: *a, every: 1h }\n"
    assert problems(text)[0].startswith("schedule.yaml:2:20: error: jobs.good.timeout: 'soon' is not a duration")


def test_a_missing_variable_is_the_only_thing_said_about_its_value() -> None:
    assert len(problems(HEAD + '  good: { every: "${PERIOD}", after: "${OTHER}" }\n')) == 2


def test_a_misspelt_variable_is_recognised() -> None:
    assert problems(GOOD + "public_url: ${PUBLIC_ULR}\n", PUBLIC_URL="https://x.example")[0].endswith(
        "did you mean 'PUBLIC_URL'?"
    )


SECRETS = {
    "Anthropic key": ("x-a: sk-ant-api03-abcdefgh\n", "sk-ant-api03-abcdefgh"),
    "GitHub token": ("x-a: ghp_abcdefghijklmnop\n", "ghp_abcdefghijklmnop"),
    "AWS key": ("x-a: AKIAIOSFODNN7EXAMPLE\n", "AKIAIOSFODNN7EXAMPLE"),
    "password in a URL": ("mail: { transport: 'smtp://me:hunter22@relay' }\n", "hunter22"),
    "password after a variable": ("mail: { transport: 'smtp://${ME:-me}:hunter22@relay' }\n", "hunter22"),
    "password in a default": ("mail: { transport: '${MAIL:-smtp://me:hunter22@relay}' }\n", "hunter22"),
    "password in a comment": ("drain: 1s # smtp://me:hunter22@relay\n", "hunter22"),
    "Slack webhook": ("x-a: https://hooks.slack.com/services/T000/B000/abcdefgh\n", "T000/B000/abcdefgh"),
    "by the name password": ("x-a: { smtp_password: hunter22 }\n", "hunter22"),
    "by the name api_key": ("x-a: { api_key: hunter 22 }\n", "hunter 22"),
    "a number by the name password": ("x-a: { password: 0123456 }\n", "0123456"),
    "by the name token in a list": ("x-a: { token: [hunter22] }\n", "hunter22"),
}


@pytest.mark.parametrize(("line", "secret"), SECRETS.values(), ids=SECRETS.keys())
def test_a_literal_secret_is_refused_and_not_printed(line: str, secret: str) -> None:
    with pytest.raises(ScheduleErrors) as refusal:
        loads(GOOD + line, {})
    column = line.index(secret) + 1
    printed = str(refusal.value)
    assert printed.startswith(f"schedule.yaml:4:{column}: error:")
    assert "must not stand in this file; write ${NAME} here" in printed
    assert secret not in printed + repr(refusal.value.errors)
    assert "***" in printed


def test_variables_are_no_literal_secrets() -> None:
    loads(
        GOOD + "x-a: { api_key: '${KEY}', url: 'smtp://me:${PW}@relay', max_tokens: 5, password: '' }\n",
        {"KEY": "k", "PW": "p"},
    )


def test_the_caret_stands_right_behind_a_hidden_secret() -> None:
    with pytest.raises(ScheduleErrors) as refusal:
        loads(GOOD + "mail: { transport: 'smtp://me:hunter22@relay', frm: x }\n", {})
    head, source, caret = str(refusal.value.errors[-1]).splitlines()
    assert head.startswith("schedule.yaml:4:48: error: mail.frm")
    assert source[caret.index("^") :].startswith("frm")


def test_the_value_of_a_secret_variable_is_not_printed() -> None:
    with pytest.raises(ScheduleErrors) as refusal:
        loads(GOOD + "timezone: ${API_TOKEN}\n", {"API_TOKEN": "tok-1234567"})
    assert "tok-1234567" not in str(refusal.value)
    assert "unknown time zone '***'" in str(refusal.value)


def made(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def enormous(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(50_000_000)
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: path, ": error: file not found; run `overnight init`"),
    "directory": (lambda path: path.parent, ": error: this is a directory"),
    "pipe": (pipe, ": error: this is not a regular file"),
    "50 MB": (enormous, ": error: the file has 50,000,000 bytes, more than the 1,000,000 a schedule may have"),
    "UTF-16": (
        lambda path: made(path, GOOD.encode("utf-16")),
        ": error: the file is UTF-16 or UTF-32; save it as UTF-8",
    ),
    "Latin-1": (
        lambda path: made(path, b"a: 1\nb: \xe9t\xe9\n"),
        ":2:4: error: byte 0xe9 is not UTF-8; save the file as UTF-8",
    ),
}


@pytest.mark.parametrize(("make", "said"), FILES.values(), ids=FILES.keys())
def test_a_file_that_is_no_schedule_is_refused_with_a_reason(
    make: Callable[[Path], Path], said: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "schedule.yaml")
    with pytest.raises(ScheduleErrors) as refusal:
        load(path, {})
    assert str(refusal.value).startswith(f"{path}{said}")


def test_a_dotenv_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = made(tmp_path / "schedule.yaml", GOOD.encode())
    made(tmp_path / ".env", b"A=\xff\xfe")
    with pytest.raises(ScheduleErrors, match=r"\.env: error: cannot be read as UTF-8 text"):
        load(path, {})


@contextmanager
def forbidden(path: Path) -> Iterator[int]:
    """A file that we may not read; gives the id that we have meanwhile. Root is refused nothing, so nobody looks."""
    before, nobody = os.geteuid(), os.geteuid() or 65534
    path.chmod(0)
    os.seteuid(nobody)
    try:
        yield nobody
    finally:
        os.seteuid(before)


def test_a_dotenv_that_may_not_be_read_says_who_must_be_able_to(tmp_path: Path) -> None:
    made(tmp_path / ".env", b"A=b\n")
    assert environment(tmp_path, {}) == {"A": "b"}
    with forbidden(tmp_path / ".env") as me, pytest.raises(ScheduleErrors) as refusal:
        environment(tmp_path, {})
    assert str(refusal.value) == (
        f"{tmp_path / '.env'}: error: cannot be read: Permission denied; "
        f"who runs overnight must be able to read it, here the user with the id {me}"
    )


def test_the_file_is_named_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "schedule.yaml", b"- 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScheduleErrors) as refusal:
        load(path, {})
    assert str(refusal.value).startswith("schedule.yaml:1:1: error:")


AMOUNTS = {  # what is no amount of money, and what is said of it
    "-$5": "'-$5': an amount cannot be negative",
    "$-5": "'$-5': an amount cannot be negative",
    "-5": "-5 is not an amount in dollars",
    "5": "5 is not an amount in dollars",
    "5 USD": "'5 USD' is not an amount in dollars; write $10 or $0.50",
    "$5 USD": "'$5 USD' is not an amount in dollars",
    '"$1,000"': "'$1,000' is not an amount in dollars",
    "$1e999": "'$1e999' is not an amount in dollars",
    "1e999": "is not an amount in dollars",
    "$99999999": "'$99999999' is not an amount in dollars",
    "$0.1234567891": "'$0.1234567891' is not an amount in dollars",
    "$٣": "'$٣' is not an amount in dollars",
    ".nan": "'.nan' is not an amount in dollars",
    "$NaN": "'$NaN' is not an amount in dollars",
    ".inf": "'.inf' is not an amount in dollars",
    "$inf": "'$inf' is not an amount in dollars",
    "true": "true is not an amount in dollars",
    '""': "'' is not an amount in dollars",
    "": "nothing is not an amount in dollars",
    "[$5]": "a list is not an amount in dollars",
}
PLACES = {  # where an amount stands: the text before it, with what must follow, and its path
    "budget.per_day": ("budget: { per_day: ", " }\n"),
    "defaults.budget.per_run": ("defaults: { budget: { per_run: ", " } }\n"),
    "defaults.budget.per_day": ("defaults: { budget: { per_day: ", " } }\n"),
    "roles.r.budget.per_task": ("roles: { r: { model: m, budget: { per_task: ", " } } }\n"),
    "roles.r.budget.per_day": ("roles: { r: { model: m, budget: { per_day: ", " } } }\n"),
    "prices.m.input": ("prices: { m: { output: $1, cache_write: $1, cache_read: $1, input: ", " } }\n"),
    "prices.m.cache_write_1h": (
        "prices: { m: { input: $1, output: $1, cache_write: $1, cache_read: $1, cache_write_1h: ",
        " } }\n",
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("amount", AMOUNTS)
def test_what_is_no_amount_of_money_is_named_at_its_place(place: str, amount: str) -> None:
    before, after = PLACES[place]
    [found] = problems(GOOD + before + amount + after)
    column = f"{len(before) + 1}: " if amount else ""
    assert found.startswith(f"schedule.yaml:4:{column}")
    assert f" error: {place}: " in found
    assert AMOUNTS[amount] in found


COMPLETE = "input: $1, output: $5, cache_write: $1, cache_read: $1"


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ("{ input: $1, output: $5, cache_write: $1 }", "4:11: error: prices.m.cache_read: the key 'cache_read' is"),
        ("{ inptu: $1, output: $5, cache_write: $1, cache_read: $1, input: $1 }", "did you mean 'input'?"),
        (f"{{ {COMPLETE}, from: soon }}", "'soon' is not a date"),
        (f"{{ {COMPLETE}, from: 2026-02-30 }}", "'2026-02-30' is no day of the calendar"),
        (f"{{ {COMPLETE}, from: }}", "nothing is not a date; write 2026-12-01"),
        ("$5", "prices.m: must be a mapping, not '$5'"),
    ],
)
def test_a_price_that_is_not_whole_is_named(price: str, said: str) -> None:
    [found] = problems(GOOD + f"prices: {{ m: {price} }}\n")
    assert said in found


@pytest.mark.parametrize(
    ("root", "tasks"),
    [
        ("content", "{here}/content/tasks.jsonl"),
        ("{here}/content", "content/tasks.jsonl"),
        ("content", "../{name}/content/tasks.jsonl"),
        ("content/", "link/tasks.jsonl"),
        ("link", "content/a/tasks.jsonl"),
    ],
)
def test_no_role_may_write_a_file_of_tasks_by_whatever_name_it_goes(tmp_path: Path, root: str, tasks: str) -> None:
    (tmp_path / "content").mkdir()
    (tmp_path / "link").symlink_to("content")
    root, tasks = (each.format(here=tmp_path, name=tmp_path.name) for each in (root, tasks))
    file = tmp_path / "schedule.yaml"
    text = f"{HEAD}  good: {{ every: 1h, params: {{ tasks: {tasks} }} }}\nroles:\n"
    file.write_text(f"{text}  a: {{ model: m, tools: {{ files.write: {{ root: {root} }} }} }}\n")
    with pytest.raises(ScheduleErrors, match="lies in it, from which good takes tasks"):
        load(file, {})
    keep(file, file.read_text())
    file.unlink()
    with pytest.raises(ScheduleErrors, match="lies in it, from which good takes tasks"):
        in_force(file)


@pytest.mark.parametrize("tasks", ["{here}/content/tasks.jsonl", '"content/a/\\0"', "loop/tasks.jsonl"])
def test_a_role_may_write_where_no_tasks_are_taken_from(tmp_path: Path, tasks: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    file = tmp_path / "schedule.yaml"
    text = f"{HEAD}  good: {{ every: 1h, params: {{ tasks: {tasks.format(here=tmp_path)} }} }}\nroles:\n"
    file.write_text(f"{text}  a: {{ model: m, tools: {{ files.write: {{ root: content/a }} }} }}\n")
    assert list(load(file, {}).roles) == ["a"]
