-- One exchange of a process with the counters it shares: what it settled, gives back, and asks for. All or nothing.
--
-- KEYS[1] is the common beginning of every key. All carry one hash tag, so they are on one shard of a cluster.
-- ARGV[1] is a message in msgpack, the answer is one too. Messages of a process are numbered; one that comes again
-- is answered as before and changes nothing.
--
-- A counter is a hash. Budgets: g spent as the ledger had it, b what a process knew before Redis lost its data,
-- d settled since, s start of the period. Windows: t total, o and n oldest and newest part, p<part> amounts.
-- All: L leased, I of it idle, l:<process> and i:<process> of each, q:<process> the part an idle slice is good for,
-- w the last mark set by somebody who lacks, m:<process> the last mark answered, a the last threshold told.
local base = KEYS[1]
local m = cmsgpack.unpack(ARGV[1])
local pid, seq = m[1], m[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local KEEP = 61

local function int(x) return string.format('%.0f', x) end

local epoch = redis.call('GET', base .. 'epoch')
if not epoch then
  if m[4] == 0 then return cmsgpack.pack({'LOST', '', now}) end
  epoch = m[3]
  redis.call('SET', base .. 'epoch', epoch)
elseif m[4] == 1 then
  m[3] = epoch
elseif epoch ~= m[3] then
  return cmsgpack.pack({'LOST', epoch, now})
end

local procs, me = base .. 'procs', base .. 'p:' .. pid
local mine = redis.call('HMGET', me, 'seq', 'reply', 'dead')
local last = tonumber(mine[1] or '0')
if mine[1] and seq <= last then
  if seq == last then return mine[2] end
  return cmsgpack.pack({'STALE', epoch, now})
end
if mine[3] or (not mine[1] and m[4] == 0) then return cmsgpack.pack({'GONE', epoch, now}) end

-- Who was not heard of loses its leases, unless nobody was heard of: then it was Redis that was away.
local beat, grace = m[5], m[6]
local up = tonumber(redis.call('GET', base .. 'up') or '0')
if up > 0 and now - up > beat * 0.6 then
  for _, other in ipairs(redis.call('ZRANGE', procs, 0, -1)) do redis.call('ZADD', procs, int(now + beat), other) end
end
redis.call('SET', base .. 'up', int(now))
redis.call('ZADD', procs, int(now + beat), pid)

local function let_go(other, slots_only)
  local of = base .. 'of:' .. other
  for _, item in ipairs(redis.call('SMEMBERS', of)) do
    local slots = string.sub(item, 1, 1) == '3'
    if slots or not slots_only then
      local key = base .. 'c:' .. string.sub(item, 2)
      local lease = tonumber(redis.call('HGET', key, 'l:' .. other) or '0')
      local idle = tonumber(redis.call('HGET', key, 'i:' .. other) or '0')
      if lease ~= 0 then redis.call('HINCRBY', key, 'L', int(-lease)) end
      if idle ~= 0 then redis.call('HINCRBY', key, 'I', int(-idle)) end
      redis.call('HDEL', key, 'l:' .. other, 'i:' .. other, 'm:' .. other, 'q:' .. other)
      redis.call('SREM', of, item)
    end
  end
end

local function expired(set) return redis.call('ZRANGEBYSCORE', set, '-inf', int(now), 'LIMIT', 0, 1)[1] end
local silent, gone = expired(procs), expired(base .. 'dead')
if silent then
  local key = base .. 'p:' .. silent
  redis.call('ZREM', procs, silent)
  redis.call('HSET', key, 'dead', 1)
  redis.call('PEXPIRE', key, 3600000)
  if redis.call('HEXISTS', key, 'spool') == 1 then
    -- What it settled and did not report is in its spool: its budgets stay leased until that is read, or for a while.
    let_go(silent, true)
    redis.call('ZADD', base .. 'dead', int(now + grace), silent)
  else
    let_go(silent, false)
  end
end
if gone then
  let_go(gone, false)
  redis.call('ZREM', base .. 'dead', gone)
end
local live = redis.call('ZRANGEBYSCORE', procs, '(' .. int(now), '+inf')
local many = #live
if many < 1 then many = 1 end

-- The counters of this message.
local cs = {}
for at, e in ipairs(m[10]) do
  local key = base .. 'c:' .. e[1]
  local kind = e[2]
  local h = redis.call('HMGET', key, 'g', 'b', 'd', 's', 'a', 'L', 'I', 'l:' .. pid, 'i:' .. pid, 'w', 't', 'o', 'n',
    'q:' .. pid, 'ip')
  local c = {e = e, key = key, kind = kind, limit = e[3], pool = e[7], extra = 0, told = 0,
    g = tonumber(h[1]), b = tonumber(h[2]), d = tonumber(h[3] or '0'), s = tonumber(h[4]), a = tonumber(h[5] or '-1'),
    L = tonumber(h[6] or '0'), I = tonumber(h[7] or '0'), l = tonumber(h[8] or '0'), i = tonumber(h[9] or '0'),
    w = tonumber(h[10] or '0'), t = tonumber(h[11]), o = tonumber(h[12]), n = tonumber(h[13]), q = tonumber(h[14] or '-1'),
    ip = tonumber(h[15] or '-1'), seeded = true}
  if kind == 1 then
    if c.s and e[4] > c.s then
      c.g, c.b, c.d, c.a, c.s = 0, nil, 0, -1, e[4]
    end
    if not c.s then c.s = e[4] end
    if e[4] == c.s then
      c.d = c.d + e[5]
      if e[11] >= 0 and e[11] > (c.b or -1) then c.b = e[11] end
      if not c.g and e[10] >= 0 then
        c.g = e[10]
        if c.a < c.g then c.a = c.g end
      end
      if e[12] >= 0 and e[12] > c.a then c.a, c.told = e[12], 1 end
    end
    c.seeded = c.g ~= nil
    local g = c.g or 0
    if c.b then c.spent = math.max(g, c.b + c.d) else c.spent = g + c.d end
  end
  if kind ~= 2 then
    c.L = c.L - c.l + e[6]
    c.l = e[6]
    c.I = c.I - c.i + e[7]
    c.i = e[7]
  else
    local part = e[4]
    if c.n and c.n > part then part = c.n end
    local oldest = part - KEEP
    c.grown = {}
    local function add(p, amount)
      if p > part then p = part end
      if p < oldest then
        if amount <= 0 then return end
        p = part
      end
      c.grown[p] = (c.grown[p] or 0) + amount
      c.t = (c.t or 0) + amount
      if not c.o or p < c.o then c.o = p end
    end
    if not c.t and #e[15] > 0 then
      for k = 1, #e[15], 2 do add(e[15][k], e[15][k + 1]) end
    end
    c.t = c.t or 0
    if c.o and c.o < oldest then
      local gone = {}
      for p = c.o, math.min(oldest - 1, c.n or -1) do gone[#gone + 1] = 'p' .. p end
      if #gone > 0 then
        for _, amount in ipairs(redis.call('HMGET', key, unpack(gone))) do c.t = c.t - tonumber(amount or '0') end
        redis.call('HDEL', key, unpack(gone))
      end
      c.o = oldest
    end
    for k = 1, #e[8], 2 do add(e[8][k], e[8][k + 1]) end
    c.part, c.n, c.add = part, part, add
    if c.ip ~= part then c.ip, c.I = part, 0 end
    if c.q ~= part then c.q, c.i = part, 0 end
    if e[4] ~= part and e[13] == 1 and c.pool > 0 then -- another process's clock is a part ahead
      add(e[4], -c.pool)
      c.pool = 0
    end
    if e[4] == part then
      c.I = c.I - c.i + e[7]
      c.i = e[7]
    end
  end
  if e[13] == 0 then c.pool = 0 end
  cs[at] = c
end

local function free(c)
  if c.kind == 1 then return c.limit - c.spent - c.L end
  if c.kind == 2 then return c.limit - c.t end
  return c.limit - c.L
end

local function take(c, amount)
  local from = math.min(c.pool, amount)
  c.pool = c.pool - from
  c.I = c.I - from
  c.i = c.i - from
  local more = amount - from
  if more > 0 then
    if c.kind == 2 then
      c.add(c.part, more)
    else
      c.L = c.L + more
      c.l = c.l + more
    end
  end
end

-- Whether another live process may still give back something since ``mark``.
local function pending(c, mark)
  if not c.answered then
    c.answered = math.huge
    for _, other in ipairs(live) do
      if other ~= pid then
        local f = redis.call('HMGET', c.key, 'l:' .. other, 'm:' .. other, 'q:' .. other)
        local has
        if c.kind == 2 then
          has = tonumber(f[3] or '-1') >= c.part - KEEP
        else
          has = tonumber(f[1] or '0') > 0
        end
        if has then c.answered = math.min(c.answered, tonumber(f[2] or '0')) end
      end
    end
  end
  return c.answered < mark
end

local GRANTED, REFUSED, WAIT, UNSEEDED = 1, 2, 3, 4
local answers = {}
for at, ask in ipairs(m[11]) do
  local verdict = {GRANTED, 0}
  for _, item in ipairs(ask) do
    local c, need, mark = cs[item[1]], item[2], item[3]
    if not c.seeded then verdict = {UNSEEDED, item[1]} break end
    if mark >= 0 then
      local short = need - c.pool - free(c)
      if need > 0 and short > 0 or need == 0 and c.kind == 1 and c.spent >= c.limit then
        local waits = false
        if need > 0 and (c.kind == 2 and need <= c.limit or c.kind ~= 2 and short <= c.L - c.l) then
          if mark > 0 then
            waits = pending(c, mark)
          elseif pending(c, c.w + 1) then
            c.w = c.w + 1
            mark, waits = c.w, true
            redis.call('PUBLISH', base .. 'wanted', int(c.w) .. ':' .. c.e[1])
          end
        end
        if not waits then
          local room = 0
          if c.kind == 2 then
            local over = c.t + need - c.limit
            for p = c.o or c.part, c.part do
              over = over - tonumber(redis.call('HGET', c.key, 'p' .. p) or '0') - (c.grown[p] or 0)
              room = p
              if over <= 0 then break end
            end
          end
          verdict = {REFUSED, item[1], c.kind == 1 and c.spent or c.kind == 2 and c.t or 0, c.kind == 2 and 0 or c.L - c.I, room}
          break
        end
        if verdict[1] == GRANTED then verdict = {WAIT, item[1], mark} end
      end
    end
  end
  if verdict[1] == GRANTED then
    for _, item in ipairs(ask) do
      if item[3] >= 0 then take(cs[item[1]], item[2]) end
    end
  end
  answers[at] = verdict
end

-- What is wanted beyond that, shrinking as the allowance runs out; then write down what changed.
local told = {}
for at, c in ipairs(cs) do
  local e = c.e
  if e[14] > 0 and c.seeded then
    local asked = e[9] < c.w and pending(c, c.w)
    local extra = math.min(e[14], math.floor(free(c) / (2 * many)))
    if extra > 0 and not asked then
      c.extra = extra
      if c.kind == 2 then c.add(c.part, extra) else c.L, c.l = c.L + extra, c.l + extra end
      c.I, c.i = c.I + extra, c.i + extra
    end
  end
  local f = {'w', int(c.w), 'I', int(c.I), 'i:' .. pid, int(c.i)}
  local function put(name, value) f[#f + 1] = name f[#f + 1] = value end
  if e[9] > 0 then put('m:' .. pid, int(e[9])) end
  if c.kind == 2 then
    put('t', int(c.t)) put('n', int(c.n)) put('ip', int(c.ip)) put('q:' .. pid, int(c.q))
    if c.o then put('o', int(c.o)) end
    for p, amount in pairs(c.grown) do
      if amount ~= 0 then redis.call('HINCRBY', c.key, 'p' .. p, int(amount)) end
    end
  else
    put('L', int(c.L)) put('l:' .. pid, int(c.l))
    local item = c.kind .. e[1]
    if c.l > 0 then redis.call('SADD', base .. 'of:' .. pid, item) else redis.call('SREM', base .. 'of:' .. pid, item) end
    if c.kind == 1 then
      if c.g then put('g', int(c.g)) end
      if c.b then put('b', int(c.b)) else redis.call('HDEL', c.key, 'b') end
      put('d', int(c.d)) put('s', int(c.s)) put('a', int(c.a))
    end
  end
  redis.call('HSET', c.key, unpack(f))
  redis.call('EXPIRE', c.key, c.kind == 2 and e[16] * 3 + 60 or 3024000)
  told[at] = {c.kind == 1 and c.spent or c.kind == 2 and c.t or 0, c.L, c.I, c.extra, c.pool, c.w,
    c.kind == 1 and c.s or c.kind == 2 and c.part or 0, c.told, c.seeded and 1 or 0}
end

if m[7] ~= '' then
  redis.call('HSET', base .. 'spool:' .. m[7], 'pid', pid, 'segment', int(m[8]), 'offset', int(m[9]))
  redis.call('HSET', me, 'spool', m[7])
end
local reply = cmsgpack.pack({'OK', epoch, now, many, told, answers})
redis.call('HSET', me, 'seq', int(seq), 'reply', reply)
return reply
