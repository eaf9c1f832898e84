"""The mathematics: torch alone, nothing of the package."""
