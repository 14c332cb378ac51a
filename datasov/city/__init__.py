"""What a city does."""

from datasov.city.city import City

__all__ = ["City"]
