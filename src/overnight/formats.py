"""Formats that secrets are issued in and written in: what to look for, and what to keep of it.

A rule has triggers, fixed strings in lower case one of which must occur, so that a text without any costs a few
searches only; one with `^` must begin a word. Every pattern is linear: a fixed or bounded beginning, bounded or
possessive repeats, and no two neighbours that match the same.

This module imports nothing of ours but the names.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from overnight.names import REDACTED, hide_named, is_prose, looks_issued, looks_random


class Rule(NamedTuple):
    """What is done to a text in which one of the triggers occurs."""

    triggers: tuple[str, ...]
    clean: Callable[[str], str]


_Replacement = str | Callable[[re.Match[str]], str]
_compiled = cache(re.compile)  # on first use: a hundred patterns at import would cost every command 40 ms


def _sub(pattern: str, replacement: _Replacement = REDACTED) -> Callable[[str], str]:
    return lambda text: _compiled(pattern).sub(replacement, text)


# How vendors begin their tokens. 16 characters must follow, and not all in lower case: no slug of a page looks so.
_BODY = r"(?=[a-z_.:~/+$-]{0,40}+[A-Z\d])(?:[\w-]|[.~+/=:$]{1,3}(?=[\w-])){16,}+={0,2}"
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
    sm_sat_ bedrock-api-key- cmVmdGtu ZXlK rdme_ pnu_ pnb_ LTAI AQVN AKID
    """.split()  # noqa: SIM905  a list to add to, not one string on each line
)
_LEFT = r"(?<![A-Za-z0-9])"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def _kept(match: re.Match[str]) -> str:
    return f"{match[1] if match.re.groups else ''}{REDACTED}"


