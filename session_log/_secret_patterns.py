"""What secrets look like: the formats that their issuers document, and how people write them down. Pure.

Each pattern has a name, the words without which it cannot match (of lower-case text, looked for first, as that is
cheap), and an expression whose group ``secret`` (see :func:`secret_group`), or else all of it, is the secret. They are
to be linear: an expression starts at a literal, and not inside a run it could have started in before (a look-behind
sees to it); what it repeats is possessive, or ends at a character that the repeated class does not have.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

_START: Final = r"(?<![A-Za-z0-9_])"
_END: Final = r"(?![A-Za-z0-9])"
_EDGE: Final = r"(?<![A-Za-z0-9_-])"
MIN_BARE: Final = 6
"""The shortest value without quotes that is taken for a password."""


class Pattern(NamedTuple):
    """One kind of secret. ``is_secret`` has the last word on what the expression found."""

    name: str
    hints: tuple[str, ...]
    expression: str
    is_secret: Callable[[re.Match[str]], bool] | None = None


_NAMES: Final = (
    r"passw(?:or)?d|passwd|passphrase|pwd|api[ _-]?key|secret(?:[_-]?access)?(?:[_-]?key)?|private[_-]?key|"
    r"(?:access|auth|refresh|session|bearer|api)[_-]?token|access[_-]?key"
)
_PLACEHOLDER: Final = re.compile(
    r"\[redacted: [a-z0-9 _-]+\]|[*.x•_-]+|<.*>|\$\{.*\}|\$\(.*\)|\$(?-i:[A-Z0-9_]+)|%\w+%|%s|\{.*\}|"
    r"your[_ -].*|change[_-]?me|example|placeholder|todo|"
    r"string|str|text|type|required|optional|none|null|nil|undefined|true|false|env|prompt|hidden|" + _NAMES,
    re.IGNORECASE | re.DOTALL,
)
"""What stands where a secret would, and is none."""
_CODE: Final = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*")


def secret_group(found: re.Match[str]) -> str | int:
    """Return which group of a match is the secret; 0 if all of it is."""
    for name in ("secret", "double", "single", "escaped"):
        if name in found.re.groupindex and found[name] is not None:
            return name
    return 0


def is_placeholder(text: str) -> bool:
    """Tell whether a text stands in the place of a secret, and is none."""
    return not text or _PLACEHOLDER.fullmatch(text) is not None


def _has_digit(found: re.Match[str]) -> bool:
    return any("0" <= letter <= "9" for letter in found["secret"])


def _is_password(found: re.Match[str]) -> bool:
    return not is_placeholder(found["secret"])


def _is_assigned(found: re.Match[str]) -> bool:
    """Tell a value without quotes from code and prose: ``password=hunter2``, not ``password=form.password``."""
    if found["secret"] is None:
        return not is_placeholder(found[secret_group(found)])
    value, rest = found["secret"], found.string[found.end() : found.end() + 1]
    if len(value) < MIN_BARE or is_placeholder(value) or rest in ("(", "["):  # a call, an index
        return False
    tight = found["assign"] == "="
    if _CODE.fullmatch(value) is None:
        return _has_digit(found) or (tight and any(map(str.isalnum, value)))
    if "." in value:  # a path to a value
        return False
    return _has_digit(found) or (tight and rest not in (",", ")"))


_NAME_HINTS: Final = (
    *("passw", "passphrase", "pwd", "secret", "api key", "apikey", "api_key", "api-key"),
    *("privatekey", "private_key", "private-key", "accesskey", "access_key", "access-key"),
    *(
        f"{kind}{dash}token"
        for kind in ("access", "auth", "refresh", "session", "bearer", "api")
        for dash in ("", "_", "-")
    ),
)
_ASSIGNED: Final = (
    rf"""(?i:{_NAMES})[\\"']*+(?P<assign>[ \t]*+[:=][ \t]*+)(?:"(?P<double>(?:[^"\\\r\n]|\\.)*+)(?=")"""
    r"""|'(?P<single>(?:[^'\\\r\n]|\\.)*+)(?=')|\\++["'](?P<escaped>[^"'\\\r\n]++)(?=\\)"""
    rf"""|(?!(?i:{_NAMES})[\\"']*+[ \t]*+[:=])(?P<secret>[^\s"'`\\,;&<>()\[\]{{}}|=:]++))"""
)
PATTERNS: Final[tuple[Pattern, ...]] = (
    # RFC 7468, RFC 1421 (headers), RFC 4880 (PGP). The second form: cut off before its end. Line ends may be escaped.
    Pattern(
        "private key",
        ("private key",),
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[A-Za-z0-9+/=:,.()\s\\]|-(?!----))*+-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"|(?:\s|\\[nr])*+(?:[A-Za-z0-9+/=]{16,}+(?:\s|\\[nr])*+)++)",
    ),
    # AWS, "IAM identifiers": AKIA (access key), ASIA (temporary), ABIA (bearer), ACCA (context), and 16 more.
    Pattern(
        "aws access key", ("akia", "asia", "abia", "acca"), rf"{_START}(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{16}}{_END}"
    ),
    # 40 characters of base64 look like anything: only where they are called so.
    Pattern(
        "aws secret key",
        ("secret",),
        r"""(?i:aws[_-]?secret[_-]?(?:access[_-]?)?key|secretaccesskey)[\\"']*+[ \t]*+[:=][ \t]*+[\\"']*+"""
        r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
    ),
    # GitHub, "Behind GitHub's new authentication token formats"; fine-grained ones: github_pat_.
    Pattern(
        "github token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), rf"{_START}gh[pousr]_[A-Za-z0-9]{{36,255}}+{_END}"
    ),
    Pattern("github token", ("github_pat_",), rf"{_START}github_pat_[A-Za-z0-9_]{{22,255}}+{_END}"),
    # GitLab, "Token prefixes".
    Pattern(
        "gitlab token",
        ("gl",),
        rf"{_EDGE}gl(?:pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-[A-Za-z0-9_.-]{{20,}}+",
    ),
    # Slack, "Token types", and incoming webhooks.
    Pattern(
        "slack token",
        ("xox", "xapp"),
        rf"{_EDGE}(?:xox[abceoprs]|xapp)-[A-Za-z0-9-]{{10,}}+",
    ),
    Pattern(
        "slack webhook", ("hooks.slack.com",), r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}+"
    ),
    # Stripe, "API keys", and the secrets of webhooks.
    Pattern(
        "stripe key", ("_live_", "_test_", "whsec_"), rf"{_START}(?:(?:sk|rk)_(?:live|test)|whsec)_[A-Za-z0-9]{{16,}}+"
    ),
    # Anthropic, before OpenAI: it begins as theirs.
    Pattern("anthropic key", ("sk-ant-",), rf"{_EDGE}sk-ant-[A-Za-z0-9_-]{{20,}}+"),
    # OpenAI: sk- and letters and digits; later ones say what they are for. (OpenRouter: sk-or-v1-.)
    Pattern("openai key", ("sk-",), rf"{_EDGE}sk-(?:proj|svcacct|admin|None|or-v1)-[A-Za-z0-9_-]{{20,}}+"),
    Pattern("openai key", ("sk-",), rf"{_EDGE}sk-[A-Za-z0-9]{{20,}}+(?![A-Za-z0-9_-])"),
    # Google Cloud, "API keys"; OAuth client secrets and access tokens.
    Pattern("google api key", ("aiza",), rf"{_EDGE}AIza[A-Za-z0-9_-]{{35}}(?![A-Za-z0-9_-])"),
    Pattern(
        "google token", ("gocspx-", "ya29."), rf"{_EDGE}(?:GOCSPX-[A-Za-z0-9_-]{{20,}}+|ya29\.[A-Za-z0-9_-]{{20,}}+)"
    ),
    # npm, "new access token format"; PyPI (macaroons of pypi.org), Hugging Face.
    Pattern("npm token", ("npm_",), rf"{_START}npm_[A-Za-z0-9]{{36}}{_END}"),
    Pattern("pypi token", ("pypi-",), rf"{_EDGE}pypi-[A-Za-z0-9_-]{{50,}}+"),
    Pattern("hugging face token", ("hf_",), rf"{_START}hf_[A-Za-z0-9]{{30,}}+{_END}"),
    # RFC 7519, 7515: three parts of base64url; the first two are objects, which begin with eyJ.
    Pattern("jwt", ("eyj",), rf"{_EDGE}eyJ[A-Za-z0-9_-]{{8,}}+\.eyJ[A-Za-z0-9_-]{{4,}}+\.[A-Za-z0-9_-]{{10,}}+"),
    # RFC 3986, 3.2.1: userinfo. Up to the last @ before the path: passwords hold @ that should have been escaped.
    Pattern(
        "password",
        ("://",),
        r"""://[^\s/?#:@"'<>`\\]*+:(?P<secret>[^\s/?#"'<>`\\]+)@""",
        _is_password,
    ),
    # RFC 7617, RFC 6750, and what others put there (GitHub: token).
    Pattern(
        "authorization",
        ("authorization",),
        r"""(?i:authorization)[\\"']*+[ \t]*+[:=][ \t]*+[\\"']*+(?i:bearer|basic|token|digest|apikey)[ \t]++"""
        r"(?P<secret>[A-Za-z0-9._~+/=-]{6,}+)",
    ),
    Pattern("bearer token", ("bearer",), r"(?i:\bbearer)[ \t]++(?P<secret>[A-Za-z0-9._~+/=-]{16,}+)", _has_digit),
    # What is called a password: in quotes, in escaped ones, and in none.
    Pattern("password", _NAME_HINTS, _ASSIGNED, _is_assigned),
)
"""The more telling first: what one has replaced, the later ones do not see."""
SECRET_NAME: Final = (
    rf"(?i:(?:.*[^a-z])?(?:{_NAMES}|authorization))"
    r"|.*[a-z](?:Password|Secret|(?:Api|Secret|Private|Access)Key|(?:Access|Auth|Refresh|Session)Token)"
)
"""A key of an object whose value is a secret, whatever it looks like."""


@cache
def compiled(expression: str) -> re.Pattern[str]:
    """Return an expression compiled, when it is first needed."""
    return re.compile(expression)
