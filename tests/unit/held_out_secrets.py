"""A second generator of secrets, written from vendors' public documentation before the patterns were looked at.

`secret_formats` is what the patterns were fitted to; this one says how well they hold on what nobody fitted them to.
`DEVELOPMENT` and `TEST` are its two halves, drawn by kind: patterns may be tuned on the first alone.

Every secret is drawn by a seeded generator; none was ever issued. In a template `{w36}` stands for 36 secret characters
of an alphabet: w letters and digits, l lower case and digits, u upper case and digits, h hex, H upper-case hex,
d digits, b base64url, B base64, p a password with punctuation, c letters, g a UUID.
"""

import base64
import json
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from urllib.parse import quote

SHOWN = 12  # A leak: so many consecutive characters of a secret survive (all of a shorter one)
NOTHING = 5  # Parts this short (the `abc` before Azure's `8Q~`) stand in any text by chance

_HEX = "0123456789abcdef"
_WORD = string.ascii_letters + string.digits
_ALPHABETS = {
    "w": _WORD,
    "l": string.ascii_lowercase + string.digits,
    "u": string.ascii_uppercase + string.digits,
    "h": _HEX,
    "H": _HEX.upper(),
    "d": string.digits,
    "b": _WORD + "-_",
    "B": _WORD + "+/",
    "p": _WORD + "!#%*+-.:=?@^_~",
    "c": string.ascii_letters,
}


@dataclass(frozen=True)
class Secret:
    """One line of text and the parts of it that must not be seen again."""

    kind: str
    line: str
    hidden: tuple[str, ...]

    def leaks(self, redacted: str) -> bool:
        """Whether any run of SHOWN characters of a hidden part survived."""
        return any(
            part[start : start + SHOWN] in redacted
            for part in self.hidden
            if len(part) > NOTHING
            for start in range(max(1, len(part) - SHOWN + 1))
        )


def _drawn(random: Random, alphabet: str, length: int) -> str:
    if alphabet == "g":
        digits = "".join(random.choices(_HEX, k=32))
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    text = "".join(random.choices(_ALPHABETS[alphabet], k=length))
    # A password ends in a letter or digit, as a line's own full stop or quote is not part of it.
    return text[:-1] + random.choice(_WORD) if alphabet == "p" else text


def _filled(template: str, random: Random) -> tuple[str, tuple[str, ...]]:
    hidden: list[str] = []

    def draw(match: re.Match[str]) -> str:
        hidden.append(_drawn(random, match[1], int(match[2] or 0)))
        return hidden[-1]

    return re.sub(r"\{([wluhHdbBpcg])(\d*)\}", draw, template), tuple(hidden)