# Shapes that need more than a beginning. A group is what stays.
_SHAPES = tuple(
    Rule(tuple(triggers.lower().split()), _sub(pattern, _kept))
    for triggers, pattern in (
        ("^sk- ^csk-", rf"{_LEFT}c?sk-[A-Za-z0-9]{{20,}}+"),
        ("^npm_ ^hf_ ^api_org_ ^r8_ ^xai- ^ico-", rf"{_LEFT}(?:npm|hf|api_org|r8|xai|ico)[_-][A-Za-z0-9]{{30,}}+"),
        ("^sk_", rf"{_LEFT}sk_[0-9a-f]{{32,}}+(?!\w)"),
        ("^fw_ ^rnd_", rf"{_LEFT}(?:fw|rnd)_(?=[a-z]*+[A-Z\d])[A-Za-z0-9]{{24,}}+"),
        ("^EAA", rf"{_LEFT}EAA[A-Za-z0-9]{{60,}}+"),
        ("/with/key/", r"(/with/key/)[\w-]{16,}+"),
        ("::add-mask::", r"(::add-mask::)[^\r\n]{4,}+"),
        ("^jdbc:oracle:", r"(jdbc:oracle:[a-z]{1,8}:[^\s/@]{1,64}/)[^\s/@]{1,256}@"),
        ("^cio", rf"{_LEFT}cio[A-Za-z0-9]{{32}}(?![A-Za-z0-9])"),
        ("^pypi-Ag ^1//0 ^dnkey- ^tk-us- ^fio-u-", r"(?<![\w/-])(?:pypi-Ag|1//0|dnkey-|tk-us-|fio-u-)[\w-]{30,}+"),
        ("^access- ^sdk- ^ApiKey- ^HRKU-", rf"{_LEFT}(?:access-[a-z]{{3,12}}|sdk|ApiKey|HRKU)-{_UUID}"),
        ("^AKIA ^ASIA ^ABIA ^ACCA", rf"{_LEFT}A(?:KI|SI|BI|CC)A[A-Z0-9]{{16}}(?![A-Za-z0-9])"),
        ("_live_ _test_ _prod_", rf"{_LEFT}(?:[sr]k|rzp|shippo|duffel)_(?:live|test|prod)_[\w-]{{12,}}+"),
        ("_live_ _test_ _prod_", rf"{_LEFT}[a-z]{{2,10}}_(?:live|test|prod)_(?=[a-z]*+[A-Z\d])[A-Za-z0-9]{{20,}}+"),
        ("^eyJ", r"(?<![\w.-])eyJ(?:[\w-]{8,}+(?:\.[\w=-]{4,}+){1,4}+|rIjoi[\w+/=-]{16,}+)"),
        ("^SG.", rf"{_LEFT}SG\.[\w-]{{16,}}+\.[\w-]{{16,}}+"),
        (
            "^sk0 ^sk1 ^sk2 ^sk3 ^sk4 ^sk5 ^sk6 ^sk7 ^sk8 ^sk9 ^ska ^skb ^skc ^skd ^ske ^skf",
            rf"{_LEFT}SK[0-9a-fA-F]{{32}}(?![A-Za-z0-9])",
        ),
        (
            "^key- ^fc- ^md- ^p8e-",
            r"(?<![A-Za-z0-9-])(?:(?:key|fc)-[0-9a-f]{32}|p8e-[a-z0-9]{32}|md-[\w-]{22})(?![\w-])",
        ),
        ("^A3-", rf"{_LEFT}A3-[A-Z0-9]{{6}}-(?:[A-Z0-9]{{11}}|[A-Z0-9]{{6}}-[A-Z0-9]{{5}})(?:-[A-Z0-9]{{5}}){{3}}"),
        ("-us", r"(?<![0-9a-f])[0-9a-f]{32}-us\d{1,2}(?!\w)"),
        ("^oy2", rf"{_LEFT}oy2[a-z0-9]{{43}}(?![A-Za-z0-9])"),
        ("^dapi ^pul-", rf"{_LEFT}(?:dapi|pul-)[0-9a-f]{{32,40}}"),
        ("^pat-", rf"{_LEFT}pat-[a-z]{{2}}\d-{_UUID}"),
        ("^pat", rf"{_LEFT}pat[A-Za-z0-9]{{14}}\.[0-9a-f]{{64}}"),
        ("NRAL", r"(?<![A-Za-z0-9])[0-9a-fA-F]{36}[A-F]{0,4}NRAL"),
        ("^v1.0-", rf"{_LEFT}v1\.0-[0-9a-f]{{24}}-[0-9a-f]{{64,}}+"),
        ("^sl.", rf"{_LEFT}sl\.[\w-]{{64,}}+"),
        ("Q~", r"(?<![\w.~-])[\w.~-]{3,4}\dQ~[\w.~-]{31,40}"),
        ("atlasv1.", rf"{_LEFT}[A-Za-z0-9]{{14}}\.atlasv1\.[\w=-]{{40,}}+"),
        (":AA", r"(?<!\d)\d{8,10}:AA[\w-]{30,}+"),
        ("^AAAAAAAAAAAAAAAAAAAA", rf"{_LEFT}A{{20,}}+[\w%-]{{40,}}+"),
        ("$", r"\$argon2[\w$=,+/-]{16,}+"),
        ("$", rf"\$(?:2[aby]|[156y])\${_BODY}"),
        ("LS0tLS1CRUdJTi", r"LS0tLS1CRUdJTi(?!BDRVJU|BQVUJM)[\w+/=]{16,}+"),
        ("hook", r"(?<=hook)((?:s|b|s?\.[\w.-]{1,60})(?:/(?:webhookb2|services|workflows)){0,3}+/)[\w./@-]{12,}+"),
        ("/api/webhooks/", r"(?<=/api/webhooks/)\d{1,32}+/[\w-]{16,}+"),
        ("-----begin", r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,8}-----(?s:.*?)(?:-----END [A-Z ]{0,48}-----|\Z)"),
        ("Private-Lines", r"(?<=Private-Lines:)(?! ?\[)(?s:.*?)(?:Private-MAC:[\s0-9a-f]{0,80}|\Z)"),
        ('"d"', r"""(?<="d")\s?:\s?"[\w-]{40,}+"""),
    )
)

# Tokens without any word to look for: this is searched in every text, so it begins with rare characters.
_UNMARKED = re.compile(
    r":[0-9a-f]{32}(?!\w)|-[0-9a-f]{8}-[0-9a-f]{8}(?![\w-])|\.[\w-]{6}\.[\w-]{27}|[_-][A-Za-z0-9_-]{30}"
)
_UNMARKED_SHAPES = (
    r"(?<![\w-])(?:[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}(?![\w-])|[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,}+"
    r"|\d/\d{10,20}(?:/\d{10,20})?:[0-9a-f]{32}(?!\w))"
)
# Any vendor's token: a short name, a separator, thirty characters drawn at random. A shorter one may be an id
# (`req_…`, `chatcmpl-…`), a hexadecimal one a hash: those need their vendor's name.
_PREFIXED = r"(?<![\w+/.@-])(?!sha\d{3}-)(?:[a-z][a-z0-9]{1,11}|[A-Z][A-Z0-9]{1,11})[_-](?P<value>[\w-]{30,}+)(?!@)"


