"""Tells within seconds whether the hosts of a download answer, because TFDS retries for minutes.

unreachable(["https://example.org/archive.tar.gz"])     # None, or the reason in words
"""

import queue
import threading
import urllib.parse
from collections.abc import Iterable

SECONDS = 8.0
"""How long all probes together may take."""


def _try(url: str, answers: "queue.Queue[str | None]") -> None:
    import requests

    host = urllib.parse.urlsplit(url).hostname
    try:
        with requests.get(url, stream=True, timeout=SECONDS / 2) as response:
            refused = response.status_code >= 400
            answers.put(f"{host} answered HTTP {response.status_code} for {url}" if refused else None)
    except requests.RequestException:
        answers.put(f"{host} cannot be reached")


def unreachable(urls: Iterable[str], seconds: float = SECONDS) -> str | None:
    """Returns why the files cannot be fetched, or None where every host answers.

    One request for the headers of one file of each host, all at the same time, in threads that are left
    behind where a name server does not answer. Proxies of the environment are used, as TFDS does.
    """
    probes = {urllib.parse.urlsplit(url).hostname: url for url in urls if url.startswith("http")}
    answers: queue.Queue[str | None] = queue.Queue()
    for url in probes.values():
        threading.Thread(target=_try, args=(url, answers), daemon=True).start()
    for _ in probes:
        try:
            reason = answers.get(timeout=seconds)
        except queue.Empty:
            return f"no answer from {', '.join(map(str, probes))} within {seconds:g} seconds"
        if reason:
            return reason
    return None