# Tokens that are known by their own shape: they must not survive in any surroundings, whatever key they stand under.
TOKENS = {
    "aws access key id": "AKIA{u16}",
    "aws temporary key id": "ASIA{u16}",
    "gcp api key": "AIza{b35}",
    "gcp oauth access": "ya29.a0{b120}",
    "gcp client secret": "GOCSPX-{b28}",
    "gcp refresh token": "1//0{b60}",
    "azure ad client secret": "{w3}8Q~{b34}",
    "digitalocean pat": "dop_v1_{h64}",
    "digitalocean oauth": "doo_v1_{h64}",
    "alibaba key id": "LTAI5t{w18}",
    "tencent secret id": "AKID{w32}",
    "yandex api key": "AQVN{b36}",
    "ibm apikey json": "ApiKey-{g}",
    "cloudflare origin key": "v1.0-{h24}-{h146}",
    "github classic": "ghp_{w36}",
    "github oauth": "gho_{w36}",
    "github app server": "ghs_{w36}",
    "github refresh": "ghr_{w36}",
    "github fine grained": "github_pat_{w22}_{w59}",
    "gitlab pat": "glpat-{b20}",
    "gitlab routable pat": "glpat-{b27}.01.{l9}",
    "gitlab deploy": "gldt-{b20}",
    "gitlab runner": "glrt-{b20}",
    "gitlab pipeline trigger": "glptt-{h40}",
    "gitlab ci build": "glcbt-64_{b20}",
    "gitlab agent": "glagent-{b50}",
    "gitlab feed": "glft-{b20}",
    "bitbucket app password": "ATBB{w24}{H8}",
    "atlassian api": "ATATT3xFfGF0{b170}={H8}",
    "sourcegraph": "sgp_{h16}_{h40}",
    "slack bot": "xoxb-{d12}-{d13}-{w24}",
    "slack user": "xoxp-{d12}-{d12}-{d13}-{h32}",
    "slack app": "xapp-1-A0{u9}-{d13}-{h64}",
    "slack config": "xoxe.xoxp-1-{B160}",
    "discord bot": "MTA{w21}.G{b5}.{b38}",
    "telegram bot": "{d10}:AA{b33}",
    "stripe live": "sk_live_51{w97}",
    "stripe restricted": "rk_live_{w24}",
    "stripe test": "sk_test_{w24}",
    "stripe webhook": "whsec_{w32}",
    "square access": "EAAA{b60}",
    "square secret": "sq0csp-{b43}",
    "paypal braintree": "access_token$production${l16}${h32}",
    "shopify access": "shpat_{h32}",
    "shopify shared secret": "shpss_{h32}",
    "razorpay": "rzp_live_{w14}",
    "flutterwave": "FLWSECK-{h32}-X",
    "mollie": "live_{w30}",
    "gocardless": "live_{b40}",
    "plaid access": "access-production-{g}",
    "easypost": "EZAK{w54}",
    "shippo": "shippo_live_{h40}",
    "duffel": "duffel_live_{b43}",
    "sendgrid": "SG.{b22}.{b43}",
    "mailgun": "key-{h32}",
    "mailchimp": "{h32}-us12",
    "resend": "re_{w8}_{w24}",
    "brevo": "xkeysib-{h64}-{w16}",
    "brevo smtp": "xsmtpsib-{h64}-{w16}",
    "mandrill": "md-{b22}",
    "twilio api key": "SK{h32}",
    "openai project": "sk-proj-{b74}T3BlbkFJ{b74}",
    "openai legacy": "sk-{w20}T3BlbkFJ{w20}",
    "openai service": "sk-svcacct-{b60}T3BlbkFJ{b60}",
    "anthropic api": "sk-ant-api03-{b93}AA",
    "anthropic oauth": "sk-ant-oat01-{b93}AA",
    "anthropic admin": "sk-ant-admin01-{b93}AA",
    "hugging face": "hf_{c34}",
    "hugging face org": "api_org_{c34}",
    "groq": "gsk_{w52}",
    "replicate": "r8_{w37}",
    "perplexity": "pplx-{w48}",
    "xai": "xai-{w80}",
    "openrouter": "sk-or-v1-{h64}",
    "deepseek": "sk-{h32}",
    "fireworks": "fw_{w24}",
    "voyage": "pa-{b43}",
    "langsmith": "lsv2_pt_{h32}_{h10}",
    "langfuse": "sk-lf-{g}",
    "pinecone": "pcsk_{w6}_{w63}",
    "elevenlabs": "sk_{h48}",
    "nvidia": "nvapi-{b64}",
    "tavily": "tvly-dev-{w32}",
    "firecrawl": "fc-{h32}",
    "jina": "jina_{h32}{b28}",
    "cerebras": "csk-{l48}",
    "npm": "npm_{w36}",
    "pypi": "pypi-AgEIcHlwaS5vcmc{b150}",
    "rubygems": "rubygems_{h48}",
    "nuget": "oy2{l43}",
    "crates io": "cio{w32}",
    "docker hub": "dckr_pat_{b27}",
    "clojars": "CLOJARS_{h60}",
    "databricks": "dapi{h32}",
    "planetscale token": "pscale_tkn_{b43}",
    "planetscale password": "pscale_pw_{b43}",
    "supabase": "sbp_{h40}",
    "supabase secret": "sb_secret_{b22}_{w8}",
    "neon": "napi_{l64}",
    "vault service": "hvs.{b90}",
    "vault batch": "hvb.{b140}",
    "terraform cloud": "{w14}.atlasv1.{b67}",
    "doppler": "dp.pt.{w43}",
    "onepassword service": "ops_eyJ{b250}",
    "onepassword secret key": "A3-{u6}-{u11}-{u5}-{u5}-{u5}",
    "pulumi": "pul-{h40}",
    "heroku": "HRKU-AA{b58}",
    "netlify": "nfp_{w36}",
    "fly": "fm2_{B180}",
    "render": "rnd_{w28}",
    "circleci": "CCIPAT_{w22}_{h40}",
    "buildkite": "bkua_{h40}",
    "sonarqube": "sqp_{h40}",
    "new relic user": "NRAK-{u27}",
    "new relic licence": "{h36}FFFFNRAL",
    "grafana cloud": "glc_eyJ{b120}=",
    "grafana service": "glsa_{w32}_{h8}",
    "sentry org": "sntrys_eyJ{b120}_{b43}",
    "sentry user": "sntryu_{h64}",
    "honeycomb": "hcaik_01{l56}",
    "posthog personal": "phx_{w43}",
    "dynatrace": "dt0c01.{u24}.{u64}",
    "launchdarkly sdk": "sdk-{g}",
    "linear": "lin_api_{w40}",
    "notion": "secret_{w43}",
    "notion new": "ntn_{w46}",
    "airtable": "pat{w14}.{h64}",
    "figma": "figd_{b40}",
    "asana": "2/{d16}/{d16}:{h32}",
    "typeform": "tfp_{b44}_{b14}",
    "hubspot": "pat-eu1-{g}",
    "contentful": "CFPAT-{b43}",
    "postman": "PMAK-{h24}-{h34}",
    "readme": "rdme_{l70}",
    "frameio": "fio-u-{b64}",
    "mapbox secret": "sk.eyJ1{b80}.{b22}",
    "facebook": "EAA{w180}",
    "twitter bearer": "AAAAAAAAAAAAAAAAAAAAA{w40}%3D{w45}",
    "dropbox": "sl.{b135}",
    "adobe": "p8e-{l32}",
    "age": "AGE-SECRET-KEY-1{u58}",
    "tailscale": "tskey-auth-{w12}-{w32}",
    "prefect": "pnu_{w36}",
    "prefect cloud": "pnb_{w36}",
    "jwt": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ{b120}.{b43}",
    "jwe": "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.{b86}.{b16}.{b64}.{b22}",
}

