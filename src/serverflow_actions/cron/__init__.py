"""Jobs on a schedule: commands of apps and predefined actions, with a history."""
