-- What a process that died had settled and not reported, read from its spool: counted once, and its leases end.
-- KEYS[1] is the common beginning of every key; ARGV[1] in msgpack: spool, position known before (segment, offset or
-- -1), position after, and [counter, period start, amount] of budgets. Returns 1, or 0 where the position differs.
local base = KEYS[1]
local m = cmsgpack.unpack(ARGV[1])
local spool = base .. 'spool:' .. m[1]
local function int(x) return string.format('%.0f', x) end
local known = redis.call('HMGET', spool, 'segment', 'offset', 'pid')
if tonumber(known[1] or '-1') ~= m[2] or tonumber(known[2] or '-1') ~= m[3] then return 0 end
for _, item in ipairs(m[6]) do
  local key = base .. 'c:' .. item[1]
  if tonumber(redis.call('HGET', key, 's') or '-1') == item[2] then redis.call('HINCRBY', key, 'd', int(item[3])) end
end
redis.call('HSET', spool, 'segment', int(m[4]), 'offset', int(m[5]))
local dead = known[3]
if dead then
  local of = base .. 'of:' .. dead
  for _, item in ipairs(redis.call('SMEMBERS', of)) do
    local key = base .. 'c:' .. string.sub(item, 2)
    local lease = tonumber(redis.call('HGET', key, 'l:' .. dead) or '0')
    local idle = tonumber(redis.call('HGET', key, 'i:' .. dead) or '0')
    if lease ~= 0 then redis.call('HINCRBY', key, 'L', int(-lease)) end
    if idle ~= 0 then redis.call('HINCRBY', key, 'I', int(-idle)) end
    redis.call('HDEL', key, 'l:' .. dead, 'i:' .. dead, 'm:' .. dead, 'q:' .. dead)
  end
  redis.call('DEL', of)
  redis.call('ZREM', base .. 'procs', dead)
  redis.call('ZREM', base .. 'dead', dead)
  redis.call('HSET', base .. 'p:' .. dead, 'dead', 1)
  redis.call('PEXPIRE', base .. 'p:' .. dead, 3600000)
end
return 1
