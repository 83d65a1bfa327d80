"""A page on which a person makes music; `finetuning demo` serves it.

    from finetuning_async.demo import create_app, serve

    async with AsyncClient() as client:
        async with serve(create_app(client, service="pub.finetuning.ai")) as url:
            print(url)
            await anyio.sleep_forever()

A small application on `finetuning_async.fastapi`: `_studio` holds the songs and makes
them in the background, so that a page may be closed and opened again in the meantime;
`_song` is one of them; `_app` has the routes; `_serve` is uvicorn; `page/` is what the
browser gets. It runs on asyncio only, because uvicorn does.
"""

from __future__ import annotations

try:
    import fastapi as _fastapi  # noqa: F401 - only to see that it is there
    import sse_starlette as _sse  # noqa: F401 - only to see that it is there
    import uvicorn as _uvicorn  # noqa: F401 - only to see that it is there
except ImportError as _missing:
    _HINT = f"the demo needs {_missing.name}: pip install 'finetuning-async[demo]'"
    raise ImportError(_HINT, name=_missing.name) from _missing

from finetuning_async.demo._app import create_app
from finetuning_async.demo._serve import serve
from finetuning_async.demo._song import Song
from finetuning_async.demo._studio import Studio

__all__ = ["Song", "Studio", "create_app", "serve"]
