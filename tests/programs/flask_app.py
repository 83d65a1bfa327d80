"""Flask: one client per process, in a portal's event loop, shared by all threads."""

import atexit
from contextlib import ExitStack
from functools import partial

from anyio.from_thread import start_blocking_portal
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from finetuning_async import AsyncClient, FinetuningError

stack = ExitStack()
atexit.register(stack.close)
portal = stack.enter_context(start_blocking_portal())
client = stack.enter_context(portal.wrap_async_context_manager(AsyncClient()))

app = Flask(__name__)


@app.post("/tracks")
def create() -> ResponseReturnValue:
    start = partial(client.generations.create, request.form["tags"], timeout=20)
    return jsonify(id=portal.call(start).id), 202


@app.get("/tracks/<track_id>")
def show(track_id: str) -> ResponseReturnValue:
    track = portal.call(client.generations.get, track_id)
    return jsonify(id=track.id, status=track.status, audio=track.audio_url)


@app.errorhandler(FinetuningError)
def failed(error: FinetuningError) -> ResponseReturnValue:
    return jsonify(error=error.message), 503 if error.safe_to_retry else 502
