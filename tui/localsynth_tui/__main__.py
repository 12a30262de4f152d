"""`python -m localsynth_tui [WS]`: what `localsynth tui` becomes."""

import sys
from pathlib import Path

from localsynth_tui.app import LocalsynthApp


def main(arguments: list[str]) -> int:
    """Run the UI, on a workspace where one is given; returns its exit code."""
    from localsynth.system.network_seal import no_core_dumps

    no_core_dumps()  # what is private is shown here, and passphrases are typed
    app = LocalsynthApp(Path(arguments[0]) if arguments else None)
    app.run()
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
