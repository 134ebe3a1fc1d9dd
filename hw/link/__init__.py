"""The code of the compressed link."""
