"""Whose account pays: the order in which keys and regions are looked up, and what is never shown."""

from __future__ import annotations

import pytest

from slipstream.errors import UsageError
from slipstream.ingest.archive.credentials import NoAccount, account

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hush"}


def write(home, credentials="", config=""):
    folder = home / ".aws"
    folder.mkdir(exist_ok=True)
    (folder / "credentials").write_text(credentials)
    (folder / "config").write_text(config)


def test_the_region_comes_from_the_flag_then_the_environment_then_the_profile(tmp_path):
    write(tmp_path, config="[default]\nregion = file-1\n[profile work]\nregion = file-2\n")
    environment = {**KEYS, "AWS_DEFAULT_REGION": "env-2", "AWS_REGION": "env-1"}
    assert account(environment, tmp_path, region="flag-1").region == "flag-1"
    assert account(environment, tmp_path).region == "env-1"
    assert account({**KEYS, "AWS_DEFAULT_REGION": "env-2"}, tmp_path).region == "env-2"
    assert account({**KEYS, "AWS_PROFILE": "work"}, tmp_path).region == "file-2"
    assert account(KEYS, tmp_path).region == "file-1"


def test_keys_come_whole_from_one_source(tmp_path):
    held = "[default]\naws_access_key_id = filed\naws_secret_access_key = s\naws_session_token = t\n"
    write(tmp_path, credentials=held, config="[default]\nregion = r\n")
    filed = account({}, tmp_path)
    assert (filed.access_key_id, filed.secret_access_key, filed.session_token) == ("filed", "s", "t")
    given = account(KEYS, tmp_path)
    assert (given.access_key_id, given.secret_access_key, given.session_token) == ("key", "hush", None)
    with pytest.raises(NoAccount, match="belong together"):
        account({"AWS_ACCESS_KEY_ID": "key"}, tmp_path)


def test_other_files_and_profiles_are_honoured(tmp_path):
    config, keys = tmp_path / "c", tmp_path / "k"
    config.write_text("[profile p]\nregion = r9\n")
    keys.write_text("[p]\naws_access_key_id = pk\naws_secret_access_key = ps\n")
    where = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(keys)}
    found = account({**where, "AWS_PROFILE": "p"}, tmp_path)
    assert (found.region, found.access_key_id) == ("r9", "pk")
    with pytest.raises(NoAccount, match="profile default"):
        account(where, tmp_path)


def test_secrets_are_in_no_message_and_no_repr(tmp_path):
    assert "hush" not in repr(account({**KEYS, "AWS_REGION": "r"}, tmp_path))
    write(tmp_path, credentials="[default]\naws_secret_access_key = hush\nhush-hush\n")
    with pytest.raises(UsageError) as caught:
        account({"AWS_REGION": "r"}, tmp_path)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_short_lived_keys_of_a_container_are_left_to_the_store(tmp_path):
    found = account({"AWS_REGION": "r", "AWS_WEB_IDENTITY_TOKEN_FILE": "f"}, tmp_path)
    assert found.access_key_id is None
