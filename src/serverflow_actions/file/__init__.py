"""Files of an app, handled as the app's own user."""
