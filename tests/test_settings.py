"""Settings: sources, types, and errors that say what would be right."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.settings import NOT_SETTINGS, Settings, SettingsError, data_folder, load, walk


def test_a_later_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "cador.toml"
    file.write_text('listen = "127.0.0.1:1"\nlanguage = "en"\n[engine]\nmax_jobs = 3\nmax_jobs_per_stage = 4\n')
    environ = {"CADOR_DATA": str(tmp_path), "CADOR_LISTEN": "127.0.0.1:2", "CADOR_ENGINE__MAX_JOBS": "5"}
    made = load({"listen": "127.0.0.1:3", "base_url": None}, environ)
    assert made.data == tmp_path
    assert made.listen == "127.0.0.1:3"
    assert made.engine.max_jobs == 5
    assert made.engine.max_jobs_per_stage == 4
    assert made.language == "en"


def test_the_file_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("strict_inputs = true\n[log]\nformat = 'json'\n")
    assert load({}, {}, config=file).strict_inputs
    assert load({}, {"CADOR_CONFIG": str(file)}).log.format == "json"
    assert load({}, {"CADOR_CONFIG": str(file), "CADOR_LOG__FORMAT": "text"}).log.format == "text"
    with pytest.raises(SettingsError, match="cannot be read"):
        load({}, {}, config=tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"CADOR_LISEN": "x"}, "CADOR_LISEN: unknown setting lisen; did you mean listen?"),
        ({"CADOR_ENGINE__MAX_JOB": "1"}, "did you mean engine.max_jobs?"),
        ({"CADOR_ENGINE__MAX_JOBS": "0"}, "CADOR_ENGINE__MAX_JOBS: engine.max_jobs: '0' is not at least 1"),
        ({"CADOR_ENGINE__MAX_JOBS": "1.5"}, "is not a whole number"),
        ({"CADOR_ENGINE__RESOLVE_COMMITS_S": "nan"}, "is not at least 0"),
        ({"CADOR_ENGINE__RESOLVE_COMMITS_S": "inf"}, "is not at most 9007199254740992"),
        ({"CADOR_ENGINE__MAX_JOBS": "9" * 30}, "is not at most 9007199254740992"),
        ({"CADOR_ENGINE__MAX_JOBS": "9" * 5_000}, "is not a whole number"),
        ({"CADOR_AUTH__SESSION_HOURS": "87601"}, "is not at most 87600"),
        ({"CADOR_STRICT_INPUTS": "perhaps"}, "is not true or false"),
        ({"CADOR_LANGUAGE": "de"}, "is not one of zh, en"),
        ({"CADOR_ADMIN_TOKEN": "hunter2hunter2"}, "the value is not at least 20 characters"),
    ],
)
def test_mistakes_name_the_place_and_what_would_be_right(environ: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"data": tmp_path}, environ)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lisen = 'x'", "did you mean listen?"),
        ("engine = 3", "unknown setting engine"),
        ("listen = 3", "listen: 3 is not a text"),
        ("[engine]\nmax_jobs = true", "is not a number"),
        ("[engine]\nmax_jobs = 2.5", "is not a whole number"),
        ("[engine]\nmax_jobs = inf", "is not a whole number"),
        ("listen = \n", "line 1"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "cador.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load({"data": tmp_path}, {})
    assert told in str(caught.value)
    assert str(tmp_path / "cador.toml") in str(caught.value)


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    environ = dict.fromkeys(NOT_SETTINGS[:3], "x") | {"CADOR_TEST_REQUIRE": "all", "CADOR_JOB_DIR": "x", "HOME": "x"}
    assert load({"data": tmp_path}, environ).data == tmp_path


def test_the_data_folder(tmp_path: Path) -> None:
    assert data_folder({"CADOR_DATA": "/x", "XDG_DATA_HOME": "/y"}) == Path("/x")
    assert data_folder({"XDG_DATA_HOME": "/y"}) == Path("/y/cador")
    assert data_folder({}).parts[-3:] == (".local", "share", "cador")


@pytest.mark.parametrize(
    ("listen", "wanted"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        (":80", ("0.0.0.0", 80)),
        ("h.example:1", ("h.example", 1)),
    ],
)
def test_addresses(listen: str, wanted: tuple[str, int]) -> None:
    assert Settings(listen=listen).address == wanted


@pytest.mark.parametrize("listen", ["", "127.0.0.1", "h:port", "h:70000", "h:-1", "h:²", "h:" + "9" * 5_000])
def test_no_addresses(listen: str) -> None:
    with pytest.raises(SettingsError, match="write host:port"):
        _ = Settings(listen=listen).address


def test_secrets_are_not_shown() -> None:
    secret = "s3cret-s3cret-s3cret-s3cret"
    shown = repr(
        Settings(admin_token=secret, admin_password=secret, key=secret, database=f"postgresql://u:{secret}@h/d")
    )
    assert secret not in shown


@given(st.data())
def test_every_number_can_be_set_from_the_environment(data: st.DataObject) -> None:
    numbers = [(name, field) for name, field, kind in walk() if kind is int]
    name, field = data.draw(st.sampled_from(numbers))
    least, most = (int(field.metadata.get(name, 0)) for name in ("least", "most"))
    value = data.draw(st.integers(least, min(most or 2**40, 2**40)))
    made = load({"data": "/nowhere"}, {"CADOR_" + name.upper().replace(".", "__"): str(value)})
    for part in name.split("."):
        made = getattr(made, part)
    assert made == value


def test_lists_are_arrays_in_the_file_and_commas_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "cador.toml"
    file.write_text('[outgoing]\nallow = ["10.0.0.0/8", "ci.corp"]\n')
    made = load({}, {"CADOR_OUTGOING__DENY": " evil.example, ,8.8.8.8"}, config=file)
    assert made.outgoing.allow == ("10.0.0.0/8", "ci.corp")
    assert made.outgoing.deny == ("evil.example", "8.8.8.8")
    file.write_text("[outgoing]\nallow = [1]\n")
    with pytest.raises(SettingsError, match="a list of texts"):
        load({}, {}, config=file)
