"""Routes of the view of the same name."""

ROUTES: list = []
