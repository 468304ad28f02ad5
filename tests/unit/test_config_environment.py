from serverflow_cli.config.environment import VARIABLES, Settings, forget_environment, read_environment


def test_reads_its_own_variables_only() -> None:
    env = {name: name.lower() for name in VARIABLES} | {"SF_OTHER": "x", "HOME": "/root"}
    assert read_environment(env) == Settings(
        "sf_fleet", "sf_key", "sf_key_file", "sf_ssh_key_file", "sf_seal_key", "sf_root"
    )
    assert read_environment({"SF_OTHER": "x"}) == Settings()


def test_forgets_them() -> None:
    env = dict.fromkeys(VARIABLES, "x") | {"HOME": "/root"}
    forget_environment(env)
    forget_environment(env)
    assert env == {"HOME": "/root"}


def test_keys_stay_out_of_repr() -> None:
    shown = repr(read_environment({"SF_KEY": "hunter2", "SF_SEAL_KEY": "hunter3", "SF_FLEET": "/fleet"}))
    assert "hunter" not in shown and "/fleet" in shown
