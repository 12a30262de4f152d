"""The three themes of localsynth: dark, light and high contrast. Textual's own can also be chosen."""

from textual.theme import Theme

__all__ = ["THEMES"]

THEMES = (
    Theme(
        name="localsynth-dark",
        primary="#5ea1c8",
        secondary="#8fb573",
        accent="#e0af68",
        warning="#e0af68",
        error="#e06c75",
        success="#8fb573",
        foreground="#d7dae0",
        background="#16191f",
        surface="#1d2129",
        panel="#262b35",
        dark=True,
    ),
    Theme(
        name="localsynth-light",
        primary="#1f5f8b",
        secondary="#3e6b27",
        accent="#8a5300",
        warning="#8a5300",
        error="#a8202d",
        success="#2f6b1f",
        foreground="#1a1d21",
        background="#fbfbf9",
        surface="#f0f0ec",
        panel="#e3e3dd",
        dark=False,
    ),
    Theme(
        name="localsynth-high-contrast",
        primary="#00ffff",
        secondary="#00ff00",
        accent="#ffff00",
        warning="#ffff00",
        error="#ff9999",
        success="#00ff00",
        foreground="#ffffff",
        background="#000000",
        surface="#202020",
        panel="#303030",
        dark=True,
        luminosity_spread=0.0,
        text_alpha=1.0,
        variables={
            "text-muted": "#e6e6e6",
            "text-disabled": "#b0b0b0",
            "text-error": "#ff9999",
            "text-warning": "#ffff00",
            "text-primary": "#00ffff",
            "border": "#ffffff",
            "border-blurred": "#ffffff",
            "footer-background": "#000000",
            "block-cursor-text-style": "reverse bold",
        },
    ),
)
