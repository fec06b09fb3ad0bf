"""Secrets stay out of every text that leaves us: logs, errors, CSV cells, alerts, pages.

Three layers, the surest first: values we know (exact match, in the encodings they travel in), names of keys, and
formats that secrets are issued in. Nothing here guesses by entropy: that eats commit hashes and trace ids.
What it cannot see: a token of an unknown vendor, bare in a sentence, that was never loaded as a secret.

This module imports nothing of ours.
"""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
SHORTEST = 6  # a shorter known value would blot out ordinary words
DEEPEST = 32  # deeper values are replaced whole: a structure that contains itself never ends
KEYS_REMEMBERED = 4096

# How vendors begin their tokens. 16 characters must follow, and not all in lower case: no slug of a page looks so.
_BEGINNINGS = tuple(
    """
    sk-ant- sk-proj- sk-svcacct- sk-admin- sk-or- sk-lf- gsk_ pplx- lsv2_ pcsk_ nvapi- tvly- ghp_ gho_ ghu_ ghs_
    ghr_ github_pat_ glpat- glptt- gldt- glrt- glft- glsoat- glagent- glcbt- glimt- glffct- gloas- GR1348941 ATBB
    ATATT3 ATCTT3 ABSK AIza ya29. GOCSPX- AKCp EAAA EAAC xoxa- xoxb- xoxc- xoxd- xoxe- xoxe. xoxo- xoxp- xoxr-
    xoxs- xapp- shpat_ shpca_ shppa_ shpss_ sq0atp- sq0csp- whsec_ EZAK EZTK FLWSECK access_token$ xkeysib-
    xsmtpsib- rubygems_ dckr_pat_ dckr_oat_ CLOJARS_ dop_v1_ doo_v1_ dor_v1_ HRKU- NRAK- NRII- NRAL- NRRA- NRJS-
    sntryu_ sntrys_ glc_ glsa_ dt0c01. dt0s01. hcaik_ hvs. hvb. hvr. dp.pt. dp.st. dp.ct. dp.sa. ops_ey
    AGE-SECRET-KEY- tskey- fm1_ fm2_ fo1_ nfp_ sbp_ sb_secret_ pscale_tkn_ pscale_pw_ pscale_oauth_ ntn_ lin_api_
    lin_oauth_ figd_ PMAK- tfp_ CFPAT- sgp_ squ_ sqp_ sqa_ bkua_ CCIPAT_ CCIPRJ_ sk.ey sha256~ sm_aat_ sm_pat_
    sm_sat_ bedrock-api-key- cmVmdGtu ZXlK rdme_ pnu_ $2a$ $2b$ $2y$ $1$ $5$ $6$ $y$ LTAI AQVN
    """.split()  # noqa: SIM905  a list to add to, not one string on each line
)
_BODY = r"(?=[a-z_.:~/+$-]{0,40}+[A-Z\d])(?:[\w-]|[.~+/=:$]{1,3}(?=[\w-])){16,}+={0,2}"

