"""Lines that look like secrets and are none: ids, hashes, times, counts and prose a log is useless without.

Drawn by a seeded generator; `DEVELOPMENT` and `TEST` are two halves, drawn by kind, as those of `held_out_secrets`.
"""

import base64
import hashlib
import json
import uuid
from collections.abc import Callable
from random import Random

EACH = 25  # Lines of every kind


def _hex(random: Random, length: int) -> str:
    return "".join(random.choices("0123456789abcdef", k=length))


def _uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _sha256(random: Random) -> str:
    return hashlib.sha256(random.randbytes(8)).hexdigest()


def _base64(random: Random, length: int) -> str:
    return base64.b64encode(random.randbytes(length)).decode()


def _word(random: Random) -> str:
    return random.choice(("report", "digest", "invoice", "triage", "nightly", "support", "billing", "archive"))


def _id(random: Random, length: int) -> str:
    return "".join(random.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789", k=length))


def _count(random: Random) -> int:
    return random.randrange(1, 200_000)


def _time(random: Random) -> str:
    r = random.randrange
    return f"2026-{r(1, 13):02}-{r(1, 29):02}T{r(24):02}:{r(60):02}:{r(60):02}.{r(1000):03}Z"


Line = Callable[[Random], str]

KINDS: dict[str, Line] = {
    "git commit": lambda r: f"commit {_hex(r, 40)}",
    "git short": lambda r: f"Merge {_hex(r, 7)} into {_hex(r, 7)}",
    "git diff index": lambda r: f"index {_hex(r, 9)}..{_hex(r, 9)} 100644",
    "git describe": lambda r: f"version v1.{r.randrange(9)}.0-{r.randrange(90)}-g{_hex(r, 8)}",
    "git json": lambda r: json.dumps({"sha": _hex(r, 40), "author": "ada", "parents": [_hex(r, 40)]}),
    "revision": lambda r: f'revision="{_hex(r, 40)}" job={_word(r)}',
    "uuid": _uuid,
    "uuid run": lambda r: json.dumps({"event": "run_started", "run": _uuid(r), "job": _word(r)}),
    "request uuid": lambda r: f"request_id={_uuid(r)} status=200",
    "x-request-id": lambda r: f"X-Request-Id: {_uuid(r)}",
    "anthropic request": lambda r: f"request-id: req_011C{_id(r, 20)}",
    "anthropic message": lambda r: json.dumps({"id": f"msg_01{_id(r, 22)}", "type": "message", "role": "assistant"}),
    "tool use": lambda r: json.dumps({"type": "tool_use", "id": f"toolu_01{_id(r, 22)}", "name": "search"}),
    "batch id": lambda r: f"batch msgbatch_01{_id(r, 22)} in_progress",
    "openai completion": lambda r: json.dumps({"id": f"chatcmpl-{_id(r, 29)}", "object": "chat.completion"}),
    "traceparent": lambda r: f"traceparent: 00-{_hex(r, 32)}-{_hex(r, 16)}-01",
    "trace id": lambda r: json.dumps({"trace_id": _hex(r, 32), "span_id": _hex(r, 16)}),
    "amzn trace": lambda r: f"X-Amzn-Trace-Id: Root=1-{_hex(r, 8)}-{_hex(r, 24)}",
    "aws request id": lambda r: f"x-amz-request-id: {_id(r, 16).upper()}",
    "aws id 2": lambda r: f"x-amz-id-2: {_base64(r, 56)}",
    "arn": lambda r: f"arn:aws:s3:::{_word(r)}-{r.randrange(10**6)}/out/2026.csv",
    "cloudfront id": lambda r: f"X-Amz-Cf-Id: {_id(r, 55)}=",
    "cf-ray": lambda r: f"cf-ray: {_hex(r, 16)}-FRA",
    "etag": lambda r: f'ETag: "{_hex(r, 32)}"',
    "etag multipart": lambda r: f'etag="{_hex(r, 32)}-{r.randrange(1, 90)}"',
    "etag weak": lambda r: f'W/"{_hex(r, 16)}-{_hex(r, 8)}"',
    "message id": lambda r: f"Message-ID: <{r.randrange(10**12)}.{_hex(r, 20)}@mail.example.com>",
    "references": lambda r: f"References: <{_uuid(r)}@example.com> <{_id(r, 30)}@mail.gmail.com>",
    "in reply to": lambda r: json.dumps({"in_reply_to": f"<CA+{_id(r, 40)}@mail.gmail.com>"}),
    "queue id": lambda r: f"250 2.0.0 Ok: queued as {_hex(r, 10).upper()}",
    "dkim selector": lambda r: f"DKIM d=example.com s=s{r.randrange(1024)} verified, spf=pass, dmarc=pass",
    "sha256 checksum": lambda r: f"checksum sha256:{_sha256(r)}",
    "sha256sum": lambda r: f"{_sha256(r)}  dist/{_word(r)}-1.0.tar.gz",
    "pip hash": lambda r: f"    --hash=sha256:{_sha256(r)} \\",
    "md5": lambda r: f"Content-MD5: {_base64(r, 16)}",
    "integrity": lambda r: f'"integrity": "sha512-{_base64(r, 64)}"',
    "docker digest": lambda r: f"docker.io/library/python@sha256:{_sha256(r)}",
    "docker id": lambda r: f"container {_hex(r, 12)} started",
    "content hash": lambda r: json.dumps({"content_hash": _sha256(r), "bytes": _count(r)}),
    "request hash": lambda r: f"replayed call request_hash={_sha256(r)}",
    "ssh fingerprint": lambda r: f"SHA256:{_base64(r, 32).rstrip('=')} known host",
    "public key": lambda r: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{_id(r, 43)} ada@laptop",
    "certificate serial": lambda r: f"serial {_hex(r, 32)} notAfter={_time(r)}",
    "public pem": lambda r: f"-----BEGIN CERTIFICATE-----\n{_base64(r, 48)}\n-----END CERTIFICATE-----",
    "time": lambda r: f"{_time(r)} job {_word(r)} finished in {_count(r)} ms",
    "epoch": lambda r: json.dumps({"started": 1_760_000_000 + _count(r), "nanos": r.randrange(10**18)}),
    "token count": lambda r: f"token_count: {_count(r)}",
    "tokens": lambda r: json.dumps({"input_tokens": _count(r), "output_tokens": _count(r), "max_tokens": 4096}),
    "tokens text": lambda r: f"used {_count(r)} tokens of {_count(r)}; tokens/min: {_count(r)}",
    "max tokens": lambda r: f"max_tokens={_count(r)} temperature=0.2",
    "token limit header": lambda r: f"anthropic-ratelimit-tokens-remaining: {_count(r)}",
    "token reset header": lambda r: f"anthropic-ratelimit-input-tokens-reset: {_time(r)}",
    "tokenizer": lambda r: f"tokenizer=cl100k_base vocabulary={_count(r)} tokenize_ms={r.randrange(99)}",
    "cache tokens": lambda r: f"cache_read_input_tokens={_count(r)}, cache_creation_input_tokens=0",
    "stop token": lambda r: f"stop_reason=max_tokens at {_count(r)}",
    "author": lambda r: json.dumps({"author": f"ada.{_word(r)}", "authors": 3, "authored": _time(r)}),
    "authority": lambda r: f":authority: {_word(r)}.example.com",
    "password reset": lambda r: f"password_reset: done user={r.randrange(10**6)}",
    "password changed": lambda r: f"password_changed_at={_time(r)}",
    "password flag": lambda r: f"has_password=True password_attempts={r.randrange(5)}",
    "password prose": lambda r: f"Ticket {_count(r)}: the customer forgot the password and cannot sign in",
    "password policy": lambda r: f"Passwords must have at least {r.randrange(8, 20)} characters.",
    "password wrong": lambda r: f"535 authentication failed: wrong password for mailer after {r.randrange(9)} tries",
    "password subject": lambda r: f"Subject: Reset your password, {_word(r)} team",
    "secret prose": lambda r: f"the secret to a good {_word(r)} is rest; no secret was found in {_count(r)} lines",
    "token prose": lambda r: f"The token expired {r.randrange(60)} minutes ago; ask for a new token.",
    "key prose": lambda r: f"the API key is missing: set ANTHROPIC_API_KEY before {_word(r)} runs",
    "keyboard": lambda r: f"keyboard layout {r.choice(('de', 'en', 'fr'))}, monkey={_count(r)}, turkey: done",
    "key names": lambda r: json.dumps({"key": f"{_word(r)}/2026/{_count(r)}.csv", "keys": _count(r)}),
    "sort key": lambda r: f"primary_key=id sort_key={_word(r)} foreign_key: order_id",
    "item key": lambda r: f"item key=ticket-{_count(r)} state=done",
    "idempotency": lambda r: f"Idempotency-Key: {_word(r)}-{_uuid(r)}",
    "public key id": lambda r: f"key_id={_count(r)} keyword={_word(r)}",
    "passed": lambda r: f"{_count(r)} passed, {r.randrange(9)} failed, bypass={_word(r)}, passenger: {_word(r)}",
    "pwd": lambda r: f"PWD=/srv/{_word(r)}/app OLDPWD=/home/ada",
    "path": lambda r: f"/var/lib/overnight/runs/{_time(r)}/{_word(r)}-{_hex(r, 8)}.json",
    "site packages": lambda r: f'File "/usr/lib/python3.11/site-packages/{_word(r)}/core/client.py", line {_count(r)}',
    "windows path": lambda r: rf"C:\Users\ada\AppData\Local\{_word(r)}\secrets_manager\__init__.py",
    "url": lambda r: f"https://docs.example.com/{_word(r)}/guide/authentication-and-tokens?page={r.randrange(99)}#keys",
    "url port": lambda r: (
        f"connecting to http://127.0.0.1:{r.randrange(1024, 65535)}/v1/messages for {_word(r)}@example.com"
    ),
    "mail address": lambda r: f"From: {_word(r)}@example.com To: ada.lovelace+{_count(r)}@example.org",
    "log line": lambda r: (
        f"INFO overnight.runner job={_word(r)} items={_count(r)} done={_count(r)} cost_usd=0.0{_count(r)}"
    ),
    "exception": lambda r: f"KeyError: '{_word(r)}'\nTypeError: __init__() missing 1 required argument: 'token'",
    "code": lambda r: f"token = tokens[{r.randrange(9)}]; password = getpass.getpass(); key = row['{_word(r)}']",
    "code types": lambda r: f"def login(password: str, token: str | None = None) -> bool:  # {_word(r)}",
    "image": lambda r: json.dumps({"type": "image", "media_type": "image/png", "data": "iVBORw0KGgo" + _base64(r, 90)}),
    "data url": lambda r: f"<img src='data:image/gif;base64,R0lGODlh{_base64(r, 60)}'>",
    "semver": lambda r: f"anthropic=={r.randrange(2)}.{_count(r)}.0 ; python_version >= '3.11'",
    "camel": lambda r: f"AbstractAuthenticationTokenProviderFactoryBean{_word(r).title()} initialised",
    "snake": lambda r: f"test_{_word(r)}_secret_is_not_logged_when_the_provider_refuses_the_call PASSED",
    "null": lambda r: json.dumps({"password": None, "token": "", "api_key": False, "n": _count(r)}),
    "isbn": lambda r: f"ISBN 978-3-16-{r.randrange(10**6):06}-0, IBAN label, phone +49 30 {r.randrange(10**7)}",
    "csv": lambda r: f"{_count(r)},{_word(r)},done,{_time(r)},{_uuid(r)},0.00{_count(r)}",
    "session": lambda r: f"session closed after {_count(r)} s; sessions={_count(r)}; session_length: {_count(r)}",
    "signature prose": lambda r: f"signature verified for {_word(r)}; signed-off-by: ada <ada@example.com>",
    "cookie prose": lambda r: f"cookie banner accepted by {_count(r)} visitors, cookies: enabled",
    "auth": lambda r: f"auth: ok, authenticated=True, authorization: granted to {_word(r)}",
}


def _halves() -> tuple[list[str], list[str]]:
    chosen = set(Random("halves").sample(sorted(KINDS), k=len(KINDS) // 2))  # noqa: S311  a seeded choice
    halves: tuple[list[str], list[str]] = ([], [])
    for kind, line in KINDS.items():
        random = Random(f"20261122 {kind}")  # noqa: S311  sham lines, the same for the same seed
        halves[kind not in chosen].extend(line(random) for _ in range(EACH))
    return halves


DEVELOPMENT, TEST = _halves()
INNOCENT = DEVELOPMENT + TEST
