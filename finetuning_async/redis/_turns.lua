-- One exchange of a process with the book of its account; see _store_words.py.
--
-- The rules are those of _token_bucket.py (leases), _first_news.py (ask before rushing),
-- _somebody_else.py and _rate_gate.py, on this server's clock. What is small is one
-- text; the leases are sorted sets, by the moment when each is over:
--
--   KEYS[1]      text: members, lines, budgets without their leases, queue
--   KEYS[2]      hash: lease -> who, which budget, when
--   KEYS[3], [4] creates: leases out, by when they are taken as over; tokens coming
--                back, by when
--   KEYS[5], [6] reads, likewise
--
-- ARGV: what the process says, as JSON; a random number from 0 to 1; a random name;
-- and, in tests, the time.

local FAR = 1e15            -- for ever: JSON has no infinity
local SLACK, SILENT = 2, 120
local LONGEST, SHORTEST = 2, 0.25
local TOLERANCE = 1e-6
local KEPT_MS = 86400000    -- a day without a word, and all is forgotten
local PAUSES = {5, 10, 20, 30}
local CAUTION, TRIAL = 3, 1800
local SINGLY = 4

local said = cjson.decode(ARGV[1])
local text = redis.call('GET', KEYS[1])
local book = text and cjson.decode(text)
local clock = redis.call('TIME')
local is_new = not book
if is_new then
  -- Seconds since now: of a larger number JSON would lose the fractions.
  book = {epoch = ARGV[3], base = tonumber(clock[1]), members = {}, unfetched = {},
    held_until = -FAR, queue = {
    entering = 0, fit = 0, refused_at = -FAR, pause = 0, foreign = 0}, budgets = {}}
  for _, name in ipairs({'creates', 'reads'}) do
    book.budgets[name] = {sent = 0, opens_at = -FAR, refusals = 0, line = {},
      credit = 0, expires = -FAR, hears = false, silent = 0, misled = false,
      was_refused = false, others = 0, others_until = -FAR}
  end
end
local now = tonumber(ARGV[4])
  or (tonumber(clock[1]) - book.base + tonumber(clock[2]) / 1e6)

local KEY = {creates = {out = KEYS[3], back = KEYS[4]},
             reads = {out = KEYS[5], back = KEYS[6]}}
local LEASES = KEYS[2]

local function list(value)  -- an empty table may have become an object
  return type(value) == 'table' and value or {}
end

-- One budget.

local function per(name)
  local limit = said.limits and said.limits[name]
  return limit and limit.per or 60
end

local function held(name)
  return per(name) + math.max(per(name) * 0.05 / 60, 0.005)
end

local function limit_of(name)
  local limit = said.limits and said.limits[name]
  if not limit then return nil end
  local b = book.budgets[name]
  return b.limit and math.min(limit.limit, b.limit) or limit.limit
end

local function out(name) return redis.call('ZCARD', KEY[name].out) end

local function coming(name, at)
  return redis.call('ZCOUNT', KEY[name].back, '(' .. at, '+inf')
end

-- When one more token is there, if `taken` are others'; FAR if an answer decides.
local function token(name, taken)
  local back = coming(name, now)
  local missing = out(name) + back + taken - limit_of(name)
  if missing < 0 then return now end
  if missing >= back then return FAR end
  local found = redis.call('ZRANGEBYSCORE', KEY[name].back, '(' .. now, '+inf',
    'WITHSCORES', 'LIMIT', missing, 1)
  return tonumber(found[2])
end

local function taken(b) return now < b.others_until and b.others or 0 end

local function credit(b) return now < b.expires and b.credit or 0 end

local function pace(name)
  local b = book.budgets[name]
  local turn = token(name, 0)
  local others = taken(b)
  if others > 0 and not b.was_refused then
    if not b.hears then turn = math.max(turn, b.others_until)
    else turn = math.max(turn, math.min(b.others_until, token(name, others))) end
  end
  if turn > now or credit(b) >= 1 then return turn end
  if out(name) == 0 or not b.last then return now end
  return math.max(now, b.last.sent_at + per(name) * 5 / 60)
end

