import base64
import hashlib
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.masking import MASK, Masker, _Few, _Many

text = st.text(st.characters(exclude_characters="*", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), max_size=30)
secret = st.text(st.characters(exclude_characters="*", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=4)


@given(st.lists(secret, max_size=6), st.lists(text, max_size=6), st.data())
def test_no_secret_is_left_however_they_overlap(secrets: list[str], noise: list[str], data: st.DataObject) -> None:
    pieces = [piece for value in secrets for piece in (value, value[: len(value) // 2], value[len(value) // 2 :])]
    line = "".join(data.draw(st.permutations(pieces + noise)))
    masked = Masker(secrets).mask_text(line)
    assert not [value for value in secrets if value in masked]


@given(text, st.lists(secret, max_size=4))
def test_what_holds_no_secret_stays(line: str, secrets: list[str]) -> None:
    masker = Masker(secrets)
    if masker.clean(line.encode()):
        assert masker.mask_text(line) == line
    assert Masker().mask(b"no secrets at all: a@b") == b"no secrets at all: a@b"


@given(secret, text, text)
def test_around_a_secret_nothing_changes(value: str, before: str, after: str) -> None:
    masker = Masker([value])
    if value not in (before + after) and masker.clean(before.encode()) and masker.clean(after.encode()):
        masked = masker.mask_text(f"{before} [{value}] {after}")
        assert masked == f"{before} [{MASK}] {after}"


@pytest.mark.parametrize("value", ["s3cr3t=with=equals", "pa ss/wo?rd&ä", "密码密码", "x'y\"z\\w", "abcd"])
@pytest.mark.parametrize(
    "write",
    [
        str,
        quote,
        lambda v: quote(v, safe=""),
        quote_plus,
        lambda v: quote_plus(v).lower() if v.isascii() else quote_plus(v),
        lambda v: json.dumps(v)[1:-1],
        lambda v: json.dumps(v, ensure_ascii=False)[1:-1],
        lambda v: base64.b64encode(v.encode()).decode(),
        lambda v: base64.b64encode(f"{v}\n".encode()).decode(),
        lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
        lambda v: base64.urlsafe_b64encode(f"{v}\n".encode()).decode(),
        lambda v: v.replace("'", "'\\''"),
    ],
)
def test_written_forms_are_masked(value: str, write) -> None:
    assert Masker([value, "another one"]).mask_text(f"key: {write(value)}, next") == f"key: {MASK}, next"


@given(st.binary(max_size=9), st.text("abcdefgh0123456789", min_size=12, max_size=40), st.binary(max_size=9))
def test_a_secret_inside_longer_base64_is_masked(before: bytes, value: str, after: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(before + value.encode() + after)
        masked = Masker([value]).mask(whole)
        assert MASK.encode() in masked
        # every character that holds a bit of the secret is gone
        assert len(masked) - len(MASK) <= -(-len(before) * 8 // 6) + -(-len(after) * 8 // 6) + 3


def test_each_line_of_a_key_is_masked_and_its_wrapped_base64() -> None:
    key = "-----BEGIN KEY-----\r\n  b3BlbnNzaC1rZXktdjEAAAA\nabc\nlastlineofthekey\n-----END KEY-----\n"
    masker = Masker([key])
    for line in ("b3BlbnNzaC1rZXktdjEAAAA", "lastlineofthekey", "-----BEGIN KEY-----"):
        assert masker.mask_text(f"> {line} <") == f"> {MASK} <"
    assert masker.mask_text("abc") == "abc"  # short lines are ordinary text
    wrapped = base64.encodebytes(key.strip().encode()).decode().splitlines()
    assert len(wrapped) > 1
    assert masker.mask_text("\n".join(wrapped[:-1])).replace(MASK, "").strip() == ""


@pytest.mark.parametrize("value", ["", "a", "abc", "   ", " abc ", "****", "密码密"])
def test_short_values_are_left_alone(value: str) -> None:
    assert Masker([value]).mask_text("a abc **** 密码密 x") == "a abc **** 密码密 x"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("git clone https://oauth2:tok@git.example.com/a.git", f"git clone https://{MASK}@git.example.com/a.git"),
        ("https://user@h/ ssh://git@h:22/x", f"https://{MASK}@h/ ssh://{MASK}@h:22/x"),
        ("https://u:p@ss@host/x@y", f"https://{MASK}@host/x@y"),
        ("see https://host/path@v2 and mail a@b.c", "see https://host/path@v2 and mail a@b.c"),
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        (f"https://{MASK}@host", f"https://{MASK}@host"),
    ],
)
def test_user_info_of_urls(line: str, shown: str) -> None:
    assert Masker().mask_text(line) == shown
    assert Masker(["not in it"]).mask_text(line) == shown


def test_longest_first_and_overlapping_as_one() -> None:
    assert Masker(["secret", "secretlong"]).mask_text("a secretlong b") == f"a {MASK} b"
    assert Masker(["abcdef", "defghi"]).mask_text("xabcdefghix") == f"x{MASK}x"
    assert Masker(["abcd"]).mask_text("abcdabcd") == MASK * 2


@given(st.text("ab=@/:. xyz", max_size=80), st.lists(st.text("abxyz=", min_size=4, max_size=12), max_size=3), st.data())
def test_cutting_a_line_never_shows_part_of_a_secret(noise: str, secrets: list[str], data: st.DataObject) -> None:
    line = "".join(data.draw(st.permutations([noise[:40], *secrets, noise[40:]]))).encode()
    masker = Masker(secrets)
    limit = data.draw(st.integers(0, len(line)))
    whole, cut = masker.mask(line), masker.mask(line, limit)
    assert whole.startswith(cut)
    assert len(cut) >= min(limit, len(MASK))
    assert len(cut) <= 2 * limit + len(MASK)


@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=4, max_size=9), max_size=3))
def test_the_open_tail_is_the_longest_beginning_of_a_secret(line: str, secrets: list[str]) -> None:
    held = Masker(secrets).open_tail(line.encode())
    begun = [n for n in range(1, len(line) + 1) for s in secrets if len(s) > n and s.startswith(line[-n:])]
    assert held >= max(begun, default=0)
    if not secrets:
        assert held == 0


def test_the_open_tail_holds_begun_user_info() -> None:
    assert Masker().open_tail(b"clone https://user:half") == len(b"://user:half")
    assert Masker().open_tail(b"clone https://host/path") == 0


def test_any_text_goes_through() -> None:
    masker = Masker(["\ud800abcd", "valuevalue"])
    assert masker.mask_text("\ud800abcd \udcff valuevalue") == f"{MASK} \udcff {MASK}"
    assert masker.mask(b"\xff\xfe valuevalue \x00") == b"\xff\xfe ******** \x00"


_WORDS = st.text(alphabet="abc", min_size=4, max_size=9).map(str.encode)


@given(st.lists(_WORDS, min_size=1, max_size=30, unique=True), st.text(alphabet="abc", max_size=60).map(str.encode))
def test_many_patterns_are_found_as_few_are(patterns: list[bytes], text: bytes) -> None:
    few, many = _Few(patterns), _Many(patterns)
    assert list(many.everywhere(text)) == list(few.everywhere(text))
    assert many.somewhere(text) == few.somewhere(text)
    assert many.open_tail(text) == few.open_tail(text)


def test_a_secret_of_thousands_of_lines_is_masked() -> None:
    """By no regular expression: one of so many alternatives takes a minute to compile, and all the server waits."""
    lines = [hashlib.sha256(str(number).encode()).hexdigest()[:20] for number in range(5_000)]
    masker = Masker(["\n".join(lines)])
    assert isinstance(masker._search, _Many)
    for number in (0, 999, 1_000, 4_999):
        assert masker.mask_text(f"a {lines[number]} b") == f"a {MASK} b"
    assert masker.mask_text(f"a {base64.b64encode(lines[7].encode()).decode()} b") == f"a {MASK} b"
    assert masker.mask_text("a quiet line") == "a quiet line"
    assert masker.open_tail(b"x " + lines[4_999][:9].encode()) == 9
