"""The fields of the settings, in groups: each with its variable, default, meaning and readers in one place."""
