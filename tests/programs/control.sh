#!/bin/sh
# Rehearses what can go wrong, with nothing but curl. Needs URL and KEY.
set -eu

# ask METHOD PATH [BODY]: prints "STATUS CODE", such as "404 NOT_FOUND".
ask() {
    : >"$OUT"
    status=$(curl -s -o "$OUT" -D "$HEADERS" -w '%{http_code}' -X "$1" \
        -H "X-API-Key: $KEY" -H 'Content-Type: application/json' \
        -d "${3:-}" "$URL$2") || status="lost"
    code=$(sed -n 's/.*"code": *"\([A-Z_]*\)".*/\1/p' "$OUT")
    echo "$status${code:+ $code}"
}

# control METHOD PATH [BODY]: the same for the emulator itself; fails if it is refused.
control() {
    curl -sf -X "$1" -d "${3:-}" "$URL/_emulator$2" >"$OUT"
}

field() {
    sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" "$OUT" | head -n 1
}

create() {
    ask POST /v1/generations '{"tags":"rain"}'
}

OUT=$(mktemp) HEADERS=$(mktemp)
trap 'rm -f "$OUT" "$HEADERS"' EXIT

# The eleven codes: most from their causes, the last two by a fault.
(KEY='' && ask GET /v1/me)
(KEY=ft_live_nobody && ask GET /v1/me)
ask POST /v1/generations '{}'
ask GET /v1/generations/nobody
control PATCH "/accounts/$KEY" '{"tier":"free"}'
create
control PATCH "/accounts/$KEY" '{"tier":"pro","credits":0}'
create
control POST /reset
control PATCH /settings '{"queue_size":1}'
create
create
control PATCH /settings '{"creates_per_minute":1,"reads_per_minute":1}'
control POST /reset
create
create
sed -n 's/^[Rr]etry-[Aa]fter: \([0-9]*\).*/Retry-After \1/p' "$HEADERS"
ask GET /v1/me
ask GET /v1/me
control POST /reset
for code in GENERATION_FAILED INTERNAL_ERROR; do
    control POST /faults "{\"action\":\"status\",\"path\":\"/v1/generations\",\
\"method\":\"POST\",\"times\":1,\"status\":500,\"code\":\"$code\"}"
    create
done

# A track that is stuck for hours, until it is let go.
create
id=$(field id)
control PATCH "/tracks/$id" '{"status":"stuck"}'
control POST /clock/advance '{"seconds":3600}'
ask GET "/v1/generations/$id"
echo "$(field status)"
control PATCH "/tracks/$id" '{"status":"completed"}'
ask GET "/v1/generations/$id"
echo "$(field status)"

# A create that is done and charged, whose response is lost.
control POST /reset
control POST /faults '{"action":"lost_after_commit","path":"/v1/generations"}'
create
control GET /ledger
grep -c '"amount":-1' "$OUT"

# An hour ends what runs.
control POST /reset
create
id=$(field id)
before=$(curl -s "$URL/_emulator/state" | sed 's/.*"now":"\([^"]*\)".*/\1/')
control POST /clock/advance '{"seconds":3600}'
ask GET "/v1/generations/$id"
echo "$(field status)"
control GET /state
[ "$(field advanced)" = 3600.0 ] && [ "$(field now)" \> "$before" ] && echo "an hour later"
