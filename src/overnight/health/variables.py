"""What the variables of a project lack."""

from collections.abc import Mapping

from overnight.schedule import Schedule
from overnight.tools import github_api, github_app

TOKEN = "OVERNIGHT_TOKEN"  # noqa: S105  the name of the variable, not its value
SECRET = "OVERNIGHT_SECRET"  # noqa: S105  the same
SHORTEST = 16  # characters of either: what is shorter is guessed
NO_KEY = "ANTHROPIC_API_KEY is not set: questions to a model go to their fallback, or fail"


def has_key(plan: Schedule) -> bool:
    """Whether a model can be asked at all."""
    return bool(plan.environ.get("ANTHROPIC_API_KEY"))


def missing_variables(plan: Schedule) -> list[str]:
    """Names of variables that the settings need beside those they mention, which have to be there to be loaded."""
    pair = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")  # neither: the machine has a role of its own
    wanted = list(pair) if plan.reports.to.startswith("s3://") and any(plan.environ.get(name) for name in pair) else []
    wanted += sorted({name for role in plan.roles.values() for name in role.secrets})
    missing = [name for name in wanted if not plan.environ.get(name, "").strip()]
    if all(
        plan.environ.get(name, "").strip() for name in (github_app.ID, github_app.KEY)
    ):  # it stands in for the token
        return [name for name in missing if name != github_api.TOKEN]
    return missing


def weak_token(environ: Mapping[str, str]) -> str:
    """What is wrong with the token of the page, and what to do; empty when it is long enough, or there is none."""
    token = environ.get(TOKEN, "")
    if not token or len(token) >= SHORTEST:
        return ""
    return f"{TOKEN} has {len(token)} of at least {SHORTEST} characters and opens nothing: openssl rand -hex 24"


def weak_secret(environ: Mapping[str, str]) -> str:
    """What is wrong with the secret that signs links, and what to do; empty when it is long enough, or a file's."""
    secret = environ.get(SECRET, "")
    if not secret or len(secret) >= SHORTEST:
        return ""
    why = "whoever has a link of ours can guess it, and forge others"
    price = "a new one ends the links of all mails that are out, and is never set in the middle of a slot"
    return f"{SECRET} has {len(secret)} of at least {SHORTEST} characters: {why}: openssl rand -hex 24; {price}"
