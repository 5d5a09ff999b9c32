"""How every command ends: a result, or one line on standard error and an exit code.

0 done, 1 failed at run time, 2 the request cannot be used, 3 refused for safety, 130 interrupted.
"""

from __future__ import annotations

import os
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
        code = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return USAGE
    except SlipstreamError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the command's own output
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # whoever read the output has seen enough; the interpreter must not fail again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:
        # Ctrl-C inside a compiled library can come out as that library's own panic
        if type(error).__name__ == "PanicException" and "KeyboardInterrupt" in str(error):
            return _interrupted()
        raise
    return int(code or 0)


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)  # noqa: T201
    return INTERRUPTED
