"""Which server a command means."""

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.cli.contexts import Contexts, find_place, read_contexts, write_contexts
from cador.cli.output import Failure

NAME = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=20)


@given(st.dictionaries(NAME, st.tuples(NAME, NAME), max_size=4), st.data())
def test_contexts_come_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, known: dict, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("c") / "cador" / "contexts.toml"
    current = data.draw(st.sampled_from([*known, ""]))
    write_contexts(path, Contexts(current, known))
    assert read_contexts(path) == Contexts(current, known)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def env(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "CADOR_DATA": str(tmp_path / "data"), **more}


def local_server(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:1/", "pid": 1, "version": "x"}))
    (tmp_path / "data" / "admin-token").write_text("local-token\n")


def remembered(tmp_path: Path, current: str) -> None:
    known = {"one": ("http://one", "token-one"), "two": ("http://two", "token-two")}
    write_contexts(tmp_path / "config" / "cador" / "contexts.toml", Contexts(current, known))


def test_the_server_of_this_machine_when_nothing_is_named(tmp_path: Path) -> None:
    local_server(tmp_path)
    place = find_place(env(tmp_path))
    assert (place.url, place.token) == ("http://127.0.0.1:1", "local-token")


def test_a_context_beats_the_local_server(tmp_path: Path) -> None:
    local_server(tmp_path)
    remembered(tmp_path, "two")
    assert find_place(env(tmp_path)).token == "token-two"
    assert find_place(env(tmp_path, CADOR_CONTEXT="one")).url == "http://one"


def test_the_environment_beats_all(tmp_path: Path) -> None:
    remembered(tmp_path, "two")
    place = find_place(env(tmp_path, CADOR_URL="http://three/", CADOR_TOKEN="t"))
    assert (place.url, place.token) == ("http://three", "t")


def test_a_remembered_token_never_goes_to_another_server(tmp_path: Path) -> None:
    local_server(tmp_path)
    remembered(tmp_path, "two")
    assert find_place(env(tmp_path, CADOR_URL="http://evil")).token == ""
    assert find_place(env(tmp_path, CADOR_URL="http://one")).token == "token-one"


def test_no_server_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cador serve") as caught:
        find_place(env(tmp_path))
    assert caught.value.code == 3


def test_an_unknown_context_names_the_known(tmp_path: Path) -> None:
    remembered(tmp_path, "two")
    with pytest.raises(Failure, match="known: one, two"):
        find_place(env(tmp_path, CADOR_CONTEXT="thre"))


@pytest.mark.parametrize("text", ["current = 1 2", "contexts = 3", "[contexts.a]\nurl = 'x'", "[contexts]\na = 1"])
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "contexts.toml"
    path.write_text(text)
    with pytest.raises(Failure, match="is damaged"):
        read_contexts(path)


def test_a_place_does_not_show_its_token(tmp_path: Path) -> None:
    local_server(tmp_path)
    assert "local-token" not in repr(find_place(env(tmp_path)))
