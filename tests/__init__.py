"""Tests: unit/ mirrors the sources, e2e/ runs whole commands, tui/ drives the terminal UI."""
