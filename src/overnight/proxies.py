"""The proxy on the way to an address, by the variables that all programs know: HTTPS_PROXY, HTTP_PROXY, NO_PROXY.

Libraries (the model's, S3's) look for them in the environment of the process, so that is where those of `.env` are put.
`.netrc` is not read, as aiohttp would with `trust_env`: its passwords were not meant for us.
"""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")  # or in small letters


def adopt(environ: Mapping[str, str]) -> None:
    """Put the variables that stand in `.env` into the environment of this process and of those it starts."""
    os.environ.update({name: value for name, value in environ.items() if name.upper() in NAMES})


def proxy_for(url: str) -> str | None:
    """The HTTP proxy for a URL; None when it is reached directly. Raises ValueError for what is no URL."""
    parts, proxies = urlsplit(url), getproxies()
    if not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = proxies.get(parts.scheme) or proxies.get("all", "")
    proxy = proxy if "://" in proxy or not proxy else f"http://{proxy}"
    return proxy if proxy.startswith(("http://", "https://")) else None
