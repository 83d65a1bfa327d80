"""A web page for making music in a browser; `finetuning demo` serves it.

    from finetuning_async.demo import create_app, serve

    async with AsyncClient() as client:
        async with serve(create_app(client, service="pub.finetuning.ai")) as url:
            print(url)
            await anyio.sleep_forever()

A small application on `finetuning_async.fastapi`. It runs on asyncio only, because
uvicorn does. The files:

    _app      the routes
    _studio   the songs, made in the background: a page may be closed meanwhile
    _song     one song, from the request to its end
    _serve    uvicorn's server inside the running event loop
    page/     what the browser loads
"""

from __future__ import annotations

try:
    import fastapi as _fastapi  # noqa: F401 - only to see that it is installed
    import sse_starlette as _sse  # noqa: F401 - only to see that it is installed
    import uvicorn as _uvicorn  # noqa: F401 - only to see that it is installed
except ImportError as _missing:
    _HINT = f"the demo needs {_missing.name}: pip install 'finetuning-async[demo]'"
    raise ImportError(_HINT, name=_missing.name) from _missing

from finetuning_async.demo._app import create_app
from finetuning_async.demo._serve import serve
from finetuning_async.demo._song import Song
from finetuning_async.demo._studio import Studio

__all__ = ["Song", "Studio", "create_app", "serve"]
