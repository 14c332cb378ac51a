"""The sections of the resident's page. Each module gives its routes."""