def _prefixed(match: re.Match[str]) -> str:
    return REDACTED if looks_random(match["value"]) else match[0]


def _unmarked(text: str) -> str:
    return _sub(_PREFIXED, _prefixed)(_sub(_UNMARKED_SHAPES)(text))


def _scheme(match: re.Match[str]) -> str:
    value = match["value"]
    return match[0] if is_prose(value, 24) or value.isupper() else f"{match['scheme']}{REDACTED}"


def _issued(match: re.Match[str]) -> str:
    return f"{match['scheme']}{REDACTED}" if looks_issued(match["value"]) else match[0]


def _userinfo(match: re.Match[str]) -> str:
    return match[0] if match["value"].startswith("${") else f"{match['user']}{REDACTED}@"


# Who issues tokens that nothing marks: what looks issued behind such a name, and a sign, is one.
_VENDORS = tuple(
    """
    adafruit adobe airtable algolia alibaba asana beamer bitbucket bittrex meraki cloudflare codecov coinbase
    confluent contentful datadog discord droneci dropbox etsy facebook fastly finicity finnhub flickr freshbooks
    gitter gocardless heroku hubspot intercom jfrog artifactory kraken kucoin launchdarkly linkedin looker mailgun
    mailchimp mattermost messagebird netlify newrelic new_relic okta plaid postmark rapidapi rollbar sendbird snyk
    sonar squarespace sumologic telegram travisci twilio twitch twitter vercel wandb zendesk
    """.split()  # noqa: SIM905  a list to add to
)
_BEHIND_VENDOR = (
    rf"""(?i)(?P<scheme>(?:{"|".join(_VENDORS)})[\w.-]{{0,24}}?[\\"'\s]{{0,3}}(?:=>|:=|==?|:|\|\||>|,)[\\"'`\s]{{0,4}})"""
    r"(?P<value>[\w=-]{16,}+)(?![./])"
)
_QUERY = (
    r"(?i)([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|awsaccesskeyid|auth"
    r"""|(?:[a-z]{1,16}+_)?(?:token|secret)|api_?key|password|(?:key|code)=(?=[\w%.-]{20}))=?)[^&\s"'<>#]{4,}+"""
)
_HEADER = (
    r"""(?i)(\b(?:authorization|(?:set-)?cookie)\\?["']?\s{0,4}[:=,]\s{0,4}+b?\\?["']?)"""
    r"""(?-i:(?!(?:[a-z]{2,12} ){2}[a-z ]{0,80}+(?:$|[.,;\n])))"""
    r"""(?:digest\b[^\r\n]{0,4096}+|[^"'\\\r\n]{4,}+)"""
)
_SMTP = (
    r"(?P<scheme>\b(?:(?i:auth(?:enticate)? (?:plain|login|xoauth2|oauthbearer|cram-md5))|AUTH(?: [\w.@-]{1,64})?) )"
    r"(?P<value>[\w+/=-]{4,}+)"
)
_PROGRAM = r"(\b(?:mysql\w{0,8}|mariadb|sshpass|docker login|redis-cli)\b[^\n|;]{0,120}?\s-[pa] ?)(?![ -])[^\s'\"]{4,}+"
_USERINFO = r"""(?<=://)(?P<user>[^\s/@:?"'<>]{0,256}+:)(?!\d{1,5}+[/?#])(?P<value>[^\s/"'<>]{1,1024})@"""
_CURL = r"""(\bcurl\b[^\n]{0,200}?\s(?:-u|-U|--user|--proxy-user)[ =]?["']?[^\s:"']{0,64}:)[^\s"']{1,}+"""
_SCHEME = r"(?i)(?P<scheme>\b(?:bearer|basic|ssws|splunk)\s{1,4})(?P<value>[\w.~+/-]{8,}+={0,2})(?![\w=])"
_PGPASS = r"(:\d{2,5}:[\w*.-]{1,64}:[\w*.-]{1,64}:)[^\s:\"']{6,}+"

