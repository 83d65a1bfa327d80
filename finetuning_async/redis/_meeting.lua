-- A meeting of the processes that poll for each other; see _poll_words.py.
--
--   KEYS[1]  hash: token of the last lead (the fence), number of the last news, version
--            of what is wanted
--   KEYS[2]  who leads, until its end: process:token
--   KEYS[3]  hash: process:track -> kind, when accepted, length
--   KEYS[4]  sorted set: process by when it was last here
--   KEYS[5]  sorted set: news by their number
--
-- ARGV: what the process says, as JSON. A lead that was lost in the meantime shows in
-- its token; what such a process read is not taken.

local KEPT_MS = 3600000
local NEWS_KEPT = 1000
local said = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local me = said.process

local function count(field) return redis.call('HINCRBY', KEYS[1], field, 1) end

local function number(field) return tonumber(redis.call('HGET', KEYS[1], field) or 0) end

local function tell(entry)
  entry.by, entry.number = me, count('news')
  redis.call('ZADD', KEYS[5], entry.number, cjson.encode(entry))
end

-- Who is here.

local is_new = not redis.call('ZSCORE', KEYS[4], me)
redis.call('ZADD', KEYS[4], clock[1], me)
local gone = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', '(' .. (clock[1] - said.gone_after))
if #gone > 0 then
  local dead = {}
  for _, process in ipairs(gone) do
    redis.call('ZREM', KEYS[4], process)
    dead[process] = true
  end
  for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do
    if dead[string.match(field, '^[^:]*')] then redis.call('HDEL', KEYS[3], field) end
  end
  count('version')
end

-- What it waits for.

for _, wanted in ipairs(said.added) do
  local accepted = wanted.age and string.format('%.3f', now - wanted.age)
  local row = {kind = wanted.kind, accepted = accepted, length = wanted.length}
  redis.call('HSET', KEYS[3], me .. ':' .. wanted.id, cjson.encode(row))
end
for _, id in ipairs(said.dropped) do redis.call('HDEL', KEYS[3], me .. ':' .. id) end
if #said.added + #said.dropped > 0 then count('version') end

-- Who leads.

local lead = redis.call('GET', KEYS[2])
local leads = lead == me .. ':' .. said.token
local token = said.token
if not lead and said.may_lead then
  token, leads = count('token'), true
end
if leads then redis.call('SET', KEYS[2], me .. ':' .. token, 'PX', said.lead_ms) end

-- What there is to tell.

for _, id in ipairs(said.hints) do tell({hint = id}) end
if leads and token == said.token then
  for _, seen in ipairs(said.seen) do tell({kind = seen.kind, row = seen.row}) end
  for _, id in ipairs(said.refused) do tell({refused = id}) end
end
if leads and not said.may_lead then
  redis.call('DEL', KEYS[2])
  leads = false
end
redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -NEWS_KEPT - 1)

local last = number('news')
local news = {}
if said.news >= 0 and said.news <= last then
  news = redis.call('ZRANGEBYSCORE', KEYS[5], '(' .. said.news, '+inf')
end
local version = number('version')
local wanted
if leads and (version ~= said.version or token ~= said.token) then
  wanted = redis.call('HGETALL', KEYS[3])
end
for _, key in ipairs(KEYS) do
  if key ~= KEYS[2] then redis.call('PEXPIRE', key, KEPT_MS) end
end
return {is_new and 1 or 0, leads and 1 or 0, token, last, version, news,
  wanted and 1 or 0, wanted or {}, tostring(clock[1])}
