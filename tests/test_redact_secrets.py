"""The ready-made redactor: finds what issuers document, leaves what is none, in linear time.

The secrets here are made up, and put together when the tests run: scanners of repositories would report them.
"""

import base64
import hashlib
import inspect
import re
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import session_log
from session_log import CallerError
from session_log._secret_patterns import PATTERNS, SECRET_NAME
from session_log.redaction import Redactor, redact_secrets

MIXED = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7" * 8
UPPER = "A2B3C4D5E6F7G2H3J4K5"
HEX = hashlib.sha256(b"a").hexdigest()
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890"}', bytes(range(32)))
)
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{MIXED[:64]}\n{MIXED[64:128]}\n{MIXED[:20]}==\n-----END RSA PRIVATE KEY-----"

SECRETS = {
    "AKIA" + UPPER[:16]: "aws access key",
    "ASIA" + UPPER[:16]: "aws access key",
    "ghp_" + MIXED[:36]: "github token",
    "gho_" + MIXED[:36]: "github token",
    "ghs_" + MIXED[:36]: "github token",
    "github_pat_" + MIXED[:22] + "_" + MIXED[:59]: "github token",
    "glpat-" + MIXED[:20]: "gitlab token",
    "xoxb-" + "123456789012-1234567890123-" + MIXED[:24]: "slack token",
    "xoxp-" + "1234567890-" + MIXED[:24]: "slack token",
    "xapp-" + "1-A0B1C2-" + MIXED[:24]: "slack token",
    "sk_live_" + MIXED[:24]: "stripe key",
    "rk_test_" + MIXED[:24]: "stripe key",
    "sk-" + MIXED[:48]: "openai key",
    "sk-proj-" + MIXED[:60] + "_" + MIXED[:60]: "openai key",
    "sk-ant-" + "api03-" + MIXED[:80] + "-_" + MIXED[:10]: "anthropic key",
    "AIza" + MIXED[:35]: "google api key",
    "GOCSPX-" + MIXED[:28]: "google token",
    "npm_" + MIXED[:36]: "npm token",
    "pypi-" + "AgEIcHlwaS5vcmc" + MIXED[:100]: "pypi token",
    "hf_" + MIXED[:34]: "hugging face token",
    JWT: "jwt",
    PEM: "private key",
    PEM.replace("\n", "\\n"): "private key",
    PEM.replace("RSA ", "").replace("\n", "\r\n"): "private key",
}
"""Each on its own: what it is replaced by."""

IN_CONTEXT = {
    "aws_secret_access_key = " + MIXED[:38] + "/+": "aws_secret_access_key = [redacted: aws secret key]",
    '"SecretAccessKey": "' + MIXED[:40] + '"': '"SecretAccessKey": "[redacted: aws secret key]"',
    "postgres://ann:hunter2@db.example.org/x": "postgres://ann:[redacted: password]@db.example.org/x",
    "https://ann:p@ss:w@example.org/?q=1": "https://ann:[redacted: password]@example.org/?q=1",
    "redis://:hunter2@cache:6379": "redis://:[redacted: password]@cache:6379",
    "Authorization: Bearer abc.def-123": "Authorization: Bearer [redacted: authorization]",
    "-H 'authorization: Basic YW5uOmh1bnRlcjI='": "-H 'authorization: Basic [redacted: authorization]'",
    '{"Authorization": "token 0123456789"}': '{"Authorization": "token [redacted: authorization]"}',
    "curl -H bearer " + MIXED[:20]: "curl -H bearer [redacted: bearer token]",
    "password=hunter2": "password=[redacted: password]",
    "DB_PASSWORD=correcthorse\nx=1": "DB_PASSWORD=[redacted: password]\nx=1",
    "https://x.org/?user=a&api_key=abc123def&b=1": "https://x.org/?user=a&api_key=[redacted: password]&b=1",
    "password: hunter2": "password: [redacted: password]",
    '{"password":"correct horse"}': '{"password":"[redacted: password]"}',
    '"say \\"x\\"", "api_key": "a \\"b\\" c"': '"say \\"x\\"", "api_key": "[redacted: password]"',
    '{\\"client_secret\\":\\"hunter2\\"}': '{\\"client_secret\\":\\"[redacted: password]\\"}',
    "api_key = 'k-1'": "api_key = '[redacted: password]'",
    "password=secret=hunter2": "password=secret=[redacted: password]",
    "password='' pwd=hunter2": "password='' pwd=[redacted: password]",
    "access_token=0123456789": "access_token=[redacted: password]",
    "-----BEGIN PRIVATE KEY-----\n" + MIXED[:64] + "\n" + MIXED[:30] + " (cut": "[redacted: private key](cut",
}
"""Only the secret goes, and what it is called stays."""