_AROUND_TOKEN = (
    "the provider refused {} with status 401",
    "AuthenticationError: Incorrect API key provided: {}. Check it.",
    '{{"text": "{}", "attempt": 3}}',
    '{{"error": {{"message": "bad credential {}", "code": 7}}}}',
    "Authorization: Bearer {}",
    "{{'argument': '{}', 'count': 4}}",
    "SETTING_7={}",
    "note: {}",
    "curl -s https://api.example.com/v1/things?next={}&page=2",
    'File "/srv/app/job.py", line 12, in fetch\n    client = Client("{}")\nValueError: refused',
    "- '{}'",
    "call(value='{}', retries=2) failed",
    "<value>{}</value>",
    "ada,{},2026-01-02",
    "deploy --with {} --verbose",
)

# Secrets without a shape of their own: what gives them away is the name they stand under.
NAMES = (
    *(
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "pass",
        "secret",
        "client_secret",
        "clientSecret",
        "api_key",
        "apiKey",
    ),
    *("apikey", "x-api-key", "access_token", "accessToken", "refresh_token", "id_token", "auth_token", "authToken"),
    *("token", "private_key", "AWS_SECRET_ACCESS_KEY", "SecretAccessKey", "aws_session_token", "DATABASE_PASSWORD"),
    *("PGPASSWORD", "MYSQL_PWD", "MYSQL_ROOT_PASSWORD", "REDIS_PASSWORD", "SMTP_PASS", "EMAIL_HOST_PASSWORD"),
    *("SECRET_KEY", "SECRET_KEY_BASE", "ENCRYPTION_KEY", "RAILS_MASTER_KEY", "JWT_SECRET", "SESSION_SECRET"),
    *("COOKIE_SECRET", "signing_key", "signingKey", "HMAC_KEY", "webhook_secret", "DD_API_KEY", "DATADOG_APP_KEY"),
    *("DEEPGRAM_API_KEY", "MISTRAL_API_KEY", "AZURE_OPENAI_KEY", "AccountKey", "SharedAccessKey", "CF_API_TOKEN"),
    *("VAULT_TOKEN", "NPM_TOKEN", "CI_JOB_TOKEN", "X-Vault-Token", "X-Auth-Token", "X-Amz-Security-Token"),
    *("X-CSRF-Token", "PRIVATE-TOKEN", "X-Goog-Api-Key", "Ocp-Apim-Subscription-Key", "DD-API-KEY"),
    *("X-Shopify-Access-Token", "X-Postmark-Server-Token", "api-key", "credential", "security_token"),
    *("subscriptionKey", "masterPassword", "new_password", "old_password", "password_confirmation", "userPassword"),
    *("account_key", "license_key", "deploy_key", "keystore_password", "sslpassword", "bindpw", "rootpw", "psk"),
    *("pre_shared_key", "bearer_token", "oauth_token_secret", "consumer_secret", "app_secret", "db.password"),
    *("spring.datasource.password", "TWILIO_AUTH_TOKEN", "SNYK_TOKEN", "CODECOV_TOKEN", "master_key", "sessionToken"),
    *("encryptionKey", "Passwort", "mot_de_passe", "storePassword", "keyPassword", "totp_secret", "service_role_key"),
)