# Shapes that need more than a beginning. Each pattern is linear: a fixed or bounded beginning, bounded or possessive
# repeats, and no two neighbours that match the same.
_SHAPES = (
    (("sk-",), r"(?<![A-Za-z0-9])sk-[A-Za-z0-9]{20,}+"),
    (
        ("npm_", "hf_", "_org_", "r8_", "xai-", "ico-"),
        r"(?<![A-Za-z0-9])(?:npm|hf|api_org|r8|xai|ico)[_-][A-Za-z0-9]{30,}+",
    ),
    (("pypi-Ag", "1//0", "dnkey-", "tk-us-", "fio-u-"), r"(?<![\w/-])(?:pypi-Ag|1//0|dnkey-|tk-us-|fio-u-)[\w-]{30,}+"),
    (("access-",), r"(?<![A-Za-z0-9])access-(?:production|sandbox|development)-[0-9a-f]{8}-[0-9a-f-]{27}"),
    (("AKIA", "ASIA", "ABIA", "ACCA"), r"(?<![A-Za-z0-9])A(?:KI|SI|BI|CC)A[A-Z0-9]{16}(?![A-Za-z0-9])"),
    (("_live_", "_test_", "_prod_"), r"(?<![A-Za-z0-9])(?:[sr]k|rzp|shippo|duffel)_(?:live|test|prod)_[\w-]{12,}+"),
    (("eyJ",), r"(?<![\w.-])eyJ(?:[\w-]{8,}+(?:\.[\w=-]{4,}+){1,4}+|rIjoi[\w+/=-]{16,}+)"),
    (("SG.",), r"(?<![A-Za-z0-9])SG\.[\w-]{16,}+\.[\w-]{16,}+"),
    (("SK",), r"(?<![A-Za-z0-9])SK[0-9a-fA-F]{32}(?![A-Za-z0-9])"),
    (("key-",), r"(?<![A-Za-z0-9-])key-[0-9a-f]{32}(?![0-9a-f])"),
    (("A3-",), r"(?<![A-Za-z0-9])A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}"),
    (("-us",), r"(?<![0-9a-f])[0-9a-f]{32}-us\d{1,2}(?!\w)"),
    (("oy2",), r"(?<![A-Za-z0-9])oy2[a-z0-9]{43}(?![A-Za-z0-9])"),
    (("dapi", "pul-"), r"(?<![A-Za-z0-9])(?:dapi|pul-)[0-9a-f]{32,40}"),
    (("pat-",), r"(?<![A-Za-z0-9])pat-[a-z]{2}\d-[0-9a-f]{8}-[0-9a-f-]{27}"),
    (("pat",), r"(?<![A-Za-z0-9])pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    (("v1.0-",), r"(?<![A-Za-z0-9])v1\.0-[0-9a-f]{24}-[0-9a-f]{64,}+"),
    (("sl.",), r"(?<![A-Za-z0-9])sl\.[\w-]{64,}+"),
    (("Q~",), r"(?<![\w.~-])[\w.~-]{3,4}\dQ~[\w.~-]{31,40}"),
    (("atlasv1.",), r"(?<![A-Za-z0-9])[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{40,}+"),
    ((":AA",), r"(?<!\d)\d{8,10}:AA[\w-]{30,}+"),
    (("$argon2",), r"\$argon2[\w$=,+/-]{16,}+"),
    (("LS0tLS1CRUdJTi",), r"LS0tLS1CRUdJTi(?!BDRVJU|BQVUJM)[\w+/=]{16,}+"),
    (
        ("hook",),
        r"(?<=hook)((?:s|b|s?\.[\w.-]{1,60})(?:/(?:webhookb2|services|workflows)){0,3}+/)[\w./@-]{12,}+",
    ),
    (("/api/webhooks/",), r"(?<=/api/webhooks/)\d{1,32}+/[\w-]{16,}+"),
    (("BEGIN ",), r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,8}-----(?s:.*?)(?:-----END [A-Z ]{0,48}-----|\Z)"),
    (("Private-Lines",), r"(?<=Private-Lines:)(?! ?\[)(?s:.*?)(?:Private-MAC|\Z)"),
    (('"d"',), r"""(?<="d")\s?:\s?"[\w-]{40,}+"""),
)

# Tokens without any word to look for: this is searched in every text, so it begins with rare characters.
_UNMARKED = re.compile(r":[0-9a-f]{32}(?!\w)|-[0-9a-f]{8}-[0-9a-f]{8}(?![\w-])|\.[\w-]{6}\.[\w-]{27}")
_UNMARKED_TOKEN = re.compile(
    r"(?<![\w-])(?:[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}(?![\w-])|[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,}+"
    r"|\d/\d{10,20}(?:/\d{10,20})?:[0-9a-f]{32}(?!\w))"
)

_KEY = (
    r"(?:api|app(?:lication)?|private|access|secret|signing|encryption|account|storage|licen[cs]e|admin|master|session"
    r"|auth|subscription|webhook|deploy|ssh|client|service|write|ingest|global|hmac)[ _-]?key(?:[_-]?(?:data|b64))?"
)
_NAME = (
    r"(?P<name>pass(?:w(?:or)?d|phrase)|(?<=[_-])pass|pwd|secret|token|credentials?|sess(?:ion)?[_-]?id|(?<![a-z0-9])session"
    rf"|(?<![a-z0-9])sid|(?<![a-z])auth(?=\\?[\"'=])|signature(?:-256)?|{_KEY})"
)
_QUOTED = r"""(?P<quote>\\?["'])(?P<quoted>(?:[^"'\\\r\n]|\\[^"'\r\n]){4,}+)"""
_BARE = r"""(?P<bare>(?:[^\s"',;&<>\\]|[,;&]{1,3}(?=[^\s"',;&<>\\])(?![\w.-]{1,32}[=:])|\\(?=[^"'\\nrt])){4,}+)"""
_VALUE = rf"(?:{_QUOTED}|{_BARE})"
_WEAK = frozenset({"auth", "sid", "session", "signature", "credential", "credentials"})  # also words of every day
_TOLD = frozenset(
    """
    must should may can cannot will has have had was were are not too and for only required missing invalid
    expected empty wrong incorrect expired changed unset null none true false option
    """.split()  # noqa: SIM905
)


class Format(NamedTuple):
    """A shape that secrets are issued in; the pattern is tried only on texts that hold a trigger (lower case)."""

    triggers: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str] = REDACTED


