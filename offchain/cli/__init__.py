"""Command line ``gridpact``."""
