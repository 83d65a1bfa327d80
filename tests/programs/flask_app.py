"""Flask: one client for all threads, one event loop per process.

gunicorn --workers=4 --threads=8 --preload flask_app:app
"""

from collections.abc import Iterator

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue

from finetuning_async import FinetuningError
from finetuning_async.sync import Client

client = Client(rate_limiter="shared")  # by all processes of this machine

app = Flask(__name__)


@app.post("/tracks")
def create() -> ResponseReturnValue:
    track = client.generations.create(request.form["tags"], timeout=20)
    return jsonify(id=track.id), 202


@app.get("/tracks/<track_id>")
def show(track_id: str) -> ResponseReturnValue:
    track = client.generations.get(track_id)
    return jsonify(id=track.id, status=track.status, audio=track.audio_url)


@app.get("/tracks/<track_id>/audio")
def audio(track_id: str) -> Response:
    track = client.generations.get(track_id)

    def chunks() -> Iterator[bytes]:
        with client.open_audio(track) as stream:
            yield from stream

    return Response(chunks(), mimetype="audio/mpeg")


@app.errorhandler(FinetuningError)
def failed(error: FinetuningError) -> ResponseReturnValue:
    return jsonify(error=error.message), 503 if error.safe_to_retry else 502