def _is_prose(value: str, longest: int) -> bool:
    return len(value) <= longest and value.replace("-", "").isalpha() and (value.islower() or value.istitle())


def _looks_issued(value: str) -> bool:
    """Whether letters and digits, or capitals and small letters, are mixed as no word and no date has them."""
    letters = [each for each in value if each.isalpha()]
    mixed = any(a.islower() and b.isupper() for a, b in pairwise(value))
    digits = any(each.isdigit() for each in value) and not re.match(r"\d{4}-\d\d", value)
    return len(value) >= 8 and (mixed or (digits and bool(letters)) or (digits and len(value) >= 24))


def _is_reference(value: str) -> bool:
    return value.startswith(("${", "$(", "{{", REDACTED)) or value.lower().rstrip(".)]}") in _TOLD


def _assignment(match: re.Match[str]) -> str:
    """Keep prose (`token: expected`) and references (`${VAR}`); hide any other value."""
    name, quote, value = match["name"].lower(), match["quote"] or "", match["quoted"] or match["bare"]
    prose = "=" not in match["sign"] and not quote and name[0] != "p" and _is_prose(value, 12)
    weak = (name in _WEAK and not _looks_issued(value)) or (name == "pwd" and value[0] == "/")
    if prose or weak or _is_reference(value):
        return match[0]
    return f"{match['before']}{match['name']}{match['sign']}{quote}{REDACTED}"


def _told(match: re.Match[str]) -> str:
    """Of a sentence, hide what is quoted behind `password` and what looks issued behind any of the names."""
    quote, value = match["quote"] or "", match["quoted"] or match["bare"]
    certain = quote and match["name"][0] in "pP" and not value.isupper()
    if _is_reference(value) or not (certain or _looks_issued(value)):
        return match[0]
    return f"{match['name']}{match['sign']}{quote}{REDACTED}"


def _scheme(match: re.Match[str]) -> str:
    value = match["value"]
    return match[0] if _is_prose(value, 24) or value.isupper() else f"{match['scheme']}{REDACTED}"


def _issued(match: re.Match[str]) -> str:
    return f"{match['scheme']}{REDACTED}" if _looks_issued(match["value"]) else match[0]


def _userinfo(match: re.Match[str]) -> str:
    return match[0] if match["value"].startswith("${") else f"{match['user']}{REDACTED}@"