local function earliest(name)
  local b = book.budgets[name]
  if b.opens_at > now then return b.opens_at end
  if not limit_of(name) then return now end
  return pace(name)
end

-- A lower bound for one behind `ahead` others who all send.
local function earliest_behind(name, ahead)
  local gate = math.max(now, book.budgets[name].opens_at)
  local limit = limit_of(name)
  if not limit then return gate end
  local back = coming(name, now)
  local place = ahead - (limit - back)
  if place < 0 then return gate end
  if place < back then
    local found = redis.call('ZRANGEBYSCORE', KEY[name].back, '(' .. now, '+inf',
      'WITHSCORES', 'LIMIT', place, 1)
    return math.max(gate, tonumber(found[2]))
  end
  return math.max(gate, now + held(name) * (math.floor((place - back) / limit) + 1))
end

-- The service's queue.

local function under_way()
  local sum = 0
  for _, m in pairs(book.members) do sum = sum + m.under_way end
  return sum
end

local function queue_opens()
  local q, ours = book.queue, under_way()
  local sum = ours + q.entering
  if not q.capacity then
    if q.entering < CAUTION or sum < q.fit then return -FAR end
    return FAR
  end
  if sum < q.capacity then return -FAR end
  if q.entering > 0 then return FAR end
  if ours > 0 then return q.refused_at + TRIAL end
  return q.refused_at
    + math.max(PAUSES[math.max(math.min(q.foreign, #PAUSES), 1)], q.pause)
end

local function left_queue(facts, at)
  local q, ours = book.queue, under_way()
  q.entering = q.entering - 1
  if facts and facts.code == 'QUEUE_FULL' then
    q.refused_at, q.pause = at, facts.retry_after or 0
    q.fit = math.min(q.fit, ours)
    if ours == 0 then q.foreign = q.foreign + 1 end
    if not q.capacity or ours < q.capacity then q.capacity = ours end
  elseif facts and facts.status < 300 then
    q.fit, q.foreign = math.max(q.fit, ours), 0
    if q.capacity and ours > q.capacity then
      q.capacity = q.capacity > 0 and ours or nil
    end
  end
end

-- Leases.

local function send(id, name, process, at)
  local b, beside = book.budgets[name], out(name)
  b.sent = b.sent + 1
  local on_credit = credit(b) >= 1 and credit(b) < FAR / 2
  b.credit = b.credit - 1
  b.was_refused = false
  b.last = {number = b.sent, sent_at = at}
  if name == 'creates' then book.queue.entering = book.queue.entering + 1 end
  local lease = {process = process, budget = name, number = b.sent, sent_at = at,
    beside = beside, on_credit = on_credit}
  redis.call('HSET', LEASES, id, cjson.encode(lease))
  redis.call('ZADD', KEY[name].out, at + said.timeout, id)
  return lease
end

local function find(id)
  local found = redis.call('HGET', LEASES, id)
  return found and cjson.decode(found)
end

local function over(id, lease)
  book.unfetched[id] = nil
  redis.call('HDEL', LEASES, id)
  redis.call('ZREM', KEY[lease.budget].out, id)
end

local function abandon(id, lease, at)
  over(id, lease)
  redis.call('ZADD', KEY[lease.budget].back, at + held(lease.budget), id)
end

-- Its owner does not want it, or is gone, and was never told of it.
local function take_back(id)
  local lease = find(id)
  book.unfetched[id] = nil
  if not lease then return end
  over(id, lease)
  if lease.budget == 'creates' then left_queue(nil, now) end
end

-- Own requests that the service counted within `share` of a period before a lease.
local function answered_before(lease, share)
  local h = held(lease.budget)
  return redis.call('ZCOUNT', KEY[lease.budget].back,
    lease.sent_at + h * (1 - share), lease.sent_at + h + TOLERANCE)
end

local function explain(lease, used)
  local b = book.budgets[lease.budget]
  local most = lease.beside + 1 + answered_before(lease, 1) + b.sent - lease.number
  local least = 1 + answered_before(lease, 0.9)
  local count = math.max(used - most, math.min(taken(b), used - least), 0)
  if count >= taken(b) and count > 0 then b.others_until = now + held(lease.budget) end
  b.others = count
end

local function news(b, lease, left, at)
  if not left then
    if b.hears then return end
    b.silent = b.silent + 1
    if b.silent < SINGLY or b.others_until > now - per(lease.budget) then return end
  end
  b.hears = left ~= nil
  if at >= b.expires then b.credit = -FAR end
  local proved = FAR
  if b.misled and left then proved = 0
  elseif left then proved = left - lease.beside - (b.last.number - lease.number) end
  b.credit = math.max(b.credit, proved)
  b.expires = math.max(b.expires, lease.sent_at + per(lease.budget))
end

local function answered(id, lease, facts, at)
  abandon(id, lease, at)
  if not facts then return end
  local b = book.budgets[lease.budget]
  if facts.status ~= 429 then b.refusals = 0 end
  if facts.limit or facts.remaining then
    b.heard = {limit = facts.limit, remaining = facts.remaining, at = at}
  end
  if not limit_of(lease.budget) then return end
  if facts.limit then b.limit = facts.limit end
  local left = facts.remaining and math.min(facts.remaining, 1e9)
  news(b, lease, left, at)
  if left then
    local itself = facts.status == 429 and 0 or 1
    explain(lease, limit_of(lease.budget) - left + 1 - itself)
  end
end

local function refused(name, lease, note, at)
  local b, p = book.budgets[name], per(name)
  local pause = note.retry_after
  if not pause or pause == 0 then
    pause = math.min(p, p / 12 * 2 ^ math.min(b.refusals, 10))
  end
  b.refusals = b.refusals + 1
  local jitter = tonumber(ARGV[2]) * math.min(0.5 / 60 * p, pause / 10)
  b.opens_at = math.max(b.opens_at, at + pause + jitter)
  if lease and lease.on_credit then b.misled = true end
  b.credit, b.expires, b.silent, b.was_refused = 0, -FAR, 0, true
  if lease and limit_of(name) then explain(lease, limit_of(name) + 1) end
end

-- What the process says.

local is_stranger = said.epoch and said.epoch ~= book.epoch
if is_new and is_stranger then  -- until those who wait have said what was lost
  book.held_until = now + (LONGEST + 0.5) * math.max(per('creates'), per('reads')) / 60
end
local member = book.members[said.process]
if not member then
  member = {seen_at = now, expected_by = FAR, number = 0, serial = 0, under_way = 0}
  book.members[said.process] = member
end
local is_late = said.number <= member.number
local asks = list(said.asks)

local function take(note, ended)
  local at = now - math.max(note.ago or 0, 0)
  if note.event == 'refused' then
    return refused(note.budget, ended[note.id .. note.budget], note, at)
  end
  local lease = find(note.id)
  if not lease then  -- given up, or never heard of: charged now
    if note.event == 'unsent' then return end
    lease = send(note.id, note.budget, said.process, at)
  end
  if note.event == 'sent' then return end
  ended[note.id .. note.budget] = lease
  at = math.max(at, lease.sent_at)
  if note.event == 'answered' then answered(note.id, lease, note.facts, at)
  elseif note.event == 'unsent' then over(note.id, lease)
  else abandon(note.id, lease, at + (note.linger or 0)) end
  if lease.budget == 'creates' then left_queue(note.facts, at) end
end

local function keep_line(b, keep)
  local line = {}
  for _, place in ipairs(list(b.line)) do
    if keep(place) then line[#line + 1] = place end
  end
  b.line = line
end

local function stand(b, ask)
  local at = #b.line + 1
  if ask.first then
    at = 1
    while b.line[at] and b.line[at].first do at = at + 1 end
  end
  table.insert(b.line, at, {id = ask.id, process = said.process, first = ask.first})
end

local function hear()
  member.seen_at, member.expected_by = now, FAR
  member.number, member.under_way = said.number, said.under_way
  local ended = {}
  for _, note in ipairs(list(said.notes)) do
    if note.serial > member.serial then
      member.serial = note.serial
      take(note, ended)
    end
  end
  local wanted, known = {}, {}
  for _, ask in ipairs(asks) do wanted[ask.id] = true end
  for _, b in pairs(book.budgets) do
    keep_line(b, function(p) return p.process ~= said.process or wanted[p.id] end)
    for _, place in ipairs(b.line) do known[place.id] = true end
  end
  for _, ask in ipairs(asks) do
    if not known[ask.id] and redis.call('HEXISTS', LEASES, ask.id) == 0 then
      stand(book.budgets[ask.budget], ask)
    end
  end
  for id, process in pairs(book.unfetched) do
    if process == said.process and not wanted[id] then take_back(id) end
  end
end

local function sweep()
  for process, m in pairs(book.members) do
    if m.expected_by < now then
      for _, b in pairs(book.budgets) do
        keep_line(b, function(p) return p.process ~= process end)
      end
      for id, owner in pairs(book.unfetched) do
        if owner == process then take_back(id) end
      end
      if m.seen_at < now - SILENT then book.members[process] = nil end
    end
  end
  for name, key in pairs(KEY) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.out, '-inf', now)) do
      local lease, at = find(id), tonumber(redis.call('ZSCORE', key.out, id))
      if lease then
        abandon(id, lease, at)
        if name == 'creates' then left_queue(nil, at) end
      else
        redis.call('ZREM', key.out, id)
      end
    end
    redis.call('ZREMRANGEBYSCORE', key.back, '-inf', now - 2 * held(name))
  end
end

-- Who goes next, and what is answered.

local function turn(name)
  local at = math.max(earliest(name), book.held_until)
  if name == 'creates' then at = math.max(at, queue_opens()) end
  return at
end

local function advance()
  for name, b in pairs(book.budgets) do
    while b.line[1] and turn(name) <= now + TOLERANCE do
      local place = table.remove(b.line, 1)
      local mine = place.process == said.process and not is_late
      send(place.id, name, place.process, now)
      if not mine then book.unfetched[place.id] = place.process end
    end
  end
end

local function fetch()
  local granted = {}
  if is_late then return granted end
  for _, ask in ipairs(asks) do
    local lease = find(ask.id)
    if lease then
      granted[#granted + 1] = ask.id
      if book.unfetched[ask.id] then
        book.unfetched[ask.id] = nil
        redis.call('ZADD', KEY[lease.budget].out, now + said.timeout, ask.id)
      end
    end
  end
  return granted
end

local function wait_of(name, ahead)
  local scale, at = per(name) / 60, turn(name)
  if at >= FAR / 2 then return SHORTEST * scale end
  if ahead > 0 then at = math.max(at, earliest_behind(name, ahead)) end
  local longest = out(name) > 0 and SHORTEST or LONGEST
  return math.min(math.max(at - now, 0.001 * scale), longest * scale)
end

local function wait()
  local shortest = LONGEST
  for name, b in pairs(book.budgets) do
    for at, place in ipairs(b.line) do
      if place.process == said.process then
        shortest = math.min(shortest, wait_of(name, at - 1))
        break
      end
    end
  end
  return shortest
end

local function told(name)
  local b, limit = book.budgets[name], limit_of(name)
  local at = earliest(name)
  local free = limit and math.max(limit - out(name) - coming(name, now) - taken(b), 1)
  local heard = b.heard or {}
  return {limit = limit, per = limit and per(name), available = at > now and 0 or free or nil,
    next_free_in = at < FAR / 2 and at - now or nil, waiting = #b.line,
    closed_for = math.max(b.opens_at - now, 0),
    service_limit = heard.limit, service_remaining = heard.remaining,
    service_spoke_ago = heard.at and now - heard.at,
    newcomer_in = earliest_behind(name, #b.line) - now}
end

for _, b in pairs(book.budgets) do b.line = list(b.line) end
if not is_late then hear() end
sweep()
if not is_stranger then advance() end
local granted = fetch()
local pause = wait()
member.expected_by = now + pause + SLACK
local processes = 0
for _ in pairs(book.members) do processes = processes + 1 end
redis.call('SET', KEYS[1], cjson.encode(book), 'PX', KEPT_MS)
for i = 2, #KEYS do redis.call('PEXPIRE', KEYS[i], KEPT_MS) end
return cjson.encode({epoch = book.epoch, granted = table.concat(granted, ' '),
  wait = pause, processes = processes,
  budgets = {creates = told('creates'), reads = told('reads')}})
