"""The only importer of cryptography and PyNaCl."""
