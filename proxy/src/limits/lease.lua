-- Leases of limits, in Redis. The same in Rust, with the reasons: core/src/model_route/limits/lease.rs and lease/pool.rs.
-- Whoever changes one changes the other.
--
-- KEYS[1]  prefix of all keys; its braces keep them on one node of a cluster
-- ARGV     proxy, number of the call, run of the store, proxies known, heartbeat ('' none, 'leave', microseconds),
--          time ('' = this clock), then of each cell: name, length, window, amount, keep, spent, more
-- Returns  {time, anew, {held, left, ...}, {known, until}, {tight ...}, {loose ...}}; time 0 = the call came late

local RETURN, REMEMBERED, SILENCE, PAUSE, GONE = 500000, 10000000, 5000000, 10000000, 15000000
local NEWS_MAX, CELL_ARGUMENTS, FIRST_CELL = 1024, 7, 7
-- Without any call for so long, everything is forgotten (milliseconds).
local KEPT = 172800000

local prefix = KEYS[1]
local proxy, number, run, known, beat = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
local STATE, TOLD, JOINED = prefix .. ':state', prefix .. ':told', prefix .. ':joined'
local NUMBER, LENGTHS, LOOSE = prefix .. ':number', prefix .. ':lengths', prefix .. ':loose'

local function text(value)
  return string.format('%.0f', value)
end

local function tight_of(length)
  return prefix .. ':tight:' .. text(length)
end

if number <= tonumber(redis.call('HGET', NUMBER, proxy) or '0') then
  return {0, 0, {}, {}, {}, {}}
end

-- State

local FIELDS = {'run', 'lost', 'remembered', 'resumed', 'called', 'changed', 'base', 'members'}
local state = {}
for position, value in ipairs(redis.call('HMGET', STATE, unpack(FIELDS))) do
  local field = FIELDS[position]
  if field == 'run' then
    state.run = value or ''
  else
    state[field] = tonumber(value or '0')
  end
end

local time
if ARGV[6] ~= '' then
  time = tonumber(ARGV[6])
else
  local clock = redis.call('TIME')
  time = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
end
time = math.max(time, state.called + 1)

if state.run ~= run then
  state.run, state.lost, state.remembered, state.resumed = run, time, 0, time
end
if time - state.called > SILENCE then
  state.resumed = time
end
state.called = time
state.remembered = math.max(state.remembered, known)

local function remembering()
  return time - state.lost < REMEMBERED
end

-- Proxies

local told = tonumber(redis.call('ZSCORE', TOLD, proxy) or '-1')
if told < 0 then
  told = time
  if known > 0 then
    if not remembering() then
      state.lost, state.remembered = time, known
    end
    told = state.lost - 1
  end
  state.changed = time
  state.members = state.members + 1
  redis.call('ZADD', TOLD, text(told), proxy)
  redis.call('HSET', JOINED, proxy, text(time))
end
redis.call('HSET', NUMBER, proxy, text(number))

local function remove(gone)
  redis.call('ZREM', TOLD, gone)
  redis.call('HDEL', JOINED, gone)
  redis.call('HDEL', NUMBER, gone)
  state.members = state.members + 1
end

local heard = tonumber(beat)
if heard then
  if heard > told then
    told = heard
    redis.call('ZADD', TOLD, text(told), proxy)
  end
  if time - state.resumed > PAUSE then
    for _, gone in ipairs(redis.call('ZRANGEBYSCORE', TOLD, '-inf', '(' .. text(time - GONE))) do
      if gone ~= proxy then
        remove(gone)
      end
    end
  end
end

local registered = redis.call('ZCARD', TOLD)
local count = math.max(remembering() and state.remembered or 0, registered)
local heard_by_all = tonumber(redis.call('ZRANGE', TOLD, 0, 0, 'WITHSCORES')[2] or '0')
local all_back = registered >= state.remembered and heard_by_all >= state.lost
local lost_lately = time - state.lost < RETURN or (remembering() and not all_back)
if state.base == 0 or (heard_by_all >= state.changed and not lost_lately) then
  state.base = count
end
state.base = math.min(state.base, count)
local settled = time - state.resumed > PAUSE and not lost_lately

-- Cells

local function reserve(amount)
  if state.base <= 1 then
    return amount
  end
  return math.floor(amount / (2 * state.base))
end

-- Calls for every lease of a cell: name of the proxy, what it holds, whether it is registered.
local function each_lease(key, call)
  local all = redis.call('HGETALL', key)
  for position = 1, #all, 2 do
    if string.sub(all[position], 1, 2) == 'h:' then
      local name = string.sub(all[position], 3)
      call(name, tonumber(all[position + 1]), redis.call('ZSCORE', TOLD, name) and true or false)
    end
  end
end

local function read_cell(key)
  local held = redis.call('HMGET', key, 'sum', 'with', 'members', 'tight', 'h:' .. proxy)
  local cell = {sum = tonumber(held[1] or '0'), with = tonumber(held[2] or '0'), tight = tonumber(held[4] or '0')}
  local own = tonumber(held[5] or '-1')
  if tonumber(held[3] or '0') ~= state.members then
    cell.with = 0
    each_lease(key, function(_, _, is_registered)
      if is_registered then
        cell.with = cell.with + 1
      end
    end)
  end
  cell.others = cell.sum - math.max(own, 0)
  cell.with_others = cell.with - (own >= 0 and 1 or 0)
  return cell