_NAMED = ("passw", "passphrase", "_pass", "-pass", "pwd", "secret", "token", "key", "credential", "sess", "signature",
          "sid=", "sid:", 'sid"', "sid'", "sid ", "auth=", "auth:", 'auth"', "auth'", "auth\\")  # fmt: skip
# Who issues tokens that nothing marks: what looks issued behind such a name, and a sign, is one.
_VENDORS = tuple(
    """
    adafruit adobe airtable algolia alibaba asana beamer bitbucket bittrex meraki cloudflare codecov coinbase
    confluent contentful datadog discord droneci dropbox etsy facebook fastly finicity finnhub flickr freshbooks
    gitter gocardless heroku hubspot intercom jfrog artifactory kraken kucoin launchdarkly linkedin looker mailgun
    mailchimp mattermost messagebird netlify newrelic new_relic okta plaid postmark rapidapi rollbar sendbird snyk
    sonar squarespace sumologic telegram travisci twilio twitch twitter vercel wandb zendesk
    """.split()  # noqa: SIM905
)
_CONTEXTS = (
    (("bearer ", "basic ", "ssws ", "splunk "),
     r"(?i)(?P<scheme>\b(?:bearer|basic|ssws|splunk)\s{1,4})(?P<value>[\w.~+/-]{8,}+={0,2})(?![\w=])", _scheme),
    (("auth ", "authenticate "),
     (r"(?P<scheme>\b(?:(?i:auth(?:enticate)? (?:plain|login|xoauth2|oauthbearer|cram-md5))|AUTH(?: [\w.@-]{1,64})?) )"
     r"(?P<value>[\w+/=-]{4,}+)"), _scheme),
    (("authorization", "cookie"),
     (r"""(?i)(\b(?:authorization|(?:set-)?cookie)\\?["']?\s{0,4}[:=,]\s{0,4}\\?["']?)"""
     r"""(?:digest\b[^\r\n]{0,4096}+|[^"'\\\r\n]{4,}+)"""), r"\1[redacted]"),
    (("://",), r"""(?<=://)(?P<user>[^\s/@:?"'<>]{0,256}+:)(?P<value>[^\s/?"'<>]{1,1024})@""", _userinfo),
    (("://",), r"(?<=://)[\w-]{20,256}+@", r"[redacted]@"),
    (("?", "&"),
     (r"(?i)([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|awsaccesskeyid|auth"
     r"""|(?:[a-z]{1,16}+_)?(?:token|secret)|api_?key|password|(?:key|code)=(?=[\w%.-]{20}))=?)[^&\s"'<>#]{4,}+"""),
     r"\1[redacted]"),
    (_NAMED, rf"""(?i)(?P<before>){_NAME}(?P<sign>\\?["']?\s{{0,4}}(?:=>|:=|==?|:)\s{{0,4}})(?:sha\d+=)?{_VALUE}""",
     _assignment),
    (("--",), rf"""(?i)(?P<before>(?<![\w-])--[a-z_-]{{0,40}}?){_NAME}(?P<sign>["'],\s|\s{{1,4}}){_VALUE}""",
     _assignment),
    (_NAMED, rf"""(?i)(?P<before><[\w:-]{{0,40}}?){_NAME}(?P<sign>>){_VALUE}""", _assignment),
    (_NAMED, (rf"""(?i){_NAME}(?P<sign>\s{{1,4}}(?:(?:is|was|provided|given|used|value|of|set\sto)\b)?[:=]?\s{{0,4}})"""
     r"""(?:(?P<quote>["'‘“])(?P<quoted>[^"'’”\s]{4,}+)|(?P<bare>[^\s"'<>=:]{6,}+))(?![=:])"""), _told),
    (_VENDORS,
     (rf"""(?i)(?P<scheme>(?:{"|".join(_VENDORS)})[\w.-]{{0,24}}?[\\"'\s]{{0,3}}(?:=>|:=|==?|:|\|\||>|,)[\\"'`\s]{{0,4}})"""
     r"(?P<value>[\w=-]{16,}+)(?![./])"), _issued),
    (("identified by",), r"(?i)(\bidentified by )'[^'\r\n]{1,}+'", r"\1'[redacted]'"),
    (("mysql", "mariadb", "sshpass", "docker login", "redis-cli"),
     r"(\b(?:mysql\w{0,8}|mariadb|sshpass|docker login|redis-cli)\b[^\n|;]{0,120}?\s-[pa] ?)(?![ -])[^\s'\"]{4,}+",
     r"\1[redacted]"),
    (("curl",), r"""(\bcurl\b[^\n]{0,200}?\s(?:-u|-U|--user|--proxy-user)[ =]?["']?[^\s:"']{0,64}:)[^\s"']{1,}+""",
     r"\1[redacted]"),
    (("pass ",), r"""(?m)((?:^|[>:'"])\s?PASS )[^\s'"]{4,}+(?=['"]?$)""", r"\1[redacted]"),
    (("login ",), r"""(\bLOGIN "?[^\s"]{1,254}"? ")[^"\r\n]{1,}+""", r"\1[redacted]"),
)  # fmt: skip
_FORMATS = tuple(Format(triggers, re.compile(pattern), replacement) for triggers, pattern, replacement in _CONTEXTS)
_SHAPED = tuple((triggers, re.compile(pattern)) for triggers, pattern in _SHAPES)
_MARKS = tuple(dict.fromkeys([*_BEGINNINGS, *(mark for marks, _ in _SHAPES for mark in marks)]))
_TRIGGERS = tuple(dict.fromkeys(trigger for format_ in _FORMATS for trigger in format_.triggers))


