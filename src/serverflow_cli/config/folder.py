"""Where the fleet folder is, and what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError


@dataclass(frozen=True)
class FleetFolder:
    """A folder that holds a fleet.toml. Nothing in it is private: it is made to be committed to git."""

    path: Path

    @property
    def fleet_toml(self) -> Path:
        return self.path / "fleet.toml"

    @property
    def pins_toml(self) -> Path:
        return self.path / "pins.toml"

    @property
    def trust(self) -> Path:
        return self.path / "trust"

    @property
    def secrets_toml(self) -> Path:
        return self.path / "secrets.toml"


def find(explicit: str | None, env: Mapping[str, str], cwd: Path | None = None) -> FleetFolder:
    """The fleet to work on: `--fleet`, else SF_FLEET, else the nearest fleet.toml upward, else the user's own.

    What was named must exist: falling back to another fleet would change the wrong servers.

    Raises ConfigError.
    """
    for named, origin in ((explicit, "--fleet"), (env.get("SF_FLEET"), "SF_FLEET")):
        if named:
            path = Path(named).absolute()
            folder = FleetFolder(path.parent if path.name == "fleet.toml" else path)
            if not _is_fleet(folder):
                raise ConfigError(f"{origin}: there is no {folder.fleet_toml}", hint=f"sf init {folder.path}")
            return folder
    here = cwd or Path.cwd()
    fallback = FleetFolder(config_dir())
    for folder in (*map(FleetFolder, (here, *here.parents)), fallback):
        if _is_fleet(folder):
            return folder
    raise ConfigError(f"no fleet.toml here, in a folder above, or in {fallback.path}", hint="sf init")


def _is_fleet(folder: FleetFolder) -> bool:
    try:
        return folder.fleet_toml.is_file()
    except (OSError, ValueError):  # a folder that is closed to us; a name with a NUL in it
        return False


def config_dir() -> Path:
    """The user's config folder for ServerFlow; $XDG_CONFIG_HOME is honoured. It may not exist yet."""
    from platformdirs import user_config_path

    return user_config_path("serverflow")


def data_dir() -> Path:
    """Private keys and the trust anchors; $XDG_DATA_HOME is honoured. It may not exist yet."""
    from platformdirs import user_data_path

    return user_data_path("serverflow")


def state_dir() -> Path:
    """Receipts and logs; $XDG_STATE_HOME is honoured. It may not exist yet."""
    from platformdirs import user_state_path

    return user_state_path("serverflow")