_UNDER_NAME = (
    '{{"user": "ada", "{}": "{}", "port": 25}}',
    "{{'user': 'ada', '{}': '{}', 'port': 25}}",
    '"{{\\"{}\\": \\"{}\\"}}"',
    "{}: {}",
    '{}: "{}"',
    "export {}={}",
    "{}='{}'",
    "  {} = {}",
    '{} = "{}"',
    "connect(host='db', {}='{}')",
    "job --{} {} --verbose",
    "job --{}={} --verbose",
    "<{0}>{1}</{0}>",
    "> POST /login HTTP/1.1\n> Host: example.com\n> {}: {}\n> Accept: */*",
    "docker run -e {}={} image:1",
)
_VALUES = ("{w24}", "{h32}", "{h40}", "{g}", "{B43}=", "{w10}{p6}", "{p14}", "{b32}")

# Secrets known by the text around them.
STRUCTURES = {
    "postgres url": "postgresql://app:{p16}@db.internal:5432/app",
    "postgres url driver": "postgresql+psycopg2://app:{w20}@db/app?sslmode=require",
    "mysql url": "mysql://root:{p12}@127.0.0.1/shop",
    "redis url no user": "redis://:{w32}@cache:6379/0",
    "rediss url": "rediss://default:{w40}@eu1.upstash.io:6379",
    "mongodb srv": "mongodb+srv://svc:{w18}@cluster0.abcde.mongodb.net/?retryWrites=true",
    "amqp url": "amqps://user:{p15}@rabbit:5671/vhost",
    "smtp url": "smtps://mailer%40example.com:{w16}@smtp.example.com:465",
    "https userinfo": "https://deploy:{w30}@git.example.com/team/repo.git",
    "https token user": "https://{h40}@git.example.com/team/repo.git",
    "https x-access-token": "git clone https://x-access-token:{w40}@github.com/a/b",
    "https oauth2": "https://oauth2:{b20}@gitlab.example.com/a/b.git",
    "proxy url": "HTTPS_PROXY=http://corp:{p13}@proxy:3128",
    "sentry dsn": "https://{h32}@o12345.ingest.sentry.io/67890",
    "ftp url": "ftp://backup:{w14}@files.example.com/in",
    "clickhouse url": "clickhouse://default:{p14}@ch:9000/events",
    "sqlalchemy error": 'could not translate host name "x" in postgresql+asyncpg://a:{w22}@x/y',
    "jdbc query": "jdbc:postgresql://db:5432/app?user=app&password={w18}",
    "jdbc oracle": "jdbc:oracle:thin:scott/{w14}@//db:1521/orcl",
    "ado connection": "Server=tcp:db,1433;Database=app;User ID=sa;Password={p14};Encrypt=true",
    "ado pwd": "Driver={{ODBC Driver 18}};Server=db;UID=sa;PWD={w16};",
    "libpq keywords": "host=db user=app password={w17} dbname=app",
    "azure storage connection": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={B86}==;EndpointSuffix=x.net",
    "azure service bus": "Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey={B43}=",
    "azure cosmos": "AccountEndpoint=https://n.documents.azure.com:443/;AccountKey={B86}==;",
    "azure sas url": "https://a.blob.core.windows.net/c/b?sv=2022-11-02&se=2026-01-01&sr=b&sp=r&sig={w40}%2B{w5}%3D",
    "azure iot sas": "SharedAccessSignature sr=hub%2Fdevices%2Fa&sig={w40}%3D&se=1700000000",
    "azure function code": "https://f.azurewebsites.net/api/run?code={b50}==",
    "aws presigned v4": "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=60&X-Amz-Signature={h64}",
    "aws presigned token": "https://b.s3.amazonaws.com/k?X-Amz-Security-Token={w120}&X-Amz-Date=20260101T000000Z",
    "aws presigned v2": "https://b.s3.amazonaws.com/k?AWSAccessKeyId=AK&Expires=17000&Signature={w26}%3D",
    "aws v4 header": "Authorization: AWS4-HMAC-SHA256 Credential=AK/20260101/eu/s3/aws4_request, Signature={h64}",
    "gcs presigned": "https://storage.googleapis.com/b/k?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature={h256}",
    "cloudfront signed": "https://d1.cloudfront.net/a?Expires=17000&Signature={b120}__&Key-Pair-Id=K2",
    "slack webhook": "https://hooks.slack.com/services/T0ABCDEFG/B0ABCDEFG/{w24}",
    "slack workflow": "https://hooks.slack.com/triggers/T0ABCDEF/{d13}/{h32}",
    "discord webhook": "https://discord.com/api/webhooks/112233445566778899/{b68}",
    "teams webhook": "https://acme.webhook.office.com/webhookb2/1@2/IncomingWebhook/{h32}/{g}",
    "power automate": "https://prod-1.westeurope.logic.azure.com/workflows/f1/triggers/manual?sp=%2Frun&sv=1.0&sig={b43}",
    "google chat webhook": "https://chat.googleapis.com/v1/spaces/AAAA/messages?key=K&token={b43}%3D",
    "telegram url": "https://api.telegram.org/bot{d10}:AA{b33}/sendMessage",
    "mattermost hook": "https://chat.example.com/hooks/{l26}",
    "zapier hook": "https://hooks.zapier.com/hooks/catch/1234567/{l26}/",
    "ifttt": "https://maker.ifttt.com/trigger/done/with/key/{b43}",
    "make hook": "https://hook.eu1.make.com/{l32}",
    "pem rsa": "-----BEGIN RSA PRIVATE KEY-----\n{B64}\n{B64}\n{B30}==\n-----END RSA PRIVATE KEY-----",
    "pem pkcs8": "-----BEGIN PRIVATE KEY-----\n{B64}\n{B64}\n-----END PRIVATE KEY-----\n",
    "pem escaped": '{{"private_key": "-----BEGIN PRIVATE KEY-----\\n{B64}\\n{B64}\\n-----END PRIVATE KEY-----\\n"}}',
    "pem encrypted": "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{B64}\n{B40}\n-----END ENCRYPTED PRIVATE KEY-----",
    "pem cut off": "key: -----BEGIN EC PRIVATE KEY-----\n{B64}\n{B64}",
    "openssh": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXkt{B49}\n{B70}\n-----END OPENSSH PRIVATE KEY-----",
    "pgp": "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 2\n\n{B64}\n={B4}\n-----END PGP PRIVATE KEY BLOCK-----",
    "putty": "PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{B64}\nPrivate-MAC: {h64}",
    "set-cookie": "Set-Cookie: sessionid={l32}; HttpOnly; Path=/",
    "cookie header": "Cookie: theme=dark; connect.sid=s%3A{b32}.{w43}; lang=en",
    "cookie php": "cookie: PHPSESSID={l26}",
    "cookie java": "Set-Cookie: JSESSIONID={H32}; Path=/app; Secure",
    "bearer opaque": "authorization: Bearer {w40}",
    "bearer in prose": "sent Bearer {b48} to the upstream",
    "token header": "Authorization: Token {h40}",
    "okta ssws": "Authorization: SSWS 00{b40}",
    "apikey header": "Authorization: ApiKey {B60}==",
    "digest header": 'Authorization: Digest username="a", nonce="1", response="{h32}"',
    "genie key": "Authorization: GenieKey {g}",
    "proxy authorization": "Proxy-Authorization: Bearer {b36}",
    "curl user": "curl -u admin:{p14} https://example.com",
    "curl user long": "curl --user admin:{w16} https://example.com",
    "curl header": "curl -H 'X-Api-Key: {w32}' https://example.com",
    "mysql -p": "mysql -u root -p{w14} shop",
    "sshpass": "sshpass -p {w14} ssh host",
    "docker login": "docker login -u ada -p {w20} registry.example.com",
    "npmrc auth": "//registry.npmjs.org/:_authToken={g}",
    "npmrc basic": "//npm.example.com/:_password={B28}==",
    "npmrc auth field": "_auth = {B32}==",
    "netrc": "machine api.example.com login ada password {p14}",
    "pgpass": "PGPASSFILE line db:5432:app:app:{w18}",
    "pypirc": "[pypi]\nusername = ada\npassword = {p20}",
    "pip index": "index-url = https://ada:{w24}@pypi.example.com/simple",
    "kube token": "users:\n- name: a\n  user:\n    token: {b60}",
    "kube client key": "    client-key-data: {B120}==",
    "aws credentials": "[default]\naws_secret_access_key = {B40}",
    "github actions": "::add-mask::{w28}",
    "identified by": "CREATE USER app IDENTIFIED BY '{p14}'",
    "with password": "ALTER ROLE app WITH LOGIN PASSWORD '{w18}'",
    "smtp dialogue": "send: 'PASS {w16}\\r\\n'",
    "prose is": "The password is {w14}, please change it.",
    "prose your": "Your one-time password: {w14}",
    "prose api key": "Invalid API key {w32} for organisation",
    "query signature": "https://x.example.com/d?expires=17&signature={h64}",
    "query token": "https://app.example.com/reset?token={b43}&lang=en",
    "query password": "GET /login?user=ada&password={w14} HTTP/1.1",
    "query api key": "https://maps.example.com/geo?q=a&key={w32}",
    "query access token": "wss://ws.example.com/?access_token={b60}",
    "oauth code": "https://app.example.com/callback?code={b48}&state=x",
    "form body": "grant_type=client_credentials&client_id=a&client_secret={p10}{w10}",
    "tuple header": "[('accept', '*/*'), ('authorization', 'Bearer {b40}'), ('host', 'x')]",
    "bytes header": "[(b'Host', b'x'), (b'X-Api-Key', b'{w32}')]",
    "repr": "Settings(host='x', smtp_password='{p14}', port=25)",
    "secret list": '{{"name": "SMTP_PASSWORD", "value": "{p14}"}}',
    "wifi": "wpa_passphrase={w14}",
    "wireguard": "PrivateKey = {B43}=",
    "totp uri": "otpauth://totp/Acme:ada?secret={u32}&issuer=Acme",
    "gpg passphrase": "gpg --batch --passphrase {w16} -d f.gpg",
    "openssl pass": "openssl rsa -passin pass:{w14} -in k",
}