NO_SECRETS = [
    "",
    "Change the password in settings; the API key is on the next page, and so is the secret.",
    "The password must have at least 8 characters: letters, digits and signs.",
    "password: must not be empty",
    'def login(user: str, password: str = "") -> Token:\n    return post(password=password, token=token)',
    "client = Client(api_key=os.environ['API_KEY'], password=config.password, secret=get_secret())",
    "api_key = settings.api_key\npassword = getpass()\nsecret = None",
    "export API_KEY=${API_KEY}\npassword=$1\nPASSWORD={{ password }}\npassword=<your password>",
    '{"password": "", "api_key": null, "properties": {"password": {"type": "string"}}, "secret": "string"}',
    '<input type="password" name="password" placeholder=\'Password:\'>',
    "if password == other: raise",
    "--password=config.db.password --api-key=settings.v2.key\n",
    "commit " + HEX[:40] + "\nsha256:" + HEX,
    str(uuid.UUID(int=7)) + " 01971f3a-7c00-7abc-8def-0123456789ab",
    "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 8).decode(),
    "ssh-rsa " + base64.b64encode(b"\0\0\0\x07ssh-rsa" + bytes(200)).decode() + " ann@example.org",
    "-----BEGIN PUBLIC KEY-----\n" + MIXED[:64] + "\n-----END PUBLIC KEY-----",
    "a line that says -----BEGIN PRIVATE KEY----- begins a key",
    "https://example.org:8080/a@b http://[::1]:80/ mailto:a@b.org ssh://git@github.com:22/a/b.git",
    "sk-learn sk-fading-circle-container-of-spinners task-1234567890123456789012345 risk-aversion",
    "ghp_short npm_config_registry pypi-server hf_hub_download AKIAshort xoxb- eyJ eyJhbGci.eyJ.x",
    "max_tokens=100000 next_page_token=CAEQAA tokens: 12 key=value1234 keyboard: qwerty1 primary_key=user_id9",
    "Bearer authentication-with-opaque-tokens is described in RFC 6750",
    "npm install --save-dev npm_lib; sk_test_ _live_ rk_",
    "[redacted: aws access key] password=[redacted: password]",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "a {} b", '"{}"', "x={};", "({})", "\n{}\n", "see {}, or", "<{}>"])
def test_a_secret_is_replaced_by_what_it_was(secret: str, around: str) -> None:
    """Whatever stands around it, and nothing but it."""
    assert redact_secrets(around.format(secret)) == around.format(f"[redacted: {SECRETS[secret]}]")


@pytest.mark.parametrize("text", IN_CONTEXT)
def test_a_secret_that_only_its_place_gives_away(text: str) -> None:
    """Passwords look like anything: what they are called, or where they stand, tells."""
    assert redact_secrets(text) == IN_CONTEXT[text]


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_is_no_secret_stays(text: str) -> None:
    """Hashes, ids, images, public keys, prose, and code that handles passwords without holding one."""
    assert redact_secrets(text) == text


def test_the_source_of_this_library_has_no_secrets() -> None:
    """A body of real code and prose: nothing in it is taken for a secret, but for the examples of the redaction."""
    folder = Path(inspect.getfile(session_log)).parent
    texts = [path for path in folder.rglob("*") if path.suffix in (".py", ".md")]

    assert len(texts) > 70
    for path in texts:
        if path.name not in ("redaction.py", "_secret_patterns.py"):
            text = path.read_text("utf-8")
            assert redact_secrets(text) == text, path


pieces = st.lists(
    st.sampled_from(
        [*SECRETS, *IN_CONTEXT, *NO_SECRETS, *'"\\ \n=:@-_.', "password", "://a:", "eyJ", "sk-", " bearer "]
    )
    | st.text(max_size=5),
    max_size=6,
)


@given(pieces)
def test_twice_is_once(parts: list[str]) -> None:
    """What was redacted holds nothing to redact, however secrets and half secrets stand together."""
    once = redact_secrets("".join(parts))
    assert redact_secrets(once) == once


def test_a_secret_that_shows_when_its_neighbour_is_gone() -> None:
    """A key of 40 characters is one when nothing of its kind follows: a token that did is replaced first."""
    text = f"aws_secret_access_key={MIXED[:38]}/+xoxb-1234567890-{MIXED[:20]}."
    assert redact_secrets(text) == "aws_secret_access_key=[redacted: aws secret key][redacted: slack token]."


@given(pieces, st.sampled_from(sorted(SECRETS)), pieces)
def test_no_secret_comes_through(before: list[str], secret: str, after: list[str]) -> None:
    """Between other texts, with a space at both sides, a secret is never on the other side as it was."""
    assume(secret not in "".join(before) and secret not in "".join(after))  # glued to letters it is another word
    assert secret not in redact_secrets(" ".join(("".join(before), secret, "".join(after))))


