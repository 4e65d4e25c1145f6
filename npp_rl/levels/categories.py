"""Names of the level categories, their tiers of difficulty, and groups by what levels hold."""

CATEGORIES = (
    "simplest",
    "simplest_few_mines",
    "simplest_with_mines",
    "simpler",
    "simple",
    "medium",
    "complex",
    "mine_heavy",
    "exploration",
)
# Of drawn levels (drawn.py), which are made for training only: the built-in levels hold none.
DRAWN_CATEGORIES = ("halls", "tubes", "climbs", "landscapes", "symmetric", "contraptions", "moving")
UNCATEGORIZED = "uncategorized"

TIERS = {
    "simplest": "easy",
    "simplest_few_mines": "easy",
    "simplest_with_mines": "easy",
    "simpler": "easy",
    "simple": "middle",
    "medium": "middle",
    "complex": "hard",
    "mine_heavy": "hard",
    "exploration": "hard",
}
TIER_NAMES = ("easy", "middle", "hard", "other")  # other: levels of any other category
GROUPS = ("static", "moving", "not simulated")  # by what a level holds (maps.Level.group)