def _encoded(random: Random) -> Iterator[Secret]:
    """Secrets that travel in base64: what must not be seen is the encoded form."""
    for kind, around, text in (
        ("basic header", "Authorization: Basic {}", "ada:{}"),
        ("basic header json", '{{"Authorization": "Basic {}"}}', "api:{}"),
        ("basic lower", "authorization: basic {}", "{}:x"),
        ("smtp auth plain", "send: 'AUTH PLAIN {}\\r\\n'", "\0mailer\0{}"),
        ("smtp auth login", "C: AUTH LOGIN {}", "mailer-{}"),
        ("smtp xoauth2", "AUTH XOAUTH2 {}", "user=a\1auth=Bearer {}\1\1"),
        ("docker config", '{{"auths": {{"r.example.com": {{"auth": "{}"}}}}}}', "ada:{}"),
        ("kubernetes secret", "kind: Secret\ndata:\n  password: {}", "{}"),
    ):
        for _ in range(6):
            code = base64.b64encode(text.format(_drawn(random, "w", 20)).encode()).decode()
            yield Secret(kind, around.format(code), (code.rstrip("="),))


def _tokens(random: Random) -> Iterator[Secret]:
    for kind, template in TOKENS.items():
        for around in _AROUND_TOKEN:
            token, hidden = _filled(template, random)
            yield Secret(kind, around.format(token), hidden)


