"""Every number a run depends on: pydantic models (profile.py), and the profiles that fill them (*.yaml)."""

from promptcot_assets.settings.profile import Settings, SettingsError, home, load_settings, profile_name

__all__ = ["Settings", "SettingsError", "home", "load_settings", "profile_name"]
