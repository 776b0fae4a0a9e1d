"""Every number a run depends on: pydantic models (profile.py, engines.py), and the profiles that fill them (*.yaml)."""

from promptcot_assets.settings.loading import SettingsError, home, load_settings, profile_name
from promptcot_assets.settings.profile import Settings

__all__ = ["Settings", "SettingsError", "home", "load_settings", "profile_name"]
