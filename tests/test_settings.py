from pathlib import Path

import pytest

from tidegate.errors import UsageError
from tidegate.settings import PREFIX, Settings, documented, load_settings, source_variable, variables

CHECKOUT = Path(__file__).resolve().parents[1]


def test_env_example_documents_every_knob_once_and_no_other() -> None:
    assert sorted(documented((CHECKOUT / ".env.example").read_text())) == sorted(variables())


def test_every_knob_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_env_example_sets_nothing_as_it_stands() -> None:
    lines = (CHECKOUT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_defaults_that_env_example_shows_are_the_defaults() -> None:
    lines = (CHECKOUT / ".env.example").read_text().splitlines()
    shown = dict(line.removeprefix("# ").split("=", 1) for line in lines if line.startswith(f"# {PREFIX}"))
    for field in ("airflow_username", "airflow_parallelism", "duckdb_memory", "log_level"):
        assert shown[PREFIX + field.upper()] == str(Settings.model_fields[field].default)


def test_a_misspelt_variable_is_refused_with_the_right_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_URI", "postgresql://localhost/x")
    with pytest.raises(UsageError, match="did you mean TIDEGATE_WAREHOUSE_URL"):
        load_settings()


def test_a_misspelt_line_of_the_env_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("TIDEGATE_NONSENSE=1\nSOMETHING_ELSE=2\n")
    with pytest.raises(UsageError, match="TIDEGATE_NONSENSE"):
        load_settings(home=tmp_path)


def test_a_refused_value_is_named_but_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_AIRFLOW_PARALLELISM", "hunter2")
    with pytest.raises(UsageError, match="TIDEGATE_AIRFLOW_PARALLELISM") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_the_environment_wins_over_env_and_env_over_what_up_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "env").write_text("TIDEGATE_LOG_LEVEL=INFO\nTIDEGATE_SPARK_REMOTE=sc://localhost:1\n")
    (tmp_path / ".env").write_text("TIDEGATE_LOG_LEVEL=DEBUG\nTIDEGATE_AIRFLOW_PARALLELISM=7\n")
    monkeypatch.setenv("TIDEGATE_AIRFLOW_PARALLELISM", "9")
    settings = load_settings(project=tmp_path, home=tmp_path / "home")
    found = (settings.spark_remote, settings.log_level, settings.airflow_parallelism)
    assert found == ("sc://localhost:1", "DEBUG", 9)


def test_the_address_of_a_source_is_found_by_the_name_of_its_server_and_shown_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env").write_text("TIDEGATE_SOURCE_TILL_1_URL=postgresql://a:hunter2@localhost/x\n")
    monkeypatch.setenv("TIDEGATE_SOURCE_WEB_SHOP_EU_URL", "https://b:hunter2@h/x")
    settings = load_settings(home=tmp_path)
    assert source_variable("web-shop.eu") == "TIDEGATE_SOURCE_WEB_SHOP_EU_URL"
    found = [settings.source_url(server) for server in ("till-1", "web-shop.eu", "elsewhere")]
    assert [url and url.get_secret_value() for url in found] == [
        "postgresql://a:hunter2@localhost/x",
        "https://b:hunter2@h/x",
        None,
    ]
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.source_urls}"