@cache
def _beginning(mark: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(mark)}{_BODY}")


def _without_tokens(text: str) -> str:
    for mark in _BEGINNINGS:
        if mark in text:
            text = _beginning(mark).sub(REDACTED, text)
    for marks, pattern in _SHAPED:
        if any(mark in text for mark in marks):
            text = pattern.sub(_kept_group, text)
    return _UNMARKED_TOKEN.sub(REDACTED, text) if _UNMARKED.search(text) else text


def _kept_group(match: re.Match[str]) -> str:
    return f"{match[1] if match.re.groups else ''}{REDACTED}"


_SENSITIVE_KEY = re.compile(
    r"(?:^|_)(?:passw(?:or)?ds?|pass|pwd|passphrase|secrets?|token|authorization|auth|cookies?|credentials?|jwt|bearer"
    rf"|{_KEY}|session(?:_?id)?|sid|dsn|(?:passw(?:or)?d|secret|token)_(?:hash|value|b64))$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@lru_cache(maxsize=KEYS_REMEMBERED)
def is_sensitive(key: str) -> bool:
    """Whether the value under this key is a secret: `smtp_password`, `apiKey`, but not `input_tokens` or `task_id`."""
    return bool(_SENSITIVE_KEY.search(_CAMEL.sub("_", key).lower().replace("-", "_")))


class Redactor:
    """Replaces secrets by `[redacted]`; known values are matched plain, base64, URL-, HTML- and JSON-encoded."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        self._clean_keys: set[str] = set()
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Know these values from now on; those under 6 characters are ignored."""
        forms = {form for secret in secrets for form in _forms_of(secret.strip())}
        self._forms = tuple(sorted(forms.union(self._forms), key=len, reverse=True))
        self._clean_keys = set()

    def text(self, text: str) -> str:
        """Return the text without its secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        text = _without_tokens(text)
        lower = text.lower()
        for triggers, pattern, replacement in _FORMATS:
            if any(trigger in lower for trigger in triggers):
                text = pattern.sub(replacement, text)
        return text

    def value(self, value: Any) -> Any:
        """Return the same structure (dict, list, tuple, str, bytes) without its secrets; other types pass unchanged.

        A value without a secret is returned as it is, not copied.
        """
        texts: list[str] = []
        if not self._gather(value, texts, 0) and not self._suspects("\0".join(texts)):
            return value
        return self._walk(value, 0)

    def _suspects(self, text: str) -> bool:
        """Cheap and never wrong in the safe direction: substring searches only."""
        for form in self._forms:
            if form in text:
                return True
        for mark in _MARKS:
            if mark in text:
                return True
        if _UNMARKED.search(text):
            return True
        lower = text.lower()
        for trigger in _TRIGGERS:  # noqa: SIM110  a generator costs twice as much, and this runs for every log line
            if trigger in lower:
                return True
        return False

    def _gather(self, value: Any, texts: list[str], depth: int) -> bool:
        """Collect the strings to look at; true when a key or the shape already asks for the full walk."""
        if isinstance(value, str):
            texts.append(value)
            return False
        if isinstance(value, Mapping):
            return (
                depth > DEEPEST
                or not all(self._is_clean(key) for key in value)
                or any(self._gather(each, texts, depth + 1) for each in value.values())
            )
        if isinstance(value, (list, tuple)):
            return depth > DEEPEST or _is_header(value) or any(self._gather(each, texts, depth + 1) for each in value)
        return isinstance(value, (bytes, bytearray))

    def _is_clean(self, key: Any) -> bool:
        if key in self._clean_keys or not isinstance(key, str):
            return True
        if is_sensitive(key) or self.text(key) != key:
            return False
        if len(self._clean_keys) < KEYS_REMEMBERED:
            self._clean_keys.add(key)
        return True

    def _walk(self, value: Any, depth: int) -> Any:
        if depth > DEEPEST:
            return REDACTED
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (bytes, bytearray)):
            return self._bytes(bytes(value))
        if isinstance(value, Mapping):
            return {self._key(key): self._under(key, each, depth) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return self._sequence(value, depth)
        return value

    def _key(self, key: Any) -> Any:
        return self.text(key) if isinstance(key, str) else key

    def _under(self, key: Any, value: Any, depth: int) -> Any:
        if isinstance(key, str) and is_sensitive(key) and value is not None and not isinstance(value, bool):
            return REDACTED
        return self._walk(value, depth + 1)

    def _sequence(self, value: list[Any] | tuple[Any, ...], depth: int) -> Any:
        if _is_header(value):
            return type(value)((value[0], REDACTED))
        items = [self._walk(each, depth + 1) for each in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)

    def _bytes(self, value: bytes) -> bytes | str:
        """Bytes that hold a secret come back as text: nobody parses them any more."""
        text = value.decode("utf-8", "backslashreplace")
        clean = self.text(text)
        return value if clean == text else clean


def _is_header(pair: list[Any] | tuple[Any, ...]) -> bool:
    """Recognise `("Authorization", "…")`: headers are often pairs, not mappings."""
    return (
        len(pair) == 2
        and not hasattr(pair, "_fields")
        and isinstance(pair[0], str)
        and isinstance(pair[1], (str, bytes))
        and is_sensitive(pair[0])
    )


def _forms_of(secret: str) -> Iterator[str]:
    """Yield the forms a value travels in; of a value of several lines (a key file) each long line as well."""
    if len(secret) < SHORTEST:
        return
    raw = secret.encode("utf-8", "surrogatepass")
    spellings = {
        secret,
        quote(raw, safe=""),
        quote(raw),
        quote_plus(raw),
        html.escape(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        *(line.strip() for line in secret.splitlines() if len(line.strip()) >= 16),
        *_base64_forms(raw),
    }
    yield from (form for form in spellings if len(form) >= SHORTEST and form not in REDACTED)


def _base64_forms(raw: bytes) -> Iterator[str]:
    """Base64 of the value inside longer data, at each of its three alignments, without the characters it shares.

    `AUTH PLAIN` and `Authorization: Basic` encode user and password together, so the plain encoding never occurs.
    """
    for encode in (b64encode, urlsafe_b64encode):
        for before, shared in ((0, 0), (1, 2), (2, 3)):
            padded = b"\0" * before + raw
            text = encode(padded).decode().rstrip("=")
            yield text[shared:] if len(padded) % 3 == 0 else text[shared:-1]