def _named(random: Random) -> Iterator[Secret]:
    for name in NAMES:
        for number, around in enumerate(_UNDER_NAME):
            value, _ = _filled(_VALUES[number % len(_VALUES)], random)
            yield Secret(f"named {name}", around.format(name, value), (value,))
        value, _ = _filled("{w24}+{w4}", random)
        coded = quote(value, safe="")
        yield Secret(f"named {name}", f"https://example.com/x?a=1&{name}={coded}&b=2", (coded, value))


def _structures(random: Random) -> Iterator[Secret]:
    for kind, template in STRUCTURES.items():
        for around in ("{}", "failed after 3 s: {}", 'File "a.py", line 3\nRuntimeError: {}'):
            text, hidden = _filled(template.replace("{{", "\1").replace("}}", "\2"), random)
            line = around.format(text).replace("\1", "{").replace("\2", "}")
            yield Secret(kind, line, hidden)
        yield Secret(kind, json.dumps({"event": "call_failed", "error": line}), hidden)


def _all(seed: int) -> list[Secret]:
    sources: tuple[Callable[[Random], Iterator[Secret]], ...] = (_tokens, _named, _structures, _encoded)
    return [secret for number, source in enumerate(sources) for secret in source(Random(f"{seed} {number}"))]  # noqa: S311


SECRETS = _all(seed=20261122)
_KINDS = sorted({secret.kind for secret in SECRETS})
_CHOSEN = set(Random("halves").sample(_KINDS, k=len(_KINDS) // 2))  # noqa: S311  a seeded choice
DEVELOPMENT = [secret for secret in SECRETS if secret.kind in _CHOSEN]
TEST = [secret for secret in SECRETS if secret.kind not in _CHOSEN]
