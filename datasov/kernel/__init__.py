"""The trusted core: at most 900 lines, readable in one sitting. It imports only the model and the errors."""