HOSTILE = [
    "a", " ", "-", "eyJ", "eyJ.", "eyJaaaaaaaaa.eyJaaaa.", "://", "://a:", "://a:b", "a:b@", "sk-", "sk-ant-",
    "password", "password=", 'password="', 'password="\\', "password='a\" ", "password \t", "password\\",
    "secret_access_", "api_key:",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n" + MIXED[:20], "-----BEGIN ", "bearer ", "bearer",
    "authorization: bearer ", "authorization: ", "ghp_", "ghp_a", "xoxb-", "AKIA", "AIza", "npm_" + MIXED[:36],
    "glpat-",
    "hooks.slack.com/a/", "pypi-a", "aws_secret_access_key=", "\\n", "password=a", "pwd=1 ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_time_grows_with_the_length_and_not_with_its_square(piece: str) -> None:
    """Eight times the text takes eight times the time, with much room; its square would be 64 times."""

    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        found = []
        for _ in range(2):
            began = time.process_time()
            redact_secrets(text)
            found.append(time.process_time() - began)
        return min(found)

    short, long = seconds(1 << 15), seconds(1 << 18)
    assert long < 30 * short + 0.05


def test_a_megabyte_of_prose_is_looked_at_once() -> None:
    """Counted: a pattern whose words are not in a text is not tried, and nothing is looked at again."""
    text = "no hints in here, a b c d\n" * 41_000
    assert len(text) > 1 << 20
    assert not any(hint in text for pattern in PATTERNS for hint in pattern.hints)

    assert redact_secrets(text) is text


def test_patterns_of_your_own_and_texts_to_leave() -> None:
    """A name says what was there; a group ``secret`` keeps what is around it; an allow list is exact."""
    own = Redactor({"acme key": r"acme_[a-z0-9]{8}", "pin": r"pin (?P<secret>\d{4})\b"}, allow=["AKIA" + UPPER[:16]])

    assert own("acme_0123abcd, pin 1234.") == "[redacted: acme key], pin [redacted: pin]."
    assert own(f"AKIA{UPPER[:16]} AKIA{UPPER[1:17]}") == f"AKIA{UPPER[:16]} [redacted: aws access key]"
    assert own(own("acme_0123abcd")) == own("acme_0123abcd")
    odd = Redactor({"edacted": "edacte", "one": r"\[|\]"})
    assert odd(odd("redacted [a]")) == odd("redacted [a]") == "r[redacted: edacted]d [redacted: one]a[redacted: one]"
    assert Redactor({"x": "y"}, known=False)("y AKIA" + UPPER[:16]) == "[redacted: x] AKIA" + UPPER[:16]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"x": "("}, "is no regular"),
        ({"x": "a*"}, "matches the empty"),
        ({"X]": "a"}, "is no label"),
        ({"x": 1}, "is no regular"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused(patterns: dict[str, str], message: str) -> None:
    """At once, and not with the first text."""
    with pytest.raises(CallerError, match=message):
        Redactor(patterns)


@pytest.mark.parametrize(
    "key", ["password", "DB_PASSWORD", "apiKey", "x-api-key", "client_secret", "accessToken", "userPassword"]
)
def test_a_member_that_is_called_a_secret_is_one(key: str) -> None:
    """Whatever it looks like; but a placeholder is none, and what is allowed stays."""
    assert redact_secrets.member(key, "correct horse") == "[redacted: password]"
    assert redact_secrets.member(key, "$ecret, and AKIA" + UPPER[:16]) == "[redacted: password]"
    assert redact_secrets.member(key, "AKIA" + UPPER[:16]) == "[redacted: aws access key]"
    assert redact_secrets.member(key, "${SECRET}") == "${SECRET}"
    assert redact_secrets.member(key, "") == ""
    assert redact_secrets.member(key, "[redacted: password]") == "[redacted: password]"
    assert Redactor(allow="correct horse").member(key, "correct horse") == "correct horse"
    assert Redactor(known=False).member(key, "correct horse") == "correct horse"


@pytest.mark.parametrize(
    "key", ["path", "key", "token", "nextPageToken", "password_hint", "has_secrets", "monkey", "tokens", ""]
)
def test_a_member_that_is_called_otherwise_is_looked_at_as_a_text(key: str) -> None:
    """Only the names of secrets tell."""
    assert re.fullmatch(SECRET_NAME, key) is None
    assert redact_secrets.member(key, "correct horse") == "correct horse"
    assert redact_secrets.member(key, "AKIA" + UPPER[:16]) == "[redacted: aws access key]"
    assert Redactor(names=[key.lower()]).member(key, "1234") == "[redacted: password]"