end

local function free_of(cell, amount, keep)
  local untold = math.max(0, count - 1 - cell.with_others)
  if cell.tight > 0 then
    local late = redis.call('ZCOUNT', TOLD, '-inf', '(' .. text(cell.tight))
    if told < cell.tight then
      late = late - 1
    end
    untold = math.min(untold, late)
  end
  return math.max(0, amount - cell.others - untold * reserve(amount) - keep)
end

-- Takes from proxies that are gone what they did not use.
local function reclaim(key, cell, length)
  each_lease(key, function(name, held, is_registered)
    if not is_registered and name ~= proxy then
      local kept = 0
      if length > 0 then
        kept = math.min(held, tonumber(redis.call('HGET', key, 's:' .. name) or '0'))
      end
      if kept < held then
        redis.call('HSET', key, 'h:' .. name, text(kept))
        cell.others = cell.others - (held - kept)
      end
    end
  end)
end

local function most_of(start, amount, keep, free, seen)
  if lost_lately and start < state.lost then
    return 0
  elseif lost_lately or not seen then
    local share = known > 0 and math.floor(amount / known) or 0
    return math.max(0, share - keep)
  end
  return free
end

local function answer_cell(name, length, window, amount, keep, spent, more)
  local member = name .. ':' .. text(length) .. ':' .. text(window)
  local key = prefix .. ':cell:' .. member
  local cell = read_cell(key)
  local free = free_of(cell, amount, keep)
  if more > free and settled then
    reclaim(key, cell, length)
    free = free_of(cell, amount, keep)
  end
  local start = window * length * 1000
  local seen = heard_by_all >= start
  local unspent = math.max(0, keep - spent)
  local fair = 0
  if cell.tight == 0 then
    fair = math.max(0, math.floor((free + unspent) / count) - unspent)
  end
  local extra = math.min(math.max(more, fair), free, most_of(start, amount, keep, free, seen))
  local held = keep + extra
  local wanted = more > extra and seen and not lost_lately
  local without = math.max(0, count - 1 - cell.with_others)
  if cell.tight == 0 and (wanted or cell.others + without * reserve(amount) + held > amount) then
    cell.tight = time
    redis.call('HSET', key, 'tight', text(time))
    redis.call('SADD', LENGTHS, text(length))
    redis.call('ZREM', LOOSE, member)
    redis.call('ZADD', tight_of(length), text(time), member)
  end
  local sum = cell.others + held
  redis.call('HSET', key, 'sum', text(sum), 'with', text(cell.with_others + 1), 'members', text(state.members),
    'h:' .. proxy, text(held), 's:' .. proxy, text(spent))
  redis.call('PEXPIRE', key, length == 0 and KEPT or text(2 * length + 60000))
  if length == 0 and cell.tight > 0 and sum + count * reserve(amount) <= amount then
    redis.call('HDEL', key, 'tight')
    redis.call('ZREM', tight_of(length), member)
    redis.call('ZADD', LOOSE, text(time), member)
  end
  return held, math.max(0, amount - sum)
end

local cells = {}
for first = FIRST_CELL, #ARGV, CELL_ARGUMENTS do
  local numbers = {}
  for offset = 1, CELL_ARGUMENTS - 1 do
    numbers[offset] = tonumber(ARGV[first + offset])
  end
  local held, left = answer_cell(ARGV[first], unpack(numbers))
  cells[#cells + 1] = held
  cells[#cells + 1] = left
end

-- News

local news, tight, loose = {}, {}, {}
local upto = time

local function tell(key, list)
  local found = redis.call('ZRANGEBYSCORE', key, '(' .. text(heard), '+inf', 'WITHSCORES', 'LIMIT', 0, NEWS_MAX)
  for position = 1, #found, 2 do
    list[#list + 1] = found[position]
  end
  if #found == 2 * NEWS_MAX then
    upto = math.min(upto, tonumber(found[#found]) - 1)
  end
end

if heard then
  local joined = tonumber(redis.call('HGET', JOINED, proxy) or '0')
  local lowest = redis.call('ZRANGE', TOLD, 0, 1, 'WITHSCORES')
  local other = lowest[1] == proxy and lowest[4] or lowest[2]
  if lowest[1] == proxy and not lowest[3] then
    other = nil
  end
  local known_to_all = not other or tonumber(other) >= joined
  for _, length in ipairs(redis.call('SMEMBERS', LENGTHS)) do
    local key = tight_of(tonumber(length))
    if tonumber(length) > 0 then
      -- Of windows that are over nobody needs to hear.
      redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. text(time - 3000 * tonumber(length)))
    end
    tell(key, tight)
    redis.call('PEXPIRE', key, KEPT)
  end
  tell(LOOSE, loose)
  -- Who shares already goes on, by the number that holds now.
  local shares = known > 0 or (known_to_all and not lost_lately)
  news = {shares and count or 0, upto}
  for _, key in ipairs({STATE, TOLD, JOINED, NUMBER, LENGTHS, LOOSE}) do
    redis.call('PEXPIRE', key, KEPT)
  end
elseif beat == 'leave' then
  remove(proxy)
end

local fields = {}
for _, field in ipairs(FIELDS) do
  fields[#fields + 1] = field
  fields[#fields + 1] = field == 'run' and state.run or text(state[field])
end
redis.call('HSET', STATE, unpack(fields))
return {time, math.max(state.lost, state.changed), cells, news, tight, loose}
