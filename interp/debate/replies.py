"""What a server's reply to a request says, which may be anything: a text, or a failure in the server's own words."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from interp.debate.agents import content_text

# In the words of a refusal: that of a system message, that of every request, and when to come back.
_NO_SYSTEM = re.compile(
    r"\bsystem[\W_]{0,3}(?:role|message|prompt|instruction)|(?:role|message)s?\b.{0,60}\bsystem\b|['\"`]system['\"`]|"
    r"developer (?:instruct|messag|role)|\broles? must alternate|assistant roles? (?:is|are) supported",
    re.I,
)
_FOR_ALL = re.compile(
    r"model[_ ]not[_ ](?:found|exist)|model\b.{0,200}?\b(?:does not exist|not found)|(?:invalid|unknown)[_ ]model|"
    r"invalid[_ ]api[_ ]key|api key not valid|insufficient[_ ](?:quota|balance|credits?|funds)|credit balance|"
    r"billing[_ ](?:hard|not)|deactivated",
    re.I,
)
_SPAN = r"(\d{1,12}(?:\.\d{1,12})?) ?(ms|mi(?=lli)|[smhd])[a-z]{0,11}"
_FIELD = r"(?:(?<=after\":)|(?<=after\": ))[\d.]{1,9}"
_HINT = re.compile(rf"(?:again|retry|wait|reset)[^\d.]{{0,30}}((?:{_SPAN}\W{{0,3}}){{1,9}}|{_FIELD})", re.I)
_UNITS = {"ms": 0.001, "mi": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one attempt: the name of a failure, or a text."""

    failure: str = ""
    detail: str = ""
    text: str = ""
    may_pass: bool = True
    """Whether another attempt may succeed."""
    for_all: bool = False
    """Whether every other request would fail too."""
    no_system: bool = False
    """Whether it may be the system message that is refused."""
    wait: float = 0.0
    """Seconds that the server asks to wait."""
    tokens: tuple[int | None, int | None] = (None, None)
    cut: bool = False


def refused(status: int, headers: Mapping[str, str], content: bytes) -> Reply:
    """A reply with any status but success; also what an error in the body of a success amounts to."""
    detail, code = _words(content), f"{_at(_parsed(content), 'error', 'code')} {_at(_parsed(content), 'error', 'type')}"
    return Reply(
        "content filter" if "content_filter" in code else f"status {status}",
        detail,
        may_pass=status >= 500 or status in (408, 409, 425, 429),
        for_all=status in (401, 402, 403, 404, 407) or (status < 500 and bool(_FOR_ALL.search(f"{detail} {code}"))),
        no_system=status != 429 and bool(_NO_SYSTEM.search(detail)),
        wait=_wait(status, headers, content.decode("utf-8", errors="replace")),
    )


def completed(headers: Mapping[str, str], content: bytes) -> Reply:
    """A reply with the status of a success."""
    body = _parsed(content)
    if body is None:
        stream = content.lstrip().startswith((b"data:", b"event:"))
        return Reply("not JSON", ("a stream of events: " if stream else "") + _words(content), may_pass=not stream)
    counts = (_at(body, "usage", name) for name in ("prompt_tokens", "completion_tokens"))
    n_read, n_written = (n if type(n) is int and n >= 0 else None for n in counts)
    tokens, choice = (n_read, n_written), _at(body, "choices", 0)
    message, ended = _at(choice, "message"), str(_at(choice, "finish_reason")).lower()
    if not isinstance(message, dict):
        code = _at(body, "error", "code") or _at(choice, "error", "code")
        error = refused(code if type(code) is int else 200, headers, content)
        return replace(error, failure="no choices", may_pass=error.may_pass or type(code) is not int, tokens=tokens)
    said, cut = message.get("content"), ended in ("length", "max_tokens")
    if (text := content_text(said) or "").strip():
        return Reply(text=text, tokens=tokens, cut=cut or ended == "content_filter")
    parts = [part for part in said if isinstance(part, dict)] if isinstance(said, list) else []
    for name, found in (
        ("empty answer", cut and f"the token limit was reached before any text: {_said(choice)}"),
        ("refusal", message.get("refusal") or next((part["refusal"] for part in parts if part.get("refusal")), None)),
        ("content filter", ended == "content_filter" and choice),
        ("tool call", message.get("tool_calls") or message.get("function_call")),
        ("only reasoning", message.get("reasoning_content") or message.get("reasoning") or parts),
    ):
        if found:  # another attempt with the same seed would end in the same way
            return Reply(name, _said(found), may_pass=False, tokens=tokens)
    return Reply("empty answer", _said(choice), tokens=tokens)


def _parsed(content: bytes) -> Any:
    """The JSON in it; None if there is none."""
    with suppress(ValueError, RecursionError):
        return json.loads(content)
    return None


def _words(content: bytes) -> str:
    """What an error says: its message, or the text of the page."""
    body = _parsed(content)
    for path in (("error", "message"), ("error",), ("message",), ("detail",), ("choices", 0, "error", "message")):
        if isinstance(said := _at(body, *path), str) and said.strip():
            return said
    text = content.decode("utf-8", errors="replace")
    return re.sub(r"<[^<>]*>", " ", text) if body is None else text


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _at(value: Any, *path: str | int) -> Any:
    """What parsed JSON holds at a path; None if there is nothing."""
    try:
        for key in path:
            value = value[key]
        return value
    except (TypeError, KeyError, IndexError):
        return None


def _wait(status: int, headers: Mapping[str, str], text: str) -> float:
    """Seconds that the server asks to wait: in a header, in words, or until limits that are used up are lifted."""
    asked = [headers.get("retry-after", ""), f"{headers.get('retry-after-ms', '')}ms"]
    asked += [found[1] for found in _HINT.finditer(text)][:1]
    for name, value in headers.items() if status == 429 else ():
        if re.search(r"ratelimit.*reset", name) and headers.get(name.replace("reset", "remaining"), "0") == "0":
            asked.append(value)
    return max(map(_seconds, asked))


def _seconds(text: str) -> float:
    """A number of seconds, a time such as `1m30.5s`, or a date (of HTTP, ISO or since 1970), as seconds from now."""
    with suppress(ValueError):
        number = float(text)
        return number if number < 1e9 else max(0.0, number / (1000 if number > 1e11 else 1) - time.time())
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        with suppress(ValueError, OverflowError):
            return max(0.0, read(text.strip()).timestamp() - time.time())
    return sum(float(n) * _UNITS[unit.lower()] for n, unit in re.findall(_SPAN, text, re.I))