_WORDED = (
    Rule(("^bearer ", "^basic ", "^ssws ", "^splunk "), _sub(_SCHEME, _scheme)),
    Rule(("^auth ", "^authenticate "), _sub(_SMTP, _scheme)),
    Rule(("^authorization", "^cookie", "^set-cookie"), _sub(_HEADER, r"\1[redacted]")),
    Rule(("://",), _sub(_USERINFO, _userinfo)),
    Rule(("://",), _sub(r"(?<=://)[\w-]{20,256}+@", r"[redacted]@")),
    Rule(("?", "&"), _sub(_QUERY, r"\1[redacted]")),
    Rule(
        ("pass", "pw", "psk", "secret", "token", "key", "credential", "sess", "signature", "^sid", "^auth",
         "^kennwort", "^contrase", "^senha", "^wachtwoord"),
        hide_named,
    ),
    Rule(tuple(f"^{vendor}" for vendor in _VENDORS), _sub(_BEHIND_VENDOR, _issued)),
    Rule((":5432:", ":3306:", ":*:"), _sub(_PGPASS, r"\1[redacted]")),
    Rule(("^identified by",), _sub(r"(?i)(\bidentified by )'[^'\r\n]{1,}+'", r"\1'[redacted]'")),
    Rule(("^mysql", "^mariadb", "^sshpass", "^docker login", "^redis-cli"), _sub(_PROGRAM, r"\1[redacted]")),
    Rule(("^curl",), _sub(_CURL, r"\1[redacted]")),
    Rule(("^pass ",), _sub(r"""(?m)((?:^|[>:'"])\s?PASS )[^\s'"]{4,}+(?=['"\\]?)""", r"\1[redacted]")),
    Rule(("^login ",), _sub(r"(\blogin\s{1,4}\S{1,254}\s{1,4}password\s{1,4})[^\s\"']{4,}+", r"\1[redacted]")),
    Rule(("^login ",), _sub(r"""(\bLOGIN "?[^\s"]{1,254}"? ")[^"\r\n]{1,}+""", r"\1[redacted]")),
)  # fmt: skip

RULES = (
    *(Rule((f"^{mark.lower()}",), _sub(f"{_LEFT}{re.escape(mark)}{_BODY}")) for mark in _BEGINNINGS),
    *_SHAPES,
    Rule((), _unmarked),
    *_WORDED,
)
_BARE = next(number for number, rule in enumerate(RULES) if not rule.triggers)


def _by_trigger() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for number, rule in enumerate(RULES):
        for trigger in rule.triggers:
            found[trigger] = (*found.get(trigger, ()), number)
    return found


_BY_TRIGGER = _by_trigger()
_ANYWHERE = tuple(trigger for trigger in _BY_TRIGGER if not trigger.startswith("^"))
# Four in five triggers begin a word: one scan for the first three characters of all words rules them out together.
_HEAD = re.compile(r"[^a-z0-9](?=([a-z0-9]..))", re.DOTALL)
_BY_HEAD = {
    head: tuple(trigger for trigger in _BY_TRIGGER if trigger[1:4] == head and trigger.startswith("^"))
    for head in {trigger[1:4] for trigger in _BY_TRIGGER if trigger.startswith("^")}
}
_HEADS = frozenset(_BY_HEAD)


class Found(NamedTuple):
    """The triggers that occur in a text, of which the texts that are to be cleaned are parts."""

    triggers: tuple[str, ...]
    bare: bool

    def clean(self, text: str) -> str:
        """Return the text without what the rules of these triggers recognise."""
        lower = text.lower()
        numbers = {n for each in self.triggers if each.lstrip("^") in lower for n in _BY_TRIGGER[each]}
        for number in sorted(numbers | {_BARE} if self.bare else numbers):
            text = RULES[number].clean(text)
        return text


def search(text: str) -> Found:
    """Return what may be in the text; cheap, and never wrong in the safe direction."""
    lower = text.lower()
    found = [trigger for trigger in _ANYWHERE if trigger in lower]  # a generator costs twice as much
    heads = _HEADS.intersection(_HEAD.findall("\0" + lower))
    if heads:
        found += [trigger for head in heads for trigger in _BY_HEAD[head] if trigger[1:] in lower]
    return Found(tuple(found), _UNMARKED.search(text) is not None)
