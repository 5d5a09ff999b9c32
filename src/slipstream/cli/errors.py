"""How every command ends: a result, or one line on standard error and an exit code.

0 done, 1 failed at run time, 2 the request cannot be used, 3 refused for safety, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slipstream.errors import SlipstreamError

if TYPE_CHECKING:
    from cyclopts import App

INTERRUPTED = 130
USAGE = 2


def run(app: App, arguments: Sequence[str] | None = None) -> int:
    """Run a cyclopts app and turn its outcome into an exit code; a command returns None (done) or a code.

    Args:
        app: the application.
        arguments: without the program's name; default: those of this process.
    """
    from cyclopts import CycloptsError

    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(tokens, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return USAGE
    except SlipstreamError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the command's own output
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    return int(code or 0)
