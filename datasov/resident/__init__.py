"""What a resident does, on their own device."""

from datasov.resident.resident import Resident

__all__ = ["Resident"]
